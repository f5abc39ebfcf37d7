"""Shards of directions: the pieces of work that a sweep, radii and Gaussian local volumes are cut into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from minima_volume.config.run import Config
from minima_volume.execution.device import usable_device
from minima_volume.perturbation.engine import LossEngine
from minima_volume.stages.run import Run
from minima_volume.stages.train import Trained, load_models_and_data


@dataclass(frozen=True)
class Shard:
    """Some directions of one model.

    Attributes:
        folder: the run folder.
        config: its configuration.
        level: which of the run's minima: its value of the variation, its level as a rule.
        weights_hash, data_hash: what the driver saw; a worker that loads something else stops.
        seeds: of the directions.
        workers: how many processes share the memory budget.
    """

    folder: Path
    config: Config
    level: int
    weights_hash: str
    data_hash: str
    seeds: tuple[int, ...]
    workers: int

    def engine(self) -> LossEngine:
        """The engine of the shard's model; the last one is kept, since shards of a model follow each other."""
        key = self.weights_hash, self.data_hash, self.level, self.config.model_dump_json(), self.workers
        return _engine(Keyed(key, Run(self.folder, self.config)))


@dataclass(frozen=True)
class Keyed:
    """A run, told apart from others by a key."""

    key: tuple[Any, ...]
    run: Run

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and other.key == self.key


@lru_cache(maxsize=1)
def _engine(keyed: Keyed) -> LossEngine:
    weights_hash, data_hash, level, _, workers = keyed.key
    trained = load_models_and_data(keyed.run)
    record = trained.records[level]
    if (record["weights_hash"], record["data_hash"]) != (weights_hash, data_hash):
        raise RuntimeError(f"{keyed.run.model_file(level)} changed while it was being measured")
    return make_engine(keyed.run, trained, level, workers)


def make_engine(run: Run, trained: Trained, level: int, workers: int = 1) -> LossEngine:
    """The engine of one model in the landscapes it is measured in, checked against the plain loop."""
    config, dataset = run.config, trained.dataset
    device = usable_device(config)
    size = dataset.base_size + config.level_of(level)
    engine = LossEngine(
        trained.models[level].to(device),
        dataset.x_train[:size].to(device),
        dataset.y_train[:size].to(device),
        run.loss,
        [other for other in dataset.sizes if other <= size],
        scaling=config.perturbation.scaling,
        names=config.perturbation.names,
        memory_gib=config.perturbation.memory_gib / workers,
    )
    engine.check(config.seeds.perturbation)
    return engine


def shards(run: Run, trained: Trained, level: int, seeds: Sequence[int], workers: int = 1) -> list[Shard]:
    """Cut the directions of one model into shards."""
    size = run.config.perturbation.shard_size
    return [shard_of(run, trained, level, seeds[start : start + size], workers) for start in range(0, len(seeds), size)]


def shard_of(run: Run, trained: Trained, level: int, seeds: Sequence[int], workers: int = 1) -> Shard:
    """Some directions of one model, or none: work of another kind on that model."""
    record = trained.records[level]
    return Shard(run.folder, run.config, level, record["weights_hash"], record["data_hash"], tuple(seeds), workers)
