"""Notebook 1: train one model a level (or a series on one data set) and save each with what reproducing needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minima_volume.config import Config, Training
from minima_volume.data import Dataset, load_dataset, make_dataset, save_dataset
from minima_volume.errors import DamagedFileError, MissingStageError, StaleError
from minima_volume.files import hash_arrays, read_pt, write_pt
from minima_volume.layout import MODEL_PREFIXES, Run, read_run
from minima_volume.models import build_model
from minima_volume.provenance import provenance, require_same, threads, usable_device
from minima_volume.training.loop import History, make_optimizer, train_model
from minima_volume.training.second_moments import adam_second_moments

SERIES = {"level": "data.levels", "epoch": "training.checkpoints", "batch_size": "training.batch_sizes"}
WAY_OUT = "Set it back, or remove the run's models (`minima-volume clean RUN --what models`) and train again."


class Trained(NamedTuple):
    """What `load_models_and_data` gives back.

    Attributes:
        models: minimum -> model in evaluation mode, on the CPU; a minimum is named by its value of the run's variation: its
            level as a rule, its epoch or batch size in series on one data set.
        dataset: the samples.
        records: minimum -> everything else the model's file holds (histories, settings, hashes).
    """

    models: dict[int, nn.Module]
    dataset: Dataset
    records: dict[int, dict[str, Any]]


def train_settings(run: Run) -> dict[str, Any]:
    """The settings that decide the weights of a run's models."""
    config = run.config
    return {
        "seeds": {"model": config.model_seed, "data": config.data_seed},
        "data": config.data.model_dump(exclude={"store"}),
        "model": config.model.model_dump(),
        "training": config.training.model_dump(),
        "checkpoint": config.checkpoint.model_dump(),
        "experiment": {"threads": config.experiment.threads, "device": config.experiment.device},
    }


def check_trained_settings(run: Run) -> None:
    """Refuse settings that differ from those the run's existing models were made with.

    Raises:
        StaleError: names the setting, its two values and the way out.
    """
    for minimum in run.config.minima:
        path = run.model_file(minimum)
        if path.is_file():
            require_same(_read_record(run, minimum)["settings"], train_settings(run), path, WAY_OUT)
    known = {run.model_file(minimum) for minimum in run.config.minima}
    for variation, prefix in MODEL_PREFIXES.items():
        for path in run.models.glob(f"{prefix}*.pt"):
            if path.stem.removeprefix(prefix).isdigit() and path not in known:
                section, key = SERIES[variation].split(".")
                values = getattr(getattr(run.config, section), key)
                raise StaleError(f"{path}: {SERIES[variation]} {values} does not have this one. {WAY_OUT}")


def prepare_data(run: Run) -> Dataset:
    """The run's samples: read when they are stored, else drawn and stored, with their size said first."""
    check_trained_settings(run)
    if run.dataset_file.is_file():
        stored = read_pt(run.dataset_file)
        made_with = {"data": stored.get("settings", {}), "seeds": {"data": stored.get("data_seed")}}
        wanted = {"data": run.config.data.model_dump(), "seeds": {"data": run.config.data_seed}}
        require_same(made_with, wanted, run.dataset_file, WAY_OUT)
        return load_dataset(run.dataset_file, run.config, run.folder)
    dataset = make_dataset(run.config, run.folder)
    # before anything is written: a model that cannot be built must not leave samples behind
    build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
    if run.config.data.store == "full":
        free = shutil.disk_usage(next(p for p in (run.output, *run.output.resolve().parents) if p.exists())).free
        print(f"dataset.pt will take {dataset.nbytes() / 1e6:.1f} MB ({free / 1e9:.0f} GB free)")
    save_dataset(dataset, run.dataset_file, run.config)
    return dataset


def train_models(run: Run, *, progress: bool = True) -> Trained:
    """Train the models that are missing, one a level (or batch size), each from the same initial weights.

    A series over epochs is one training whose weights are saved at each checkpoint.

    Args:
        run: the run folder and its configuration.
        progress: show a progress bar.

    Returns:
        All models of the run.

    Raises:
        StaleError: models or samples in the folder were made with other settings.
    """
    dataset = prepare_data(run)
    device = usable_device(run.config)
    config = run.config
    missing = [minimum for minimum in config.minima if not run.model_file(minimum).is_file()]
    trainings = missing[-1:] if config.variation == "epoch" else missing
    epochs = sum(settings_of(config, minimum).epochs for minimum in trainings)
    with threads(config.experiment.threads), tqdm(total=epochs, unit="epoch", disable=not progress) as bar:
        for minimum in trainings:
            bar.set_description(f"training {config.variation.replace('_', ' ')} {minimum}")
            _train(run, dataset, minimum, missing, device, bar)
    return load_models_and_data(run)


def settings_of(config: Config, minimum: int) -> Training:
    """The training settings of one minimum: its batch size, or the epochs up to it."""
    if config.variation == "batch_size":
        return config.training.model_copy(update={"batch_size": minimum})
    return config.training.model_copy(update={"epochs": minimum} if config.variation == "epoch" else {})


def _train(run: Run, dataset: Dataset, minimum: int, missing: list[int], device: torch.device, bar: Any) -> None:
    """Train one minimum and save it; in a series over epochs the missing ones before it, too."""
    config, settings = run.config, settings_of(run.config, minimum)
    size = dataset.base_size + config.level_of(minimum)
    train = dataset.x_train[:size].to(device), dataset.y_train[:size].to(device)
    test = dataset.x_test.to(device), dataset.y_test.to(device)
    model = build_model(config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder).to(device)
    optimizer = make_optimizer(model, settings)
    strategy = config.checkpoint.save_strategy
    best: tuple[float, int, State] | None = None

    def on_epoch(epoch: int, history: History) -> None:
        nonlocal best
        bar.update()
        bar.set_postfix_str(f"test loss {history.test_loss[-1]:.3g}", refresh=False)
        if strategy == "best" and (best is None or history.test_loss[-1] < best[0]):
            best = history.test_loss[-1], epoch, State.of(model, optimizer)
        if strategy == "all":
            write_pt(run.epoch_file(minimum, epoch), {"state_dict": weights(model), "epoch": epoch})
        if config.variation == "epoch" and epoch in missing:
            _save(run, dataset, epoch, model, State.of(model, optimizer), epoch, history)

    history = train_model(model, train, test, settings, config.model_seed, on_epoch, optimizer)
    if config.variation == "epoch":
        return
    last = len(history.test_loss)
    bar.update(settings.epochs - last)
    state, epoch = (best[2], best[1]) if best is not None else (State.of(model, optimizer), last)
    target = settings.target_loss
    if target is not None and history.train_loss[-1] > target:
        print(
            f"{config.variation.replace('_', ' ')} {minimum}: after {last} epochs the training loss is "
            f"{history.train_loss[-1]:.3g}, above training.target_loss {target:g}; raise training.epochs"
        )
    _save(run, dataset, minimum, model, state, epoch, history)


def _save(
    run: Run, dataset: Dataset, minimum: int, model: nn.Module, state: State, epoch: int, history: History
) -> None:
    """Write one model's file: weights after `epoch`, and what is known of their training."""
    config, level = run.config, run.config.level_of(minimum)
    write_pt(
        run.model_file(minimum),
        {
            "state_dict": state.weights,
            "exp_avg_sq": state.second_moments,
            "train_loss": list(history.train_loss),
            "test_loss": list(history.test_loss),
            "train_accs": list(history.train_accs),
            "test_accs": list(history.test_accs),
            "additional_data": level,
            "dataset_type": dataset.dataset_type,
            "model_class": type(model).__name__,
            "variation": config.variation,
            "epoch": epoch,
            "batch_size": settings_of(config, minimum).batch_size,
            "train_size": dataset.base_size + level,
            "model_seed": config.model_seed,
            "data_seed": config.data_seed,
            "weights_hash": hash_arrays(state.weights),
            "data_hash": dataset.hash(),
            "settings": train_settings(run),
            "provenance": provenance(config),
        },
    )


class State(NamedTuple):
    """Weights, and Adam's second moments at the same step ({} with another optimiser)."""

    weights: dict[str, Tensor]
    second_moments: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """As they are now, copies on the CPU."""
        return cls(weights(model), adam_second_moments(model, optimizer))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def num_outputs(dataset: Dataset) -> int:
    """Outputs a model needs: the width of vector targets, else the number of classes (or of tokens)."""
    y = dataset.y_test
    return y.shape[1] if y.ndim > 1 and y.is_floating_point() else dataset.num_classes


def load_models_and_data(run: Run | str | Path) -> Trained:
    """Load the samples and rebuild every model of a run from its weights.

    Args:
        run: the run folder, or the run that `minima_volume.open_run(folder)` gave.

    Raises:
        MissingStageError: notebook 1 has not been run, or a model is missing.
        StaleError: the models were made with other settings or other samples.
    """
    run = run if isinstance(run, Run) else read_run(run)
    check_trained_settings(run)
    dataset = load_dataset(run.dataset_file, run.config, run.folder)
    data_hash = dataset.hash()
    models, records = {}, {}
    for minimum in run.config.minima:
        record = _read_record(run, minimum)
        if record["data_hash"] != data_hash:
            raise StaleError(
                f"{run.model_file(minimum)} was trained on other samples than {run.dataset_file.name} holds. {WAY_OUT}"
            )
        model = build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
        try:
            model.load_state_dict(record.pop("state_dict"))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise StaleError(
                f"{run.model_file(minimum)} does not fit model {run.config.model.name!r}: {reason}. {WAY_OUT}"
            ) from error
        models[minimum] = model.eval()
        records[minimum] = record
    return Trained(models, dataset, records)


def _read_record(run: Run, minimum: int) -> dict[str, Any]:
    path = run.model_file(minimum)
    if not path.is_file():
        raise MissingStageError(
            f"{path} does not exist: run 'Train Low Test Models.ipynb' (`minima-volume run --stage train`) first"
        )
    record = read_pt(path)
    if "settings" not in record or "state_dict" not in record:
        raise DamagedFileError(f"{path} lacks 'settings' or 'state_dict': it was not written by this package")
    if hash_arrays(record["state_dict"]) != record["weights_hash"]:
        raise DamagedFileError(f"{path}: the weights do not match their hash; delete it and train again")
    return record
