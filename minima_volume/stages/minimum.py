"""One minimum: its training, and the file that keeps its weights with what reproducing them needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minima_volume.config.run import Config
from minima_volume.config.sections import Training
from minima_volume.data import Dataset, load_dataset
from minima_volume.execution.device import threads, usable_device
from minima_volume.files.atomic import hash_arrays, write_pt
from minima_volume.files.boundary import entered
from minima_volume.isolation import own_defaults
from minima_volume.models import build_model
from minima_volume.seeding import own_randomness
from minima_volume.stages.freshness import weights_settings
from minima_volume.stages.provenance import provenance
from minima_volume.stages.run import Run
from minima_volume.training.checkpoint import weights
from minima_volume.training.evaluation import evaluate
from minima_volume.training.second_moments import adam_second_moments
from minima_volume.training.supervised import History, OnEpoch, make_optimizer, train_model


@dataclass(frozen=True)
class TrainTask:
    """One training.

    Attributes:
        folder: the run folder.
        config: its configuration.
        minimum: what is trained: its value of the variation.
        kept: the minima whose files are written: this one, or in a series over epochs all that are missing on the way.
        size: training samples.
    """

    folder: Path
    config: Config
    minimum: int
    kept: tuple[int, ...]
    size: int

    @property
    def run(self) -> Run:
        return Run(self.folder, self.config)

    @property
    def settings(self) -> Training:
        return settings_of(self.config, self.minimum)

    @property
    def name(self) -> str:
        return f"{self.config.variation.replace('_', ' ')} {self.minimum}"


def settings_of(config: Config, minimum: int) -> Training:
    """The training settings of one minimum: its batch size, or the epochs up to it."""
    if config.variation == "batch_size":
        return config.training.model_copy(update={"batch_size": minimum})
    return config.training.model_copy(update={"epochs": minimum} if config.variation == "epoch" else {})


@own_defaults()
def train_minimum(
    task: TrainTask, dataset: Dataset | None = None, each_epoch: OnEpoch = lambda epoch, history: None
) -> None:
    """Train one minimum and write its file; in a series over epochs those before it, too.

    Args:
        task: what to train.
        dataset: the run's samples; read from its folder when None.
        each_epoch: called with the epoch and the history so far.
    """
    with entered(task.folder):
        _train_minimum(task, dataset, each_epoch)


def _train_minimum(task: TrainTask, dataset: Dataset | None, each_epoch: OnEpoch) -> None:
    run, config, settings = task.run, task.config, task.settings
    dataset = load_dataset(run.dataset_file, config, run.folder) if dataset is None else dataset
    device = usable_device(config)
    model, train, test = on_device(task, dataset, device)
    optimizer = make_optimizer(model, settings)
    strategy = config.checkpoint.save_strategy
    best: tuple[float, int, KeptWeights] | None = None

    def on_epoch(epoch: int, history: History) -> None:
        nonlocal best
        each_epoch(epoch, history)
        if strategy == "best" and (best is None or history.test_loss[-1] < best[0]):
            best = history.test_loss[-1], epoch, KeptWeights.of(model, optimizer)
        if strategy == "all":
            write_pt(run.epoch_file(task.minimum, epoch), {"state_dict": weights(model), "epoch": epoch})
        if config.variation == "epoch" and epoch in task.kept:
            _save(run, dataset, epoch, model, KeptWeights.of(model, optimizer), epoch, history)

    with own_randomness(config.model_seed, device):
        history = train_model(model, train, test, settings, config.model_seed, on_epoch, optimizer, run.loss)
    if config.variation != "epoch":
        last = len(history.test_loss)
        state, epoch = (best[2], best[1]) if best is not None else (KeptWeights.of(model, optimizer), last)
        _save(run, dataset, task.minimum, model, state, epoch, history)


def training_seconds(tasks: Sequence[TrainTask], dataset: Dataset) -> float:
    """About how long trainings take one after the other: a step and a test evaluation of the largest one are timed."""
    largest = max(tasks, key=lambda task: task.size)
    batch = min(largest.settings.batch_size or largest.size, largest.size)
    one_step = largest.settings.model_copy(update={"epochs": 1, "checkpoints": None, "batch_size": None})
    device = usable_device(largest.config)
    with threads(largest.config.experiment.threads):
        model, (x, y), test = on_device(largest, dataset, device)
        for _ in range(2):  # the first warms up
            start = time.perf_counter()
            with own_randomness(largest.config.model_seed, device):
                train_model(
                    model,
                    (x[:batch], y[:batch]),
                    (x[:2], y[:2]),
                    one_step,
                    largest.config.model_seed,
                    loss=largest.run.loss,
                )
            stepped = time.perf_counter()
            evaluate(model, test, largest.run.loss)
            step, evaluation = stepped - start, time.perf_counter() - stepped
    return sum(task.settings.epochs * (step * task.size / batch + evaluation) for task in tasks)


def on_device(
    task: TrainTask, dataset: Dataset, device: torch.device
) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The untrained model, its training samples and the test set."""
    model = build_model(task.config, dataset.x_base_train.shape[1:], num_outputs(dataset), task.folder).to(device)
    train = dataset.x_train[: task.size].to(device), dataset.y_train[: task.size].to(device)
    return model, train, (dataset.x_test.to(device), dataset.y_test.to(device))


def _save(
    run: Run, dataset: Dataset, minimum: int, model: nn.Module, state: KeptWeights, epoch: int, history: History
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
            "data_hash": dataset.hash(level),
            "settings": weights_settings(run.config),
            "provenance": provenance(config),
        },
    )


class KeptWeights(NamedTuple):
    """Weights, and Adam's second moments at the same step ({} with another optimiser)."""

    weights: dict[str, Tensor]
    second_moments: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, optimizer: torch.optim.Optimizer) -> KeptWeights:
        """As they are now, copies on the CPU."""
        return cls(weights(model), adam_second_moments(model, optimizer))


def num_outputs(dataset: Dataset) -> int:
    """Outputs a model needs: the width of vector targets, else the number of classes (or of tokens)."""
    y = dataset.y_test
    return y.shape[1] if y.ndim > 1 and y.is_floating_point() else dataset.num_classes
