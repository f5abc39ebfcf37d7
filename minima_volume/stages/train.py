"""Notebook 1: train one model a level (or a series on one data set) and save each with what reproducing needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from tqdm.auto import tqdm

from minima_volume.data import Dataset, load_dataset, make_dataset, save_dataset
from minima_volume.data.dataset import extended_dataset, stored_dataset
from minima_volume.errors import DamagedFileError, MissingStageError, StaleError
from minima_volume.execution.device import threads, usable_device
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import hash_arrays, read_pt
from minima_volume.files.content import interpreted
from minima_volume.files.lock import under_lock
from minima_volume.files.user_code import code_allowed
from minima_volume.hosts.doors import evaluation_host, fit_to
from minima_volume.isolation import own_defaults
from minima_volume.losses.loss import get_loss
from minima_volume.models import build_model
from minima_volume.models.stand_in import stand_in
from minima_volume.stages.minimum import (
    TrainTask,
    data_level,
    num_outputs,
    train_minimum,
    train_settings,
    training_seconds,
)
from minima_volume.stages.provenance import require_same
from minima_volume.stages.run import MODEL_PREFIXES, WHICH_MINIMA, Run, minimum_name, read_run
from minima_volume.training.loop import History, evaluating

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
                listed = WHICH_MINIMA[variation][0]
                section, key = listed.split(".")
                values = getattr(getattr(run.config, section), key)
                way_out = (
                    WAY_OUT
                    if variation != run.config.variation
                    else "Set it back, or delete this file; the others stay."
                )
                raise StaleError(f"{path}: {listed} {values} does not have this one. {way_out}")


@under_lock
@own_defaults()
def prepare_data(run: Run) -> Dataset:
    """The run's samples: read when they are stored, else drawn and stored, with their size said first.

    Where levels were added since, the samples that are missing are drawn; those that are there stay as they are. Where `data.store` has
    become `full` since, a dataset.pt without samples gets them: how samples are kept decides no number.

    Raises:
        StaleError: they were made with other settings, or cannot be extended.
    """
    check_trained_settings(run)
    if not run.dataset_file.is_file():
        return _stored(run, make_dataset(run.config, run.folder))
    content = read_pt(run.dataset_file)
    with interpreted(run.dataset_file):
        stored = content["settings"]["store"]
    made_with = {"data": content["settings"], "seeds": {"data": content.get("data_seed")}}
    wanted = {"data": run.config.data.model_dump(exclude={"levels", "store"}), "seeds": {"data": run.config.data_seed}}
    require_same(made_with, wanted, run.dataset_file, WAY_OUT)
    whole = run.config.data.store != "full" or stored == "full"
    if whole and content.get("dataset_quantities") == run.config.data.levels:
        return load_dataset(run.dataset_file, run.config, run.folder)
    return _stored(run, _with_other_levels(run))


def _with_other_levels(run: Run) -> Dataset:
    """The stored samples, extended where the largest level needs more."""
    stored, levels = stored_dataset(run.dataset_file, run.config, run.folder), tuple(run.config.data.levels)
    if levels[-1] <= len(stored.x_additional):
        return replace(stored, levels=levels)
    if not any(run.model_file(minimum).is_file() for minimum in run.config.minima):
        return make_dataset(run.config, run.folder)  # nothing goes by those that are there
    try:
        return extended_dataset(stored, run.config, run.folder)
    except StaleError as error:
        raise StaleError(f"{run.dataset_file}: {error}. {WAY_OUT}") from error


def _stored(run: Run, dataset: Dataset) -> Dataset:
    """Write dataset.pt."""
    # before anything is written: a model that cannot be built must not leave samples behind
    build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
    save_dataset(dataset, run.dataset_file, run.config)
    return dataset


@under_lock
@own_defaults()
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
    usable_device(run.config)  # one that is absent is said here, not by a worker
    tasks = _trainings(run, dataset)
    workers = usable_workers(run.config, math.inf) if len(tasks) > 1 else 1
    if workers > 1:
        workers = min(len(tasks), usable_workers(run.config, training_seconds(tasks, dataset)))
    with tqdm(total=sum(task.settings.epochs for task in tasks), unit="epoch", disable=not progress) as bar:
        if workers == 1:
            _train_here(tasks, dataset, bar)
        else:
            _train_on(tasks, workers, bar)
    trained = load_models_and_data(run)
    for note in (*missed_targets(run, trained), *model_notes(run, trained)):
        print(note)
    return trained


def model_notes(run: Run, trained: Trained) -> list[str]:
    """What a reader must know about a model of one's own: which axis counts classes, what is emptied before each pass."""
    model, dataset = trained.models[run.config.minima[-1]], trained.dataset
    host = evaluation_host(model, dataset.x_train)
    with evaluating(model):
        fitted = fit_to(host, dataset.x_train, dataset.y_train, get_loss(run.config.training.loss))
    return [f"{type(model).__name__}: {note}" for note in (*host.notes, fitted.note) if note]


def missed_targets(run: Run, trained: Trained) -> list[str]:
    """A line for each training that ended above `target_loss`: such minima are not compared at equal loss."""
    target = run.config.training.target_loss
    if target is None:
        return []
    losses = {minimum: record["train_loss"] for minimum, record in trained.records.items()}
    return [
        f"{minimum_name(minimum, run.config.variation)}: after {len(loss)} epochs the training loss is {loss[-1]:.3g}, above "
        f"training.target_loss {target:g}; raise training.epochs"
        for minimum, loss in losses.items()
        if loss[-1] > target
    ]


def _trainings(run: Run, dataset: Dataset) -> list[TrainTask]:
    """What is missing: a training for each minimum, or one for all of a series over epochs."""
    config = run.config
    missing = [minimum for minimum in config.minima if not run.model_file(minimum).is_file()]
    groups = [(minimum,) for minimum in missing] if config.variation != "epoch" else [tuple(missing)] if missing else []
    sizes = {minimum: dataset.base_size + config.level_of(minimum) for minimum in missing}
    return [TrainTask(run.folder, config, group[-1], group, sizes[group[-1]]) for group in groups]


def _train_here(tasks: Sequence[TrainTask], dataset: Dataset, bar: tqdm[Any]) -> None:
    """One after the other, in this process."""

    def each_epoch(epoch: int, history: History) -> None:
        bar.update()
        bar.set_postfix_str(f"test loss {history.test_loss[-1]:.3g}", refresh=False)

    end = bar.n
    for task in tasks:
        bar.set_description(f"training {task.name}")
        with threads(task.config.experiment.threads):
            train_minimum(task, dataset, each_epoch)
        end += task.settings.epochs
        bar.update(end - bar.n)  # of epochs that target_loss made needless


def _train_on(tasks: Sequence[TrainTask], workers: int, bar: tqdm[Any]) -> None:
    """The same on other processes, the longest first: none should be left with it at the end."""
    for task, _ in run_tasks(train_minimum, sorted(tasks, key=lambda task: -task.size), workers):
        bar.update(task.settings.epochs)
        bar.set_description(f"trained {task.name}")


@own_defaults()
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
    models, records = {}, {}
    for minimum in run.config.minima:
        record = _read_record(run, minimum)
        level = data_level(record)
        if level > len(dataset.x_additional) or record["data_hash"] != dataset.hash(level):
            raise StaleError(
                f"{run.model_file(minimum)} was trained on other samples than {run.dataset_file.name} holds. {WAY_OUT}"
            )
        if code_allowed() or ":" not in run.config.model.name:
            model = build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
        else:
            with interpreted(run.model_file(minimum)):
                model = stand_in(record["state_dict"])
        try:
            with interpreted(run.model_file(minimum)):
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
    with interpreted(path):
        same = hash_arrays(record["state_dict"]) == record["weights_hash"]
        data_level(record), record["data_hash"], record["train_loss"][-1], record["test_loss"][record["epoch"] - 1]
        record["test_accs"][record["epoch"] - 1], record["settings"]["training"].keys()
    if not same:
        raise DamagedFileError(f"{path}: the weights do not match their hash; delete it and train again")
    return record
