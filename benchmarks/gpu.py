"""Everything that a GPU is needed for, in at most eight minutes: the tests that ask for one, then how fast it is. Run by `make test-gpu`.

First what the device can do in matrix products of single precision and of TF32; then networks of the general path beside a naive loop, the
engine's workloads beside the published loop on the same device, and particles of splitting. Loop and engine compute in float32: torch by
itself would convolve in TF32. A row that fails says how, and the next one follows. The table goes into benchmarks/README.md. `--device cpu
--quick` tries the script itself where there is no GPU, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from engine import RADII, WHOLE, cpu_name, radii, whole_curves
from general import WORKS, naive
from large import NETWORKS, measured
from pages import between
from reference_loop import published_sweep
from workloads import LOSSES, Workload, build, published_grid

from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.precision import full_precision

SECONDS = 8 * 60
TESTS_SECONDS = 240
ROUNDS = 3
PROCESSES = min(4, os.cpu_count() or 1)  # of the tests, on one device
WORKLOADS = ("swiss roll x5", "MNIST MLP [256,128]", "MNIST CNN", "CIFAR MLP", "CIFAR CNN")
SPLIT = "MNIST MLP [256,128]"  # the workload whose particles are timed
ROOT = Path(__file__).parent.parent
HEADER = ["what", "path", "loop", "engine", "ratio", "peak memory"]
Row = list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="the smallest workload of each kind, no tests")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no GPU on this machine: nothing was tested, nothing was measured")
        return 0
    deadline = time.monotonic() + SECONDS
    passed = True if given.quick else run_tests()
    rows: list[Row] = []
    for name, work in measurements(device, given.quick):
        rows.append(attempt(name, work, deadline))
        print(" | ".join(rows[-1]), flush=True)
    failed = [row for row in rows if "failed" in row[-1]]
    if device.type == "cuda" and not given.quick:
        machine = f"{torch.cuda.get_device_name()}, {cpu_name()}, torch {torch.__version__}"
        tests = "every test that needs a GPU passed" if passed else "some tests that need a GPU FAILED"
        page = ROOT / "benchmarks" / "README.md"
        lines = ["| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *rows)]
        content = "\n".join([f"Measured on: {machine}; {tests}.", "", *lines])
        page.write_text(between(page.read_text(encoding="utf-8"), "gpu", content), encoding="utf-8")
    return 0 if passed and not failed else 1


def run_tests() -> bool:
    """Run all tests that carry the mark `gpu`."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--numprocesses={PROCESSES}", "tests"]
    try:
        return subprocess.run(command, cwd=ROOT, timeout=TESTS_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"the tests took more than {TESTS_SECONDS} s and were ended")
        return False


def measurements(device: torch.device, quick: bool) -> list[tuple[str, Callable[[], Row]]]:
    """What is measured, cheap things first."""
    steps: list[tuple[str, Callable[[], Row]]] = [
        ("matrix product, single precision", lambda: products(device, False)),
        ("matrix product, TF32", lambda: products(device, True)),
    ]
    for name in list(WORKS)[: 1 if quick else None]:
        steps.append((name, lambda name=name: general(name, device)))  # type: ignore[misc]
    for name in WORKLOADS[: 1 if quick else None]:
        steps.append((name, lambda name=name: curves(name, device, quick)))  # type: ignore[misc]
    name = WORKLOADS[0] if quick else SPLIT
    steps.append((f"particles, {name}", lambda: particles(name, device)))
    if not quick:
        for large in NETWORKS:
            steps.append((f"log mass, {large}", lambda large=large: log_mass(large, device)))  # type: ignore[misc]
    return steps


def attempt(name: str, work: Callable[[], Row], deadline: float) -> Row:
    """A row of the table, or what went wrong."""
    if time.monotonic() > deadline:
        return [name, *["-"] * 4, f"not measured: {SECONDS // 60} minutes were over"]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        with full_precision():
            row = work()
    except Exception as error:  # the next row must still be measured
        return [name, *["-"] * 4, f"failed: {' '.join(f'{type(error).__name__}: {error}'.split())[:150]}"]
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if torch.cuda.is_available() else "-"
    return [name, *row, memory]


def seconds(function: Callable[[], object]) -> float:
    """The median of a few rounds after one that warms up; a GPU is waited for."""
    taken = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])


def products(device: torch.device, tf32: bool) -> Row:
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        speed = 2 * size**3 / seconds(lambda: a @ a)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return ["-", "-", f"{speed / 1e12:.2f} TFLOP/s", "-"]


def moved(work: Workload, device: torch.device) -> Workload:
    """The workload on another device."""
    models = {level: model.to(device) for level, model in work.models.items()}
    return replace(work, models=models, x=work.x.to(device), y=work.y.to(device))


def curves(name: str, device: torch.device, quick: bool) -> Row:
    """Milliseconds a direction, whole curves (and radii) beside the published loop."""
    work = moved(build(name), device)
    count = 4 if quick else 4 * work.directions
    few = published_grid(work.baseline_coefficients)
    loss = LOSSES[work.loss]
    loop = seconds(lambda: published_sweep(work.models, work.x, work.y, loss, work.sizes, [1], few)) / len(few)
    whole = statistics.median(whole_curves(work, count) for _ in range(ROUNDS))
    crossings = statistics.median(radii(work, count) for _ in range(ROUNDS))
    path = LossEngine(work.models[max(work.models)], work.x, work.y, work.loss, list(work.sizes.values())).path.name
    return [
        path,
        f"{1e3 * loop * WHOLE:.1f} ms",
        f"{1e3 * whole:.2f} ms; radii {1e3 * crossings:.2f} ms",
        f"{loop * WHOLE / whole:.1f}x; radii {loop * RADII / crossings:.1f}x",
    ]


def general(name: str, device: torch.device) -> Row:
    """Milliseconds a point on the longest landscape."""
    work, generator = WORKS[name], torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model, x = work.make().eval().to(device), work.x(generator)
    y = torch.randint(10, (len(x),), generator=generator).to(device)
    x, size = x.to(device), work.sizes[-1:]
    engine = LossEngine(model, x, y, "cross_entropy", size)
    direction, names = engine.directions.draw(1)[0], list(engine.directions.names)
    rays, c = engine.rays([1]), np.linspace(0, 0.3, work.count)
    loop = seconds(lambda: naive(model, names, x, y, size, direction, c)) / work.count
    ours = seconds(lambda: rays.evaluate(np.zeros(work.count, int), c)) / work.count
    return [engine.path.name, f"{1e3 * loop:.3g} ms", f"{1e3 * ours:.3g} ms", f"{loop / ours:.2f}x"]


def particles(name: str, device: torch.device) -> Row:
    """Milliseconds a particle: its numbers drawn, its loss measured."""
    work = moved(build(name), device)
    level = max(work.models)
    cloud = Particles(LossEngine(work.models[level], work.x, work.y, work.loss), 0.1)
    generator, count = cloud.generator(0), 512
    drawing = seconds(lambda: cloud.draw(count, generator))
    z = cloud.draw(count, generator)
    evaluating = seconds(lambda: cloud.evaluate(z, accuracy=False))
    each = f"{1e3 * evaluating / count:.3g} ms; drawing {1e3 * drawing / count:.3g} ms"
    return [cloud.engine.path.name, "-", each, "-"]


def log_mass(name: str, device: torch.device) -> Row:
    """Seconds until a large network's log mass is known."""
    row = measured(name, device.type)
    return ["-", "-", f"{row} in {row.seconds:.0f} s; {row.volume.num_forward:,} evaluations", "-"]


if __name__ == "__main__":
    sys.exit(main())
