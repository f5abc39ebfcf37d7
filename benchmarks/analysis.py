"""CPU seconds in which the results of many runs become tables and figures.

    python benchmarks/analysis.py [RUNS]

Made-up results.json files of RUNS runs (100), six levels each in six landscapes, are aggregated and plotted by `analyze` (11 figures as PNG
and SVG with their data) and written as a report. What a busy machine does to the seconds is seen by the yardstick, which always does the
same work: compare only where it reads alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import minima_volume as mv

TESTS = Path(__file__).parent.parent / "tests"
LEVELS = [0, 540, 1940, 5940, 19940, 59940]


def seconds(function: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    function()
    return time.process_time() - start


def imports() -> None:
    """Everything an analysis imports, torch among it."""
    from minima_volume import plots
    from minima_volume.reports.html import write_report

    assert plots and write_report


def yardstick() -> None:
    """A fixed amount of plain Python."""
    sum(i * i for i in range(10_000_000))


def main() -> None:
    """Print a line for each part."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"imports: {seconds(imports):.1f} s")
    sys.path.insert(0, str(TESTS))
    from fake_results import fake_condition

    with tempfile.TemporaryDirectory() as folder:
        condition = fake_condition(Path(folder) / "base", seeds=runs, overrides={"data.levels": LEVELS})
        from minima_volume.reports.html import write_report

        print(f"yardstick: {seconds(yardstick):.2f} s")
        print(f"reading {runs} runs: {seconds(lambda: mv.collect(condition)):.1f} s")
        print(f"tables and figures, reading included: {seconds(lambda: mv.analyze(condition)):.1f} s")
        print(f"report, reading included: {seconds(lambda: write_report(condition)):.1f} s")
        print(f"yardstick: {seconds(yardstick):.2f} s")


if __name__ == "__main__":
    main()
