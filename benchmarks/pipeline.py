"""Seconds that the pipeline takes for runs of digits/low_data/base at smoke size, with 1 and with 2 runs at once.

    python benchmarks/pipeline.py [RUNS]

The last line is the ratio of the two times. It needs an idle machine with two cores: the sum of CPU seconds is printed beside the
wall clock, and where it is far below `wall x jobs` the cores were not free. Each measurement starts afresh, imports included.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import minima_volume as mv
from minima_volume.config.run import load_config
from minima_volume.execution.fork_server import SERVER
from minima_volume.files.yaml import read_yaml, set_dotted, write_yaml
from minima_volume.runs.smoke import smoke_overrides

SOURCE = Path(__file__).parent.parent / "experiments" / "digits" / "low_data" / "base" / "config.yaml"


def measure(runs: int, jobs: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        content = read_yaml(SOURCE)
        set_dotted(content, smoke_overrides(load_config(SOURCE)))
        write_yaml(Path(folder) / "config.yaml", content)
        mv.new_runs(folder, mv.seed_pairs(runs))
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        mv.raise_failures(mv.run_pipeline(folder, jobs=jobs, progress=False))
        SERVER.stop()  # so that what it and its kernels used is counted, and the next measurement starts its own
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, used


def main() -> None:
    """Print a row for each number of runs at once, and the ratio."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seconds = {}
    for jobs in (1, 2):
        wall, used = measure(runs, jobs)
        seconds[jobs] = wall
        words = f"{wall:.0f} s wall, {used:.0f} s CPU, {wall * jobs / (5 * runs):.1f} s a notebook, {3600 * runs / wall:.0f} runs an hour"
        print(f"{runs} runs, {jobs} at once: {words}", flush=True)
    print(f"ratio: {seconds[2] / seconds[1]:.2f} (2 at once / 1 at once; 0.5 is ideal, at most 0.6 wanted)")


if __name__ == "__main__":
    main()
