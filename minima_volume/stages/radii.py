"""Notebook 3: radii and volumes of every minimum at the chosen thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from minima_volume.config.run import Config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.curves import Curves
from minima_volume.perturbation.names import perturbed_names
from minima_volume.stages.freshness import require_current_sweep
from minima_volume.stages.measured import MeasuredModel, Shard, at_hand
from minima_volume.stages.results.radii_file import kept_radii
from minima_volume.stages.results.results_json import Minimum, is_current, write_results
from minima_volume.stages.run import Pair, Run
from minima_volume.stages.sweep import sweep_seeds
from minima_volume.stages.sweep_files import Sweep, read_sweep, write_sweep
from minima_volume.stages.thresholds import conditions_of
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import Radii, find_radii

# a guess good enough to decide whether worker processes pay
PASSES_PER_RADIUS, MULTIPLY_ADDS_PER_SECOND = 5, 1e10

Found = dict[tuple[Pair, Condition], Radii]


@dataclass(frozen=True)
class RadiiTask:
    """Find the radii of one shard of directions in several landscapes and at several thresholds."""

    shard: Shard
    curves: Curves
    pairs: tuple[Pair, ...]
    conditions: tuple[Condition, ...]

    @property
    def config(self) -> Config:
        return self.shard.config


@own_defaults()
def radii_task(task: RadiiTask) -> tuple[Found, Curves]:
    """Do one task; the curves come back continued if a threshold lies above the sweep's ceiling."""
    config = task.config
    found, curves = find_radii(
        task.shard.model.engine(),
        task.curves,
        [pair.size for pair in task.pairs],
        list(task.conditions),
        max_coefficient=config.perturbation.max_coefficient,
        tolerance=config.volume.radius_tolerance,
    )
    return {
        (pair, condition): found[pair.size, condition] for pair in task.pairs for condition in task.conditions
    }, curves


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

    What is already there, made from the same weights, data and settings, is left alone: also the radii of single minima, if levels
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
    levels, thresholds = run.config.data.levels, run.config.volume.loss_thresholds
    chosen = levels if landscapes is None else sorted(landscapes)
    if unknown := set(chosen) - set(levels):
        raise ConfigError(f"landscapes {sorted(unknown)} are not among data.levels {levels}")
    sweeps = read_sweeps(run, trained, chosen)
    asked = [(landscape, threshold) for landscape in chosen for threshold in thresholds]
    wanted = [key for key in asked if not is_current(run, trained, *key)]
    radii = _all_radii(run, trained, sweeps, wanted, progress) if wanted else {}
    return [
        write_results(run, trained, *key, _minima(run, trained, sweeps, radii[key]) if key in radii else None)
        for key in asked
    ]


def read_sweeps(run: Run, trained: Trained, landscapes: Sequence[int]) -> dict[Pair, Sweep]:
    """The sweeps of the chosen landscapes, cut to the run's directions and checked to belong to its models."""
    seeds, found = np.array(sweep_seeds(run)), {}
    for pair in run.pairs():
        if pair.landscape not in landscapes:
            continue
        path = run.sweep_file(pair.landscape, pair.minimum)
        sweep = read_sweep(path)
        moved = perturbed_names(trained.models[pair.minimum], run.config.perturbation.names)
        require_current_sweep(sweep.metadata, run.config, path, trained.records[pair.minimum], moved)
        have = np.isin(seeds, sweep.perturbation_seed)
        if not have.all():
            raise MissingStageError(
                f"{path} has {int(have.sum())} of the {len(seeds)} directions that perturbation.num_directions asks for: "
                "run 'Random Perturbs.ipynb' (`minima-volume run --stage perturb`) to add the others"
            )
        found[pair] = sweep
    return found


def _all_radii(
    run: Run, trained: Trained, sweeps: dict[Pair, Sweep], wanted: Sequence[tuple[int, float]], progress: bool
) -> dict[tuple[int, float], dict[Pair, list[Radii]]]:
    """(landscape, threshold) -> radii of its minima, measuring those that are not kept on disk; `sweeps` are continued."""
    seeds, kept = sweep_seeds(run), {}
    for landscape, threshold in wanted:
        here = {pair.minimum: sweep for pair, sweep in sweeps.items() if pair.landscape == landscape}
        kept[landscape, threshold] = kept_radii(run, trained, here, landscape, threshold, seeds)
    missing = {
        minimum: [
            (pair, threshold)
            for landscape, threshold in wanted
            for pair in run.pairs(minimum)
            if pair.landscape == landscape and minimum not in kept[landscape, threshold]
        ]
        for minimum in trained.models
    }
    measured = _measure(run, trained, sweeps, missing, progress)
    return {
        (landscape, threshold): {
            pair: kept[landscape, threshold].get(pair.minimum)
            or [measured[pair, condition] for condition in conditions_of(run, threshold)]
            for pair in run.pairs()
            if pair.landscape == landscape
        }
        for landscape, threshold in wanted
    }


def _measure(
    run: Run,
    trained: Trained,
    sweeps: dict[Pair, Sweep],
    missing: Mapping[int, Sequence[tuple[Pair, float]]],
    progress: bool,
) -> Found:
    """Radii of the pairs and thresholds that each minimum misses; curves that went on are put into `sweeps` and their files."""
    work = [(pair, condition) for some in missing.values() for pair, t in some for condition in conditions_of(run, t)]
    if not work:
        return {}
    seeds, num_params = sweep_seeds(run), next(iter(sweeps.values())).metadata["num_params"]
    products = PASSES_PER_RADIUS * len(seeds) * sum(pair.size for pair, _ in work) * num_params
    workers = usable_workers(run.config, products / MULTIPLY_ADDS_PER_SECOND)
    tasks = [
        task
        for minimum, some in missing.items()
        if some
        for task in _tasks(run, sweeps, MeasuredModel.of(run, trained, minimum, workers), some, seeds)
    ]
    parts: dict[tuple[Pair, Condition], list[Radii]] = {}
    continued: set[Pair] = set()
    total = sum(len(task.shard.seeds) for task in tasks)
    with tqdm(total=total, unit="direction", disable=not progress, desc="radii") as bar, at_hand(run, trained):
        for task, (found, curves) in run_tasks(radii_task, tasks, workers):
            for key, radii in found.items():
                parts.setdefault(key, []).append(radii)
            continued |= _continue(run, sweeps, task, curves)
            bar.update(len(task.shard.seeds))
    for pair in continued:
        write_sweep(run.sweep_file(pair.landscape, pair.minimum), sweeps[pair])
    return {key: _join(group) for key, group in parts.items()}


def _tasks(
    run: Run,
    sweeps: Mapping[Pair, Sweep],
    model: MeasuredModel,
    missing: Sequence[tuple[Pair, float]],
    seeds: Sequence[int],
) -> Iterator[RadiiTask]:
    """One model's work: every landscape and every threshold that it misses somewhere."""
    pairs = tuple(sorted({pair for pair, _ in missing}, key=lambda pair: pair.landscape))
    thresholds = dict.fromkeys(threshold for _, threshold in missing)
    conditions = tuple(condition for threshold in thresholds for condition in conditions_of(run, threshold))
    for shard in model.shards(seeds):
        yield RadiiTask(shard, _curves(run, sweeps, model.minimum, shard.seeds), pairs, conditions)


def _curves(run: Run, sweeps: Mapping[Pair, Sweep], minimum: int, seeds: Sequence[int]) -> Curves:
    """The stored curves of a shard in all landscapes of its model; landscapes that were not read are unknown (NaN)."""
    known = [sweeps.get(pair) for pair in run.pairs(minimum)]
    any_sweep = next(sweep for sweep in known if sweep is not None)
    rows = np.searchsorted(any_sweep.perturbation_seed, seeds)
    unknown = np.full((len(seeds), len(any_sweep.coefficients)), np.nan)

    def stacked(name: str) -> np.ndarray:
        return np.stack(
            [
                unknown if sweep is None else getattr(sweep, name)[np.searchsorted(sweep.perturbation_seed, seeds)]
                for sweep in known
            ]
        )

    norms = any_sweep.perturbation_norm[rows]
    return Curves(any_sweep.coefficients, stacked("loss"), stacked("accs"), np.array(seeds), norms)


def _continue(run: Run, sweeps: dict[Pair, Sweep], task: RadiiTask, curves: Curves) -> set[Pair]:
    """Put curves that went on past the sweep's ceiling into the sweeps in memory: the pairs whose curves did."""
    changed = set()
    for k, pair in enumerate(run.pairs(task.shard.model.minimum)):
        went_on = ~np.isnan(curves.loss[k]) & np.isnan(task.curves.loss[k])
        if pair not in task.pairs or not went_on.any():
            continue
        sweep = sweeps[pair]
        rows = np.searchsorted(sweep.perturbation_seed, task.shard.seeds)
        loss, accs = sweep.loss.copy(), sweep.accs.copy()
        loss[rows], accs[rows] = curves.loss[k], curves.accs[k]
        sweeps[pair] = replace(sweep, loss=loss, accs=accs)
        changed.add(pair)
    return changed


def _join(parts: list[Radii]) -> Radii:
    """The radii of all shards, ordered by seed."""
    order = np.argsort(np.concatenate([part.seeds for part in parts]))
    names = ("coefficient", "radius", "censored", "reentered", "seeds")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return replace(parts[0], **joined)


def _minima(
    run: Run, trained: Trained, sweeps: Mapping[Pair, Sweep], radii: Mapping[Pair, Sequence[Radii]]
) -> list[Minimum]:
    """What results.json says of each minimum of a landscape, in the order of their values."""
    return [
        _minimum(run, trained, sweeps[pair], pair, radii[pair]) for pair in sorted(radii, key=lambda pair: pair.minimum)
    ]


def _minimum(run: Run, trained: Trained, sweep: Sweep, pair: Pair, found: Sequence[Radii]) -> Minimum:
    record, metadata = trained.records[pair.minimum], sweep.metadata
    parameters, left_out = dict(trained.models[pair.minimum].named_parameters()), list(metadata["left_out"])
    if len(found) == 2 and np.isnan(found[1].start):
        raise ConfigError(
            f"volume.accuracy_thresholds {run.config.volume.accuracy_thresholds}: accuracy is undefined for loss "
            f"{run.config.training.loss!r} on these targets; set it to null"
        )
    return Minimum(
        level=pair.minimum,
        radii=found[0],
        accuracy_radii=found[1] if len(found) == 2 else None,
        num_params=int(metadata["num_params"]),
        num_zero_params=int(metadata["num_zero_params"]),
        log_det=float(metadata["log_det"]),
        test_loss=float(metadata["test_loss"]),
        test_accuracy=float(metadata["test_accs"]),
        train_loss=record["train_loss"][record["epoch"] - 1],
        start_loss=float(sweep.loss[0, 0]),
        left_out=left_out,
        num_left_out=sum(parameters[name].numel() for name in left_out),
        weights_hash=record["weights_hash"],
    )
