"""Notebook 1: train one model a level (or a series on one data set) and save each with what reproducing needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tqdm.auto import tqdm

from minima_volume.data import Dataset, load_dataset, make_dataset, save_dataset
from minima_volume.data.dataset import extended_dataset, stored_dataset
from minima_volume.errors import StaleError
from minima_volume.execution.device import threads, usable_device
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import read_pt
from minima_volume.files.content import interpreted, settings_of
from minima_volume.files.lock import under_lock
from minima_volume.hosts.doors import evaluation_host, fit_to
from minima_volume.isolation import own_defaults
from minima_volume.losses.registry import get_loss
from minima_volume.models import build_model
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.repeated_numbers import repeated_numbers_note
from minima_volume.stages.freshness import TRAIN_AGAIN, data_settings, require_same
from minima_volume.stages.minimum import TrainTask, num_outputs, train_minimum, training_seconds
from minima_volume.stages.run import Run, minimum_name
from minima_volume.stages.sweep import sweep_seeds
from minima_volume.stages.trained import Trained, check_trained_settings, load_models_and_data
from minima_volume.stages.training_memory import trainings_at_once
from minima_volume.training.evaluation import evaluating
from minima_volume.training.supervised import History


@under_lock
@own_defaults()
def prepare_data(run: Run) -> Dataset:
    """The run's samples: read if they are stored, else drawn, reported in size, and stored.

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
        stored = settings_of(content)["store"]
    made_with = {"data": content["settings"], "seeds": {"data": content.get("data_seed")}}
    require_same(made_with, data_settings(run.config), run.dataset_file, TRAIN_AGAIN)
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
        raise StaleError(f"{run.dataset_file}: {error}. {TRAIN_AGAIN}") from error


def _stored(run: Run, dataset: Dataset) -> Dataset:
    """Write dataset.pt."""
    # before anything is written: a model or loss that cannot be built must not leave samples behind
    build_model(run.config, dataset.x_base_train.shape[1:], num_outputs(dataset), run.folder)
    get_loss(run.config.training.loss, run.folder)
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
        ConfigError: a step of the training does not fit `execution.memory_gib`.
    """
    dataset = prepare_data(run)
    usable_device(run.config)  # report an absent device here, not from a worker
    tasks = _trainings(run, dataset)
    workers = trainings_at_once(tasks, dataset) if tasks else 1
    workers = min(workers, usable_workers(run.config, math.inf) if len(tasks) > 1 else 1)
    if workers > 1:
        workers = min(len(tasks), workers, usable_workers(run.config, training_seconds(tasks, dataset)))
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
    """Notes about a user's own model: which axis counts classes, what is emptied before each pass, whose random numbers it repeats."""
    model, dataset, seeds = trained.models[run.config.minima[-1]], trained.dataset, sweep_seeds(run)
    host = evaluation_host(model, dataset.x_train)
    with evaluating(model):
        fitted = fit_to(host, dataset.x_train, dataset.y_train, run.loss)
    perturbation = run.config.perturbation
    directions = Directions.of(model, perturbation.scaling, perturbation.names)
    repeated = repeated_numbers_note(directions, seeds, dataset.x_train)
    return [f"{type(model).__name__}: {note}" for note in (*host.notes, fitted.note, repeated) if note]


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
