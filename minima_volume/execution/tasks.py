"""Pieces of work on one-thread processes of this machine or on a cluster: the results do not depend on where, or how many there are."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Protocol, TypeVar

import joblib
from joblib.externals.loky.process_executor import BrokenProcessPool

from minima_volume.config.sections import Executable
from minima_volume.execution.cluster import ClusterError, cluster_tasks, connect, num_slots, wanted_cluster
from minima_volume.execution.cores import usable_cores
from minima_volume.execution.device import threads

# of an interrupted sweep: it is no advice for a user
warnings.filterwarnings("ignore", r"\d+ tasks have been successfully executed", UserWarning)
Result = TypeVar("Result")
AnyTask = TypeVar("AnyTask", bound="Task")

MAX_DEATHS = 3  # of worker processes, before a piece of work is given up
WATCH_SECONDS = 1.0
STARTUP_SECONDS = 8  # below this much work, starting processes (about 2 s) costs more than it saves


def usable_workers(config: Executable, seconds: float) -> int:
    """One process per usable core; one alone for work of a few seconds (starting processes takes as long), and on a GPU."""
    if config.execution.workers is not None:
        return config.execution.workers
    cluster = wanted_cluster(config.execution)
    if cluster is not None and seconds >= STARTUP_SECONDS:
        return max(2, num_slots(connect(cluster)))
    if config.experiment.device != "cpu" or seconds < STARTUP_SECONDS:
        return 1
    return usable_cores()


class Task(Protocol):
    """Anything with a configuration, which says how many threads the work is done with."""

    @property
    def config(self) -> Executable: ...


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
        jobs = (joblib.delayed(_numbered)(work, number, task, os.getpid()) for number, task in list(left.items()))
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
                    f"worker processes were killed {deaths} times; often there is too little memory: lower execution.workers "
                    f"or execution.memory_gib. What is finished is kept"
                ) from error


def _numbered(work: Callable[[AnyTask], Result], number: int, task: AnyTask, driver: int) -> tuple[int, Result]:
    _end_with(driver)
    return number, _with_threads(work, task)[1]


@cache
def _end_with(driver: int) -> None:
    """Let this worker process end when the one that started it has ended, however it did: a killed one cannot tell."""

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _with_threads(work: Callable[[AnyTask], Result], task: AnyTask) -> tuple[AnyTask, Result]:
    with threads(task.config.experiment.threads):
        return task, work(task)
