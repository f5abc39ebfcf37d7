"""The loss engine against the published loop: interleaved rounds on one thread, medians, ratios. Run by `make bench`.

Prints a table and writes it to benchmarks/README.md and docs/engine.md. `python benchmarks/engine.py "swiss roll x5"`
measures chosen workloads only and writes nothing.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import torch
from pages import between
from reference_loop import published_sweep
from workloads import LOSSES, NAMES, Workload, build, published_grid

from minima_volume.config.run import Coefficients
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import find_radii

ROUNDS = 5
WHOLE, RADII = 50, 100  # coefficients of whole curves; of the baseline that radii are compared with
TOLERANCE = 1e-4
SHARED = "swiss roll x5"  # the workload that two processes share
WORK = 48  # its directions
PREPARED: list[Workload] = []
ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "engine.md")  # that show the table


def engine_of(work: Workload, level: int) -> LossEngine:
    sizes = [size for size in work.sizes.values() if size <= work.sizes[level]]
    last = sizes[-1]
    return LossEngine(work.models[level], work.x[:last], work.y[:last], work.loss, sizes)


def baseline(work: Workload, seed: int) -> float:
    """Seconds for one direction and one coefficient of the published loop, over all (landscape, model) pairs."""
    coefficients = published_grid(work.baseline_coefficients)
    return timed(
        lambda: published_sweep(work.models, work.x, work.y, LOSSES[work.loss], work.sizes, [seed], coefficients)
    ) / len(coefficients)


def whole_curves(work: Workload, count: int) -> float:
    """Seconds a direction for whole curves of 50 coefficients."""

    def run() -> None:
        for level in work.models:
            trace_curves(engine_of(work, level), range(1, count + 1), published_grid(WHOLE))

    return timed(run) / count


def radii(work: Workload, count: int) -> float:
    """Seconds a direction for the radii at the headline threshold in all landscapes, on the templates' coarse grid."""
    condition = Condition("loss", work.threshold)

    def run() -> None:
        for level in work.models:
            engine = engine_of(work, level)
            curves = trace_curves(engine, range(1, count + 1), Coefficients().values(), work.threshold)
            find_radii(engine, curves, list(engine.sizes), [condition], max_coefficient=16.0, tolerance=TOLERANCE)

    return timed(run) / count


def two_processes(name: str) -> float:
    """How much more two one-thread processes do than one in the same time, on whole curves."""
    with get_context("spawn").Pool(2, initializer=_prepare, initargs=(name,)) as pool:
        pool.map(_work, [1, 1], chunksize=1)  # both are ready
        ratios = []
        for _ in range(ROUNDS):
            alone = pool.map(_work, [WORK], chunksize=1)[0]
            together = pool.map(_work, [WORK, WORK], chunksize=1)
            ratios.append(2 * alone / max(together))
    return statistics.median(ratios)


def _prepare(name: str) -> None:
    torch.set_num_threads(1)
    PREPARED.append(build(name))


def _work(count: int) -> float:
    return count * whole_curves(PREPARED[0], count)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_flops() -> float:
    """Measured single-precision matrix product, FLOP/s on one thread."""
    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / min(timed(lambda: a @ a) for _ in range(10))


def flops(work: Workload) -> float:
    """Multiply-adds x 2 of one forward pass of the longest landscape of every model, as the published loop counts them."""
    total = 0.0
    for level, model in work.models.items():
        per_sample = 0

        def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            nonlocal per_sample
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                per_sample += 2 * module.weight[0].numel() * output[0].numel()

        hooks = [module.register_forward_hook(count) for module in model.modules()]
        model(work.x[:1])
        for hook in hooks:
            hook.remove()
        total += per_sample * work.sizes[level]
    return total


def measure(name: str) -> list[str]:
    """One row of the table."""
    torch.set_num_threads(1)
    work = build(name)
    seconds: dict[str, list[float]] = {"baseline": [], "whole": [], "radii": []}
    for round_number in range(ROUNDS):
        seconds["baseline"].append(baseline(work, round_number + 1))
        seconds["whole"].append(whole_curves(work, work.directions))
        seconds["radii"].append(radii(work, 2 * work.directions))
    median = {key: statistics.median(values) for key, values in seconds.items()}
    path = engine_of(work, max(work.models)).path.name
    return [
        name,
        path,
        f"{median['baseline'] * WHOLE * 1e3:.0f} ms",
        f"{WHOLE * median['baseline'] / median['whole']:.1f}x",
        f"{RADII * median['baseline'] / median['radii']:.0f}x",
        f"{flops(work) * WHOLE / median['whole'] / peak_flops():.0%}",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB",
    ]


HEADER = [
    "workload",
    "path",
    "baseline, a direction",
    f"whole curves ({WHOLE} coefficients)",
    f"radii (baseline: {RADII} coefficients)",
    "work done / sgemm peak",
    "peak memory",
]


def table(rows: list[list[str]]) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help=f"one of {', '.join(NAMES)}; all by default")
    names = parser.parse_args().names or list(NAMES)
    if unknown := set(names) - set(NAMES):
        parser.error(f"{sorted(unknown)[0]!r} is not a workload; allowed: {', '.join(NAMES)}")
    torch.set_num_threads(1)
    rows = []
    for name in names:
        with get_context("spawn").Pool(1) as pool:  # a process of its own, so that the peak memory is its own
            rows.append(pool.apply(measure, (name,)))
        print(" | ".join(rows[-1]), flush=True)
    workers = two_processes(SHARED)
    print(f"two processes on {SHARED}: {workers:.2f}x", flush=True)
    if names == list(NAMES):
        machine = f"{cpu_name()}, 1 thread, torch {torch.__version__}, sgemm {peak_flops() / 1e9:.0f} GFLOP/s"
        note = f"Two one-thread processes on {SHARED}: {workers:.2f}x the throughput of one."
        content = f"Measured on: {machine}.\n\n{table(rows)}\n\n{note}"
        for page in PAGES:
            page.write_text(between(page.read_text(encoding="utf-8"), "table", content), encoding="utf-8")
    return 0


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
