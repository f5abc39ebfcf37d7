"""Shards of directions on one-thread processes: the results do not depend on how many there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from minima_volume.config import Config
from minima_volume.layout import Run
from minima_volume.perturbation.cluster import ClusterError, cluster_tasks, connect, num_slots, wanted_cluster
from minima_volume.perturbation.engine import LossEngine
from minima_volume.provenance import threads, usable_device
from minima_volume.training import Trained, load_models_and_data

Result = TypeVar("Result")
AnyTask = TypeVar("AnyTask", bound="Task")

CORES_VARIABLE = "MINIMA_VOLUME_CORES"
MAX_DEATHS = 3  # of worker processes, before a piece of work is given up
STARTUP_SECONDS = 25  # below this much work, starting processes costs more than it saves


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
    if (trained.records[level]["weights_hash"], trained.dataset.hash()) != (weights_hash, data_hash):
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
        config.training.loss,
        [other for other in dataset.sizes if other <= size],
        scaling=config.perturbation.scaling,
        names=config.perturbation.names,
        memory_gib=config.perturbation.memory_gib / workers,
    )
    engine.check(config.seeds.perturbation)
    return engine


def shards(run: Run, trained: Trained, level: int, seeds: Sequence[int], workers: int) -> list[Shard]:
    """Cut the directions of one model into shards."""
    size = run.config.perturbation.shard_size
    hashes = trained.records[level]["weights_hash"], trained.dataset.hash()
    return [
        Shard(run.folder, run.config, level, *hashes, tuple(seeds[start : start + size]), workers)
        for start in range(0, len(seeds), size)
    ]


def usable_workers(config: Config, seconds: float) -> int:
    """One process per usable core; one alone for work of a few seconds (starting processes takes as long), and on a GPU."""
    if config.perturbation.workers is not None:
        return config.perturbation.workers
    cluster = wanted_cluster(config.execution)
    if cluster is not None and seconds >= STARTUP_SECONDS:
        return max(2, num_slots(connect(cluster)))
    if config.experiment.device != "cpu" or seconds < STARTUP_SECONDS:
        return 1
    return usable_cores()


def usable_cores() -> int:
    """Cores this process may use: its share where the pipeline runs several notebooks at once, else all it is bound to."""
    if share := os.environ.get(CORES_VARIABLE):
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Task(Protocol):
    """Anything with a configuration, which says how many threads the work is done with."""

    @property
    def config(self) -> Config: ...


def run_tasks(
    work: Callable[[AnyTask], Result], todo: Sequence[AnyTask], workers: int
) -> Iterator[tuple[AnyTask, Result]]:
    """Do tasks and hand over each as soon as it is done; the results do not depend on where.

    In this process for one worker; else on one-thread processes of this machine, or on the cluster that the tasks'
    `execution` section (or the pipeline) names. A process that is killed costs the tasks it was at, which are done again.

    Raises:
        ClusterError: processes died again and again, or the cluster went away.
    """
    cluster = wanted_cluster(todo[0].config.execution) if todo else None
    if workers == 1 or not todo:
        for task in todo:
            yield _with_threads(work, task)
    elif cluster is not None:
        yield from cluster_tasks(partial(_with_threads, work), todo, connect(cluster))
    else:
        yield from _process_tasks(work, list(todo), workers)


def _process_tasks(
    work: Callable[[AnyTask], Result], todo: list[AnyTask], workers: int
) -> Iterator[tuple[AnyTask, Result]]:
    left, deaths = dict(enumerate(todo)), 0
    while left:
        jobs = (joblib.delayed(_numbered)(work, number, task) for number, task in list(left.items()))
        parallel = joblib.Parallel(
            n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs"
        )
        try:
            for number, result in parallel(jobs):
                yield left.pop(number), result
        except BrokenProcessPool as error:  # killed: out of memory, or by hand
            deaths += 1
            if deaths > MAX_DEATHS:
                raise ClusterError(
                    f"worker processes were killed {deaths} times; often there is too little memory: lower perturbation.workers "
                    f"or perturbation.memory_gib. What is finished is kept"
                ) from error


def _numbered(work: Callable[[AnyTask], Result], number: int, task: AnyTask) -> tuple[int, Result]:
    return number, _with_threads(work, task)[1]


def _with_threads(work: Callable[[AnyTask], Result], task: AnyTask) -> tuple[AnyTask, Result]:
    with threads(task.config.experiment.threads):
        return task, work(task)
