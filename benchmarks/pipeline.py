"""Seconds that the pipeline takes for runs of digits/low_data/base at smoke size, with 1 and with 2 runs at once.

    python benchmarks/pipeline.py [RUNS]

It needs an idle machine with two cores: the sum of CPU seconds is printed beside the wall clock, and where it is far below
`wall x jobs` the cores were not free.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import minima_volume as mv
from minima_volume.config import load_config, plain, read_yaml, set_dotted, write_yaml
from minima_volume.runs.smoke import smoke_overrides

SOURCE = Path(__file__).parent.parent / "experiments" / "digits" / "low_data" / "base" / "config.yaml"


def measure(runs: int, jobs: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        content = plain(read_yaml(SOURCE))
        set_dotted(content, smoke_overrides(load_config(SOURCE)))
        write_yaml(Path(folder) / "config.yaml", content)
        mv.new_runs(folder, mv.seed_pairs(runs))
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        mv.raise_failures(mv.run_pipeline(folder, jobs=jobs))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - start, used


def main() -> None:
    """Print a row for each number of runs at once, and the ratio."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    found = {jobs: measure(runs, jobs) for jobs in (1, 2)}
    for jobs, (wall, used) in found.items():
        print(f"{jobs} at once: {wall:.0f} s wall, {used:.0f} s CPU, {3600 * runs / wall:.0f} runs an hour")
    print(f"2 at once take {found[2][0] / found[1][0]:.2f} of the time of 1")


if __name__ == "__main__":
    main()
