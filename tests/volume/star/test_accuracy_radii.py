"""Radii by accuracy: the margin score against bisection on the accuracy itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import classifier, normal, xi_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import find_radii

SEEDS = range(1, 31)


@pytest.mark.parametrize(
    ("threshold", "size", "wrong"),
    [
        (0.9, 60, 6),
        (0.95, 20, 1),
        (1.0, 60, 0),
        (0.8, 10, 2),
        (0.7, 10, 3),
        (0.99, 60, 0),
        (0.999, 1000, 1),
        (0.01, 10, 9),
    ],
)
def test_wrong_allowed(threshold: float, size: int, wrong: int):
    """floor((1 - a) T) in exact arithmetic, and at least one sample must be right; the curve's test agrees with it."""
    condition = Condition("accuracy", threshold)
    assert condition.wrong_allowed(size) == wrong
    accs = np.array([(size - wrong) / size, (size - wrong - 1) / size, np.nan])
    assert condition.inside(np.zeros(3), accs, size).tolist() == [True, False, False]


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_wrong_allowed_of_a_whole_number_of_samples(right: int, wrong: int):
    """An accuracy threshold of exactly right / T allows exactly `wrong` of them, whatever the rounding of the quotient."""
    assert Condition("accuracy", right / (right + wrong)).wrong_allowed(right + wrong) == wrong


@pytest.mark.parametrize(("size", "threshold"), [(60, 0.9), (20, 0.95), (60, 1.0), (60, 0.5)])
def test_accuracy_radii_equal_bisection_on_the_accuracy(size: int, threshold: float):
    """Brute force: the first grid cell in which the accuracy falls, bisected on the step function itself; 1e-6 relative."""
    engine, model = classifier()
    grid = np.linspace(0, 2, 400)
    condition = Condition("accuracy", threshold)
    curves = trace_curves(engine, SEEDS, grid)
    found, _ = find_radii(engine, curves, [size], [condition], max_coefficient=2, tolerance=1e-7)
    radii = found[size, condition]
    assert radii.start == 1.0
    theta = [p.detach().clone() for p in model.parameters()]
    x, y = normal(60, 2), engine.y
    crossed = 0
    for i, seed in enumerate(SEEDS):
        steps = [
            xi * (p.norm(dim=1, keepdim=True) if p.ndim > 1 else 1)
            for xi, p in zip(xi_of(seed, *(tuple(p.shape) for p in theta)), theta, strict=True)
        ]

        def wrong(c: float, steps=steps) -> int:
            w1, b1, w2, b2 = (p + c * s for p, s in zip(theta, steps, strict=True))
            return int((F.linear(torch.tanh(F.linear(x[:size], w1, b1)), w2, b2).argmax(1) != y[:size]).sum())

        allowed = round((1 - threshold) * size)
        high = next((c for c in grid if wrong(c) > allowed), None)
        assert radii.censored[i] == (high is None)
        if high is None:
            assert radii.coefficient[i] == 2
            continue
        crossed += 1
        low = grid[list(grid).index(high) - 1]
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if wrong(middle) > allowed else (middle, high)
        assert radii.coefficient[i] == pytest.approx(low, rel=1e-6)
        norm = math.sqrt(sum(xi.square().sum().item() for xi in xi_of(seed, *(tuple(p.shape) for p in theta))))
        assert radii.radius[i] == pytest.approx(low * norm, rel=1e-6)
    assert crossed >= 20


def test_accuracy_of_tokens():
    """With several tokens a sample the accuracy threshold counts tokens: at the radius exactly the allowed number turns wrong."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 5), nn.Linear(5, 9)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.embed(x)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tokens().double()
    x = torch.randint(9, (8, 5), generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(-1)
    engine, condition = LossEngine(model, x, y), Condition("accuracy", 0.7)
    curves = trace_curves(engine, SEEDS, np.linspace(0, 2, 40))
    found, _ = find_radii(engine, curves, [8], [condition], max_coefficient=4, tolerance=1e-9)
    radii = found[8, condition]
    rows = np.flatnonzero(~radii.censored)
    assert len(rows) >= 20
    for factor, inside in ((1 - 1e-7, True), (1 + 1e-7, False)):
        rays = engine.rays(list(SEEDS))
        share = rays.evaluate(rows, radii.coefficient[rows] * factor).accuracy[0]
        assert ((share >= 0.7 - 1e-12) == inside).all()
