"""Seconds that handing out a tiny piece of work takes: on a Dask LocalCluster, and on this machine's own processes.

    python benchmarks/scheduler.py [TASKS] [WORKERS]

Each piece does nothing, so that all of the time is overhead. Wall-clock and CPU seconds of all processes are printed: on a busy machine the
CPU seconds are the number to look at. Starting the processes is counted apart.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from minima_volume.config.run import Config, Execution, parse_config
from minima_volume.execution.tasks import run_tasks


@dataclass(frozen=True)
class Piece:
    """A piece of work with a configuration, which is what a shard of directions carries, too."""

    number: int
    config: Config


def nothing(piece: Piece) -> int:
    """The work."""
    return piece.number


def cpu_seconds() -> float:
    """Of this process and all that it started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def measure(config: Config, tasks: Iterable[int], workers: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    todo = [Piece(number, config) for number in tasks]
    start, before = time.perf_counter(), cpu_seconds()
    assert sum(result for _, result in run_tasks(nothing, todo, workers)) == sum(tasks)
    return time.perf_counter() - start, cpu_seconds() - before


def row(name: str, config: Config, tasks: int, workers: int) -> None:
    """Print what the start costs, and a task."""
    wall, cpu = measure(config, range(workers), workers)
    print(f"{name}: start {wall:.1f} s wall, {cpu:.1f} s CPU", end="; ", flush=True)
    wall, cpu = measure(config, range(tasks), workers)
    print(
        f"{tasks} tasks {wall:.1f} s wall, {cpu:.1f} s CPU: {1e3 * wall / tasks:.1f} ms wall, {1e3 * cpu / tasks:.1f} ms CPU a task"
    )


def main() -> None:
    """Print a row for each way."""
    from distributed import LocalCluster

    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    config = parse_config(
        {
            "experiment": {"name": "scheduler"},
            "seeds": {"model": 0, "data": 0},
            "data": {"source": "digits", "base_size": 20, "levels": [0]},
            "model": {"name": "mlp", "options": {"hidden": [8]}},
            "training": {"epochs": 1},
        }
    )
    row(f"{workers} processes of this machine", config, tasks, workers)
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
    ) as cluster:
        there = config.model_copy(update={"execution": Execution(scheduler=cluster.scheduler_address)})
        row(f"Dask LocalCluster with {workers} workers", there, tasks, workers)


if __name__ == "__main__":
    main()
