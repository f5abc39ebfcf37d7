"""Curves along directions: where they stop and what they hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minima_volume.perturbation.curves import finite_or_inf, trace_curves
from minima_volume.perturbation.directions import draw_gaussian
from minima_volume.perturbation.engine import LossEngine

GRID = np.linspace(0, 1, 15) ** 2
SEEDS = range(3, 12)


class OneNumber(nn.Module):
    """Its only parameter w, repeated for every sample and multiplied by it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def square(outputs: Tensor, y: Tensor) -> Tensor:
    return outputs.squeeze(1) ** 2


def square_root_of_negative(outputs: Tensor, y: Tensor) -> Tensor:
    """NaN for |w| above 1 / 2."""
    return torch.sqrt(0.5 - outputs.abs().squeeze(1))


def noisy_engine(loss: str = "cross_entropy") -> LossEngine:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        x = torch.randn(60, 3, generator=generator, dtype=torch.float64)
        y = model(x).argmax(1)
    return LossEngine(model, x, y, loss, [20, 60])


def test_curves_of_a_known_function():
    """The loss at c is (c xi)^2 times the mean square of the samples; norms are |xi|; nothing is stopped without a ceiling."""
    x = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    engine = LossEngine(OneNumber(), x, torch.zeros(3), square, [1, 3])
    curves = trace_curves(engine, SEEDS, GRID)
    xi = np.array([draw_gaussian(s, [torch.Size([1])])[0].item() for s in SEEDS])
    expected = np.array([1.0, 35 / 3])[:, None, None] * (GRID * xi[:, None]) ** 2
    np.testing.assert_allclose(curves.loss, expected, rtol=1e-12)
    np.testing.assert_allclose(curves.norms, np.abs(xi), rtol=1e-12)
    assert np.isnan(curves.accs).all()
    assert curves.seeds.tolist() == list(SEEDS)
    assert np.array_equal(curves.coefficients, GRID)


@pytest.mark.parametrize("ceiling", [0.05, 0.4, 1.0, 3.0, 1e9])
@pytest.mark.parametrize("fast", [True, False])
def test_early_stop_keeps_the_curve_until_every_landscape_has_passed(ceiling: float, fast: bool):
    """Against the whole curve: equal up to and including the first such coefficient, NaN beyond, direction by direction."""
    engine = noisy_engine()
    if not fast:
        engine.path, engine._y = engine.general, engine.y
    whole, stopped = trace_curves(engine, SEEDS, GRID), trace_curves(engine, SEEDS, GRID, ceiling)
    assert not np.isnan(whole.loss).any()
    assert not np.isnan(whole.accs).any()
    ends = set()
    for d in range(len(SEEDS)):
        passed = [False, False]
        end = len(GRID)
        for c in range(len(GRID)):
            passed = [p or whole.loss[k, d, c] > ceiling for k, p in enumerate(passed)]
            if all(passed):
                end = c + 1
                break
        ends.add(end)
        for now, before in ((stopped.loss, whole.loss), (stopped.accs, whole.accs)):
            assert np.array_equal(now[:, d, :end], before[:, d, :end])
            assert np.isnan(now[:, d, end:]).all()
    assert ends == {len(GRID)} if ceiling == 1e9 else len(ends) > 1


def test_a_minimum_above_the_ceiling_keeps_its_start_alone():
    """The loss at c = 0 has passed the ceiling already: one column, the rest NaN."""
    model = nn.Linear(2, 3).double()
    engine = LossEngine(model, torch.ones(6, 2, dtype=torch.float64), torch.arange(6) % 3)
    curves = trace_curves(engine, SEEDS, GRID, 0.01)
    assert np.isfinite(curves.loss[:, :, 0]).all()
    assert np.isnan(curves.loss[:, :, 1:]).all()


def test_nan_losses_are_stored_as_infinity():
    """NaN means not evaluated; a model that computes NaN has an infinite loss and has passed any ceiling."""
    ones = torch.ones(4, 1, dtype=torch.float64)
    engine = LossEngine(OneNumber(), ones, torch.zeros(4), square_root_of_negative)
    whole = trace_curves(engine, SEEDS, GRID)
    xi = np.array([draw_gaussian(s, [torch.Size([1])])[0].item() for s in SEEDS])
    broken = GRID * np.abs(xi)[:, None] > 0.5
    assert broken.any()
    assert not broken.all(1).any()
    assert np.array_equal(np.isinf(whole.loss[0]), broken)
    assert not np.isnan(whole.loss).any()
    stopped = trace_curves(engine, SEEDS, GRID, 100.0)
    for d in range(len(SEEDS)):
        first = broken[d].argmax() if broken[d].any() else len(GRID)
        assert np.isnan(stopped.loss[0, d, first + 1 :]).all()
        assert not np.isnan(stopped.loss[0, d, : first + 1]).any()
    assert np.array_equal(finite_or_inf(np.array([np.nan, -1.0, np.inf])), [np.inf, -1.0, np.inf])


@pytest.mark.parametrize("ceiling", [None, 0.4])
def test_progress_counts_every_direction_once(ceiling: float | None):
    """The numbers handed to on_done add up to the number of directions."""
    counts: list[int] = []
    trace_curves(noisy_engine(), SEEDS, GRID, ceiling, counts.append)
    assert sum(counts) == len(SEEDS)
