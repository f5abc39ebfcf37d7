"""The engine's memory is bounded by its budget, whatever the number of directions, coefficients and samples."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from minima_volume.models.mlp import MLP
from minima_volume.perturbation.engine import LossEngine

# peak memory above what was there before, in MiB
MEASURE = """
import resource, sys
import numpy as np
import torch
torch.set_num_threads(1)
from minima_volume.models.cnn import CNN
from minima_volume.models.mlp import MLP
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles

kind, directions, coefficients, samples, budget = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
torch.manual_seed(0)
model = CNN((1, 28, 28), 10, [8, 8], [32]) if kind == "cnn" else MLP((1, 28, 28), 10, [128, 64])
x, y = torch.randn(samples, 1, 28, 28), torch.randint(0, 10, (samples,))
model(x[:50])
engine = LossEngine(model, x, y, memory_gib=budget / 1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if kind == "particles":
    particles = Particles(engine, 0.1)
    z = particles.draw(50, particles.generator(0))
    for _ in range(directions // 50):
        particles.evaluate(z)
else:
    trace_curves(engine, range(directions), np.linspace(0, 1, coefficients))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def peak(kind: str, directions: int, coefficients: int, samples: int, budget: float) -> float:
    sizes = map(str, (directions, coefficients, samples, budget))
    run = subprocess.run([sys.executable, "-c", MEASURE, kind, *sizes], capture_output=True, text=True, check=True)
    return float(run.stdout)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "particles"])
def test_flat_in_directions_and_coefficients(kind: str) -> None:
    """400 directions of the perceptron are 170 MiB with their first-layer products 240 MiB; the budget is 48."""
    samples = 400 if kind != "cnn" else 100
    few = peak(kind, 50, 5, samples, 48.0)
    many = peak(kind, 400 if kind != "cnn" else 150, 20 if kind != "cnn" else 10, samples, 48.0)
    assert many < few + 60
    assert many < 48 + 72  # what torch itself takes on first use comes on top


def test_held_directions_follow_the_budget_and_the_samples() -> None:
    """First-layer products count: the more samples, the fewer directions are held; one is always held."""
    model = MLP((784,), 10, [128])

    def held(samples: int, gib: float) -> int:
        x, y = torch.zeros(samples, 784), torch.zeros(samples, dtype=torch.long)
        engine = LossEngine(model, x, y, memory_gib=gib)
        bytes_held = engine.group_size * engine.path.bytes_per_direction + engine.path.bytes_for_samples
        assert bytes_held <= gib * 2**30 or engine.group_size == 1
        return engine.group_size

    assert held(1000, 0.1) > held(8000, 0.1) > 1
    assert held(1000, 0.05) < held(1000, 0.1)
    assert held(1000, 1e-6) == 1
