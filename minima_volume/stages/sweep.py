"""Notebook 2: losses along random directions for every model in every landscape it belongs to."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from minima_volume.errors import DamagedFileError
from minima_volume.execution.device import threads
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import read_npz, write_npz
from minima_volume.files.boundary import remove_tree
from minima_volume.files.content import interpreted
from minima_volume.files.lock import locked
from minima_volume.isolation import own_defaults
from minima_volume.numerals import duration
from minima_volume.perturbation.curves import Curves, trace_curves
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.names import perturbed_names
from minima_volume.stages.freshness import require_current_sweep, sweep_settings
from minima_volume.stages.measured import MeasuredModel, Shard, at_hand, make_engine
from minima_volume.stages.minimum import weights
from minima_volume.stages.provenance import provenance
from minima_volume.stages.run import Pair, Run
from minima_volume.stages.sweep_files import Sweep, read_marks, read_sweep, write_sweep
from minima_volume.stages.trained import Trained, load_models_and_data

PROBED, LONG = (
    (1, 16),
    1.0,
)  # directions that are walked to time them; seconds after which no more are: the first finds caches cold


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep will take.

    Attributes:
        directions: still to be walked, over all models; those in shards of an interrupted sweep are not.
        seconds: on one process.
        workers: processes that will be used.
        megabytes: on disk, at most.
    """

    directions: int
    seconds: float
    workers: int
    megabytes: float

    def __str__(self) -> str:
        return (
            f"{self.directions:,} directions to walk: about {duration(self.seconds / self.workers)} with {self.workers} "
            f"process{'es' if self.workers > 1 else ''}, up to {self.megabytes:.1f} MB on disk"
        )


def sweep_seeds(run: Run) -> list[int]:
    """Seeds of the run's directions: perturbation_seed + i, shared by all its minima and landscapes."""
    first = run.config.seeds.perturbation
    return list(range(first, first + run.config.perturbation.num_directions))


def missing_seeds(run: Run, trained: Trained) -> dict[int, list[int]]:
    """For each minimum the directions that are not in all of its files.

    Raises:
        StaleError: a file was made from other weights, data or settings.
    """
    wanted, missing = sweep_seeds(run), {}
    for minimum in trained.models:
        have = set(wanted)
        moved = perturbed_names(trained.models[minimum], run.config.perturbation.names)
        for pair in run.pairs(minimum):
            path = run.sweep_file(pair.landscape, minimum)
            if not path.is_file():
                have = set()
                continue
            seeds, marks = read_marks(path)
            require_current_sweep(marks, run.config, path, trained.records[minimum], moved)
            have &= set(seeds.tolist())
        missing[minimum] = [seed for seed in wanted if seed not in have]
    return missing


@own_defaults()
def estimate_sweep(run: Run, trained: Trained | None = None) -> SweepEstimate:
    """Walk a few directions of each model and say what the sweep will take."""
    trained = load_models_and_data(run) if trained is None else trained
    missing = missing_seeds(run, trained)
    count = run.config.perturbation.coefficients.count
    left = {
        minimum: sum(
            len(shard.seeds) for shard in _unwalked(run, MeasuredModel.of(run, trained, minimum).shards(seeds))
        )
        for minimum, seeds in missing.items()
        if seeds
    }
    seconds = sum(left[m] * _seconds_per_direction(run, trained, m, left[m]) for m in left if left[m])
    numbers = sum(2 * len(seeds) * count * len(run.pairs(minimum)) for minimum, seeds in missing.items())
    state = sum(tensor.nbytes for tensor in trained.models[run.config.minima[0]].state_dict().values())
    pairs = sum(len(run.pairs(minimum)) for minimum in left)
    workers = usable_workers(run.config, seconds)
    return SweepEstimate(sum(left.values()), seconds, workers, (8 * numbers + pairs * state) / 1e6)


def _seconds_per_direction(run: Run, trained: Trained, minimum: int, most: int) -> float:
    """Of some directions walked as the sweep walks them; where one takes long, of it alone."""
    config, first = run.config, run.config.seeds.perturbation
    coefficients = config.perturbation.coefficients.values()
    with threads(config.experiment.threads):
        engine = make_engine(run, trained, minimum)
        for count in (min(probed, most) for probed in PROBED):
            start = time.perf_counter()
            trace_curves(engine, range(first, first + count), coefficients, config.loss_ceiling)
            seconds = time.perf_counter() - start
            if seconds > LONG:
                break
    return seconds / count


@own_defaults()
def sweep_shard(shard: Shard) -> Curves:
    """Walk one shard's directions."""
    config = shard.config
    coefficients = config.perturbation.coefficients.values()
    return trace_curves(shard.model.engine(), shard.seeds, coefficients, config.loss_ceiling)


@own_defaults()
def sweep(run: Run, trained: Trained | None = None, *, progress: bool = True) -> list[Path]:
    """Walk every direction that is missing and write data_<landscape>/data_<level>.npz.

    Finished shards are kept on disk until their model's files are whole, so a killed sweep goes on where it stopped.

    Args:
        run: the run.
        trained: its models and samples; loaded when None.
        progress: show a progress bar.

    Returns:
        The files of all (landscape, level) pairs.

    Raises:
        MissingStageError: notebook 1 has not been run.
        StaleError: files in the folder were made from other weights, data or settings.
        LockedError: another process works on the run.
    """
    with locked(run.folder):
        return _sweep(run, load_models_and_data(run) if trained is None else trained, progress)


def _sweep(run: Run, trained: Trained, progress: bool) -> list[Path]:
    missing = missing_seeds(run, trained)
    workers = estimate_sweep(run, trained).workers if any(missing.values()) else 1
    todo = {m: MeasuredModel.of(run, trained, m, workers).shards(seeds) for m, seeds in missing.items() if seeds}
    pending = [shard for group in todo.values() for shard in _unwalked(run, group)]
    left = {minimum: sum(shard.model.minimum == minimum for shard in pending) for minimum in todo}
    total = sum(len(shard.seeds) for group in todo.values() for shard in group)
    finished = total - sum(len(shard.seeds) for shard in pending)
    for minimum in todo:
        if not left[minimum]:
            _merge(run, trained, minimum, todo[minimum])
    bar = tqdm(total=total, initial=finished, unit="direction", disable=not progress, desc="random directions")
    with bar, at_hand(run, trained):
        for shard, curves in run_tasks(sweep_shard, pending, workers):
            minimum = shard.model.minimum
            _write_shard(run, shard, curves)
            left[minimum] -= 1
            bar.update(len(shard.seeds))
            bar.set_postfix_str(f"{run.config.variation.replace('_', ' ')} {minimum}")
            if not left[minimum]:
                _merge(run, trained, minimum, todo[minimum])
    remove_tree(run.shards)
    return [run.sweep_file(pair.landscape, pair.minimum) for pair in run.pairs()]


def walked(run: Run, minima: Iterable[int]) -> int:
    """Directions in the shards of some minima, whose files are not whole yet."""
    files = (path for minimum in minima for path in run.shard_folder(minimum).glob("directions_*.npz"))
    spans = [path.stem.split("_")[1:] for path in files]
    return sum(int(last) - int(first) + 1 for first, last in spans)


def _shard_file(run: Run, shard: Shard) -> Path:
    return run.shard_folder(shard.model.minimum) / f"directions_{shard.seeds[0]}_{shard.seeds[-1]}.npz"


def _write_shard(run: Run, shard: Shard, curves: Curves) -> None:
    arrays: dict[str, Any] = dict(vars(curves))
    write_npz(_shard_file(run, shard), arrays | {"key": _shard_key(run, shard)})


def _unwalked(run: Run, group: Iterable[Shard]) -> list[Shard]:
    return [shard for shard in group if _read_shard(run, shard) is None]


def _read_shard(run: Run, shard: Shard) -> Curves | None:
    """A finished shard; None if it is absent, damaged or of other weights, data or settings."""
    path = _shard_file(run, shard)
    if not path.is_file():
        return None
    try:
        content = read_npz(path)
        with interpreted(path):
            same = str(content.pop("key", "")) == _shard_key(run, shard)
            return Curves(**content) if same and content["seeds"].tolist() == list(shard.seeds) else None
    except DamagedFileError:
        return None


def _shard_key(run: Run, shard: Shard) -> str:
    return f"{shard.model.weights_hash} {shard.model.data_hash} {sweep_settings(run.config)} {run.config.loss_ceiling}"


def _merge(run: Run, trained: Trained, minimum: int, group: list[Shard]) -> None:
    """Write a minimum's files from the directions that they had before, which stay as they are, and from its shards."""
    found = [curves for curves in (_read_shard(run, shard) for shard in group) if curves is not None]
    perturbation = run.config.perturbation
    directions = Directions.of(trained.models[minimum], perturbation.scaling, perturbation.names)
    for k, pair in enumerate(run.pairs(minimum)):
        path = run.sweep_file(pair.landscape, minimum)
        before = [read_sweep(path, with_state_dict=False)] if path.is_file() else []
        columns = {
            "loss": [curves.loss[k] for curves in found],
            "accs": [curves.accs[k] for curves in found],
            "perturbation_seed": [curves.seeds for curves in found],
            "perturbation_norm": [curves.norms for curves in found],
        }
        joined = {
            name: np.concatenate([*(getattr(sweep, name) for sweep in before), *parts])
            for name, parts in columns.items()
        }
        _, order = np.unique(joined["perturbation_seed"], return_index=True)
        write_sweep(
            path,
            Sweep(
                coefficients=found[0].coefficients,
                **{name: array[order] for name, array in joined.items()},
                metadata=_metadata(run, trained, directions, pair),
                state_dict=weights(trained.models[minimum]),
            ),
        )
    remove_tree(run.shard_folder(minimum))


def _metadata(run: Run, trained: Trained, directions: Directions, pair: Pair) -> dict[str, Any]:
    record, dataset = trained.records[pair.minimum], trained.dataset
    return {
        "additional_data": pair.landscape,
        "model_trained_data": run.config.level_of(pair.minimum),
        "variation": run.config.variation,
        "variation_value": pair.minimum,
        "dataset_type": dataset.dataset_type,
        "base_dataset_size": dataset.base_size,
        "test_loss": record["test_loss"][record["epoch"] - 1],
        "test_accs": record["test_accs"][record["epoch"] - 1],
        "num_params": directions.num_params,
        "num_zero_params": directions.num_zero,
        "log_det": directions.log_det,
        "left_out": list(directions.left_out),
        "weights_hash": record["weights_hash"],
        "data_hash": record["data_hash"],
        "seeds": {
            "model": run.config.model_seed,
            "data": run.config.data_seed,
            "perturbation": run.config.seeds.perturbation,
        },
        "settings": sweep_settings(run.config),
        "provenance": provenance(run.config),
    }
