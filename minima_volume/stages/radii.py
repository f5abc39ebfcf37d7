"""Notebook 3: radii and volumes of every minimum at the chosen thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from minima_volume.config.run import Config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import read_json, write_json
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.curves import Curves
from minima_volume.stages.freshness import is_current, kept_radii, present_fingerprint
from minima_volume.stages.results.content import Minimum, write_results
from minima_volume.stages.results.format import upgraded
from minima_volume.stages.run import Run
from minima_volume.stages.shards import Shard, shards
from minima_volume.stages.sweep import landscapes_of, sweep_seeds
from minima_volume.stages.sweep_files import (
    Sweep,
    read_sweep,
    require_current,
    write_sweep,
)
from minima_volume.stages.train import Trained, load_models_and_data
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import Radii, find_radii

# a guess good enough to decide whether worker processes pay
PASSES_PER_RADIUS, MULTIPLY_ADDS_PER_SECOND = 5, 1e10


@dataclass(frozen=True)
class RadiiTask:
    """Find the radii of one shard of directions in several landscapes and at several thresholds."""

    shard: Shard
    curves: Curves
    sizes: list[int]
    conditions: list[Condition]

    @property
    def config(self) -> Config:
        return self.shard.config


RadiiResult = tuple[dict[tuple[int, Condition], Radii], Curves]


@own_defaults()
def radii_task(task: RadiiTask) -> RadiiResult:
    """Do one task; the curves come back continued where a threshold lay above the sweep's ceiling."""
    config = task.config
    return find_radii(
        task.shard.engine(),
        task.curves,
        task.sizes,
        task.conditions,
        max_coefficient=config.perturbation.max_coefficient,
        tolerance=config.volume.radius_tolerance,
    )


@under_lock
@own_defaults()
def estimate_volumes(
    run: Run,
    trained: Trained | None = None,
    *,
    landscapes: Sequence[int] | None = None,
    progress: bool = True,
) -> list[Path]:
    """Measure the radii of every minimum at every configured threshold and write data_<landscape>/loss_<t>/results.json.

    What is already there, made from the same weights, data and settings, is left alone: also the radii of single minima, where levels
    were added or removed since. A file of an older format is written in today's, and nothing is measured again.

    Args:
        run: the run.
        trained: its models and samples; loaded when None.
        landscapes: levels of the landscapes; all by default.
        progress: show a progress bar.

    Returns:
        The results.json files, by landscape, then threshold.

    Raises:
        MissingStageError: an earlier notebook has not been run.
        StaleError: a sweep is older than its model, or was made with other settings.
    """
    trained = load_models_and_data(run) if trained is None else trained
    levels = run.config.data.levels
    chosen = levels if landscapes is None else sorted(landscapes)
    if unknown := set(chosen) - set(levels):
        raise ConfigError(f"landscapes {sorted(unknown)} are not among data.levels {levels}")
    sweeps = read_sweeps(run, trained, chosen)
    wanted = [
        (landscape, threshold)
        for landscape in chosen
        for threshold in run.config.volume.loss_thresholds
        if not is_current(run, trained, landscape, threshold)
    ]
    if wanted:
        kept = {place: kept_radii(run, trained, sweeps, *place) for place in wanted}
        missing = {
            level: [place for place in wanted if (place[0], level) in sweeps and level not in kept[place]]
            for level in trained.models
        }
        measured = _measure(run, trained, sweeps, missing, progress)
        for landscape, threshold in wanted:
            radii = kept[landscape, threshold] | {
                level: [measured[landscape, level, condition] for condition in conditions_of(run, threshold)]
                for level in trained.models
                if (landscape, threshold) in missing[level]
            }
            minima = _minima(run, trained, sweeps, radii, landscape)
            targets = trained.dataset.y_train[: trained.dataset.base_size + landscape]
            mark = present_fingerprint(run, trained, landscape, threshold)
            write_results(run, landscape, threshold, minima, targets, mark)
    files = [
        run.results_file(landscape, threshold)
        for landscape in chosen
        for threshold in run.config.volume.loss_thresholds
    ]
    for path in files:
        stored = read_json(path)
        if (content := upgraded(stored)) != stored:
            write_json(path, content)
    return files


def read_sweeps(run: Run, trained: Trained, landscapes: Sequence[int]) -> dict[tuple[int, int], Sweep]:
    """The sweeps of the chosen landscapes, cut to the run's directions and checked to belong to its models."""
    seeds, found = np.array(sweep_seeds(run)), {}
    for landscape, level in run.pairs():
        if landscape not in landscapes:
            continue
        path = run.sweep_file(landscape, level)
        sweep = read_sweep(path)
        require_current(sweep.metadata, run, path, trained, level)
        have = np.isin(seeds, sweep.perturbation_seed)
        if not have.all():
            raise MissingStageError(
                f"{path} has {int(have.sum())} of the {len(seeds)} directions that perturbation.num_directions asks for: "
                "run 'Random Perturbs.ipynb' (`minima-volume run --stage perturb`) to add the others"
            )
        found[landscape, level] = sweep
    return found


def _measure(
    run: Run,
    trained: Trained,
    sweeps: dict[tuple[int, int], Sweep],
    missing: dict[int, list[tuple[int, float]]],
    progress: bool,
) -> dict[tuple[int, int, Condition], Radii]:
    """Radii for each (landscape, level, condition), of the landscapes and thresholds that each level misses."""
    seeds = sweep_seeds(run)
    samples = sum(
        len(conditions_of(run, threshold)) * (trained.dataset.base_size + landscape)
        for places in missing.values()
        for landscape, threshold in places
    )
    if not samples:
        return {}
    num_params = next(iter(sweeps.values())).metadata["num_params"]
    work = PASSES_PER_RADIUS * len(seeds) * samples * num_params
    workers = usable_workers(run.config, work / MULTIPLY_ADDS_PER_SECOND)
    tasks = [task for level in missing for task in _tasks(run, trained, sweeps, missing[level], level, seeds, workers)]
    parts: dict[tuple[int, int, Condition], list[Radii]] = {}
    with tqdm(
        total=sum(len(task.shard.seeds) for task in tasks),
        unit="direction",
        disable=not progress,
        desc="radii",
    ) as bar:
        for task, (found, curves) in run_tasks(radii_task, tasks, workers):
            level = task.shard.level
            for (size, condition), radii in found.items():
                parts.setdefault((size - trained.dataset.base_size, level, condition), []).append(radii)
            _keep_continued(run, sweeps, task, curves, trained.dataset.base_size)
            bar.update(len(task.shard.seeds))
    _write_continued(run, sweeps)
    return {key: _join(group) for key, group in parts.items()}


def _tasks(
    run: Run,
    trained: Trained,
    sweeps: dict[tuple[int, int], Sweep],
    missing: list[tuple[int, float]],
    level: int,
    seeds: list[int],
    workers: int,
) -> Iterator[RadiiTask]:
    here = sorted({landscape for landscape, _ in missing})
    if not here:
        return
    conditions = [
        condition for threshold in dict.fromkeys(t for _, t in missing) for condition in conditions_of(run, threshold)
    ]
    base = trained.dataset.base_size
    for shard in shards(run, trained, level, seeds, workers):
        yield RadiiTask(
            shard,
            _curves(run, sweeps, level, shard.seeds),
            [base + landscape for landscape in here],
            conditions,
        )


def _curves(run: Run, sweeps: dict[tuple[int, int], Sweep], level: int, seeds: Sequence[int]) -> Curves:
    """The stored curves of a shard in all landscapes of its model; landscapes that were not read are unknown (NaN)."""
    known = {landscape: sweep for (landscape, other), sweep in sweeps.items() if other == level}
    any_sweep = next(iter(known.values()))
    shape = len(seeds), len(any_sweep.coefficients)
    loss, accs = [], []
    for landscape in landscapes_of(run, level):
        sweep = known.get(landscape)
        if sweep is None:
            loss.append(np.full(shape, np.nan))
            accs.append(np.full(shape, np.nan))
        else:
            rows = np.searchsorted(sweep.perturbation_seed, seeds)
            loss.append(sweep.loss[rows])
            accs.append(sweep.accs[rows])
    norms = any_sweep.perturbation_norm[np.searchsorted(any_sweep.perturbation_seed, seeds)]
    return Curves(any_sweep.coefficients, np.stack(loss), np.stack(accs), np.array(seeds), norms)


def _keep_continued(run: Run, sweeps: dict[tuple[int, int], Sweep], task: RadiiTask, curves: Curves, base: int) -> None:
    """Put curves that went on past the sweep's ceiling into the sweeps in memory; `_write_continued` writes those that changed."""
    level = task.shard.level
    for k, landscape in enumerate(landscapes_of(run, level)):
        if base + landscape not in task.sizes:
            continue
        known = ~np.isnan(curves.loss[k])
        if not (known & np.isnan(task.curves.loss[k])).any():
            continue
        sweep = sweeps[landscape, level]
        rows = np.searchsorted(sweep.perturbation_seed, task.shard.seeds)
        loss, accs = sweep.loss.copy(), sweep.accs.copy()
        loss[rows], accs[rows] = curves.loss[k], curves.accs[k]
        sweeps[landscape, level] = replace(sweep, loss=loss, accs=accs, metadata=sweep.metadata | {"continued": True})


def _write_continued(run: Run, sweeps: dict[tuple[int, int], Sweep]) -> None:
    for (landscape, level), sweep in sweeps.items():
        if sweep.metadata.pop("continued", False):
            write_sweep(run.sweep_file(landscape, level), sweep)


def _join(parts: list[Radii]) -> Radii:
    """The radii of all shards, ordered by seed."""
    order = np.argsort(np.concatenate([part.seeds for part in parts]))
    names = ("coefficient", "radius", "censored", "reentered", "seeds")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return replace(parts[0], **joined)


def conditions_of(run: Run, threshold: float) -> list[Condition]:
    """The loss condition of a threshold, and the accuracy condition paired with it."""
    accuracy = run.config.volume.accuracy_for(threshold)
    pair = [Condition("loss", threshold)]
    return pair if accuracy is None else [*pair, Condition("accuracy", accuracy)]


def _minima(
    run: Run,
    trained: Trained,
    sweeps: dict[tuple[int, int], Sweep],
    radii: dict[int, list[Radii]],
    landscape: int,
) -> list[Minimum]:
    minima = []
    for level in sorted(radii):
        sweep, record, found = sweeps[landscape, level], trained.records[level], radii[level]
        parameters, left_out = dict(trained.models[level].named_parameters()), list(sweep.metadata["left_out"])
        if len(found) == 2 and np.isnan(found[1].start):
            raise ConfigError(
                f"volume.accuracy_thresholds {run.config.volume.accuracy_thresholds}: accuracy means nothing with loss "
                f"{run.config.training.loss!r} on these targets; set it to null"
            )
        minima.append(
            Minimum(
                level=level,
                radii=found[0],
                accuracy_radii=found[1] if len(found) == 2 else None,
                num_params=int(sweep.metadata["num_params"]),
                num_zero_params=int(sweep.metadata["num_zero_params"]),
                log_det=float(sweep.metadata["log_det"]),
                test_loss=float(sweep.metadata["test_loss"]),
                test_accuracy=float(sweep.metadata["test_accs"]),
                train_loss=record["train_loss"][record["epoch"] - 1],
                start_loss=float(sweep.loss[0, 0]),
                left_out=left_out,
                num_left_out=sum(parameters[name].numel() for name in left_out),
                weights_hash=record["weights_hash"],
            )
        )
    return minima
