"""A measured model: one minimum of a run with the landscapes it is measured in, and shards of its directions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from minima_volume.config.run import Config
from minima_volume.execution.device import usable_device
from minima_volume.perturbation.engine import LossEngine
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data


@dataclass(frozen=True)
class MeasuredModel:
    """One minimum of a run, as a process that measures it needs it.

    Attributes:
        folder: the run folder.
        config: its configuration.
        minimum: its value of the run's variation.
        weights_hash, data_hash: what the driver saw; a worker that loads something else stops.
        workers: how many processes share the memory budget.
    """

    folder: Path
    config: Config
    minimum: int
    weights_hash: str
    data_hash: str
    workers: int = 1

    @classmethod
    def of(cls, run: Run, trained: Trained, minimum: int, workers: int = 1) -> MeasuredModel:
        record = trained.records[minimum]
        return cls(run.folder, run.config, minimum, record["weights_hash"], record["data_hash"], workers)

    def __hash__(self) -> int:  # the configuration holds dictionaries and lists
        return hash((self.folder, self.minimum, self.weights_hash, self.data_hash, self.workers))

    def engine(self) -> LossEngine:
        """The engine of the model; the last one is kept, since tasks of one model follow each other."""
        if self not in _KEPT:
            _KEPT.clear()  # before there is another, so that there is room for one
            _KEPT[self] = _engine(self)
        return _KEPT[self]

    def shards(self, seeds: Sequence[int]) -> list[Shard]:
        """Directions cut into pieces of work."""
        size = self.config.perturbation.shard_size
        return [Shard(self, tuple(seeds[start : start + size])) for start in range(0, len(seeds), size)]


@dataclass(frozen=True)
class Shard:
    """Some directions of a measured model."""

    model: MeasuredModel
    seeds: tuple[int, ...]

    @property
    def config(self) -> Config:
        return self.model.config


_KEPT: dict[MeasuredModel, LossEngine] = {}
_LOADED: dict[Path, Trained] = {}  # what the driver loaded of its run; in a worker there is none


@contextmanager
def at_hand(run: Run, trained: Trained) -> Iterator[None]:
    """Inside the block the tasks that this process does itself need not load the run again; afterwards nothing of it is kept."""
    _LOADED[run.folder] = trained
    try:
        yield
    finally:
        _KEPT.clear()
        _LOADED.clear()


def _engine(measured: MeasuredModel) -> LossEngine:
    run = Run(measured.folder, measured.config)
    trained = _LOADED.get(measured.folder) or load_models_and_data(run)
    record = trained.records[measured.minimum]
    if (record["weights_hash"], record["data_hash"]) != (measured.weights_hash, measured.data_hash):
        raise RuntimeError(f"{run.model_file(measured.minimum)} changed while it was being measured")
    return make_engine(run, trained, measured.minimum, measured.workers)


def make_engine(
    run: Run, trained: Trained, minimum: int, workers: int = 1, sizes: Sequence[int] | None = None
) -> LossEngine:
    """The engine of one model, checked against the plain loop.

    Args:
        run: the run.
        trained: its models and samples.
        minimum: which model.
        workers: processes that share the memory budget.
        sizes: samples of the landscapes; by default of those that the model is measured in.
    """
    config = run.config
    sizes = [pair.size for pair in run.pairs(minimum)] if sizes is None else sizes
    model, x, y = on_device(run, trained, minimum, max(sizes))
    engine = LossEngine(
        model,
        x,
        y,
        run.loss,
        sizes,
        scaling=config.perturbation.scaling,
        names=config.perturbation.names,
        memory_gib=config.execution.memory_gib / workers,
    )
    engine.check(config.seeds.perturbation)
    return engine


def on_device(run: Run, trained: Trained, minimum: int, size: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A model and the first training samples on the run's device; the run's own models stay on the CPU."""
    device = usable_device(run.config)
    x, y = (samples[:size].to(device) for samples in (trained.dataset.x_train, trained.dataset.y_train))
    return on(device, trained.models[minimum]), x, y


def on(device: torch.device, model: nn.Module) -> nn.Module:
    """The model itself if it is on the device, else a copy there."""
    there = next(model.parameters()).device
    return model if there.type == device.type == "cpu" else copy.deepcopy(model).to(device)
