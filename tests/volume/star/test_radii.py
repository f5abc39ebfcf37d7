"""Radii: the crossing itself, against closed forms, brentq and bisection."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers import classifier, normal, xi_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor, nn

from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.radii import Radii, default_tolerance, find_radii

SEEDS = range(1, 31)


class OnRay(nn.Module):
    """One parameter w, 0 at the minimum: the loss along any direction is a given function of |w|, the radius."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.abs() * x


def ray_radii(
    function: Callable[[Tensor], Tensor],
    threshold: float,
    grid: np.ndarray,
    max_coefficient: float = 4096.0,  # the smallest |xi| of these seeds is 0.002
    ceiling: float | None = None,
    tolerance: float | None = None,
    seeds: range = SEEDS,
) -> Radii:
    """Radii of a function of the radius."""
    engine = LossEngine(
        OnRay(), torch.ones(2, 1, dtype=torch.float64), torch.zeros(2), lambda out, y: function(out.squeeze(1))
    )
    curves = trace_curves(engine, seeds, grid, ceiling)
    condition = Condition("loss", threshold)
    found, _ = find_radii(engine, curves, [2], [condition], max_coefficient=max_coefficient, tolerance=tolerance)
    return found[2, condition]


XI = np.array([abs(xi_of(seed, (1,))[0].item()) for seed in SEEDS])


# --------------------------------------------------------------------------------------------- known radii


@pytest.mark.parametrize("n", [1, 4, 12])
@pytest.mark.parametrize("scaling", ["none", "filter"])
def test_radii_of_a_quadratic(n: int, scaling: str):
    """r = ||xi|| sqrt(2 eps / d'Hd) with H = 2 X'X / T, at three thresholds, to 1e-4 (default) and 1e-9 (when asked for)."""
    x, model = normal(3 * n, n), nn.Linear(n, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(normal(1, n, seed=1))
    engine = LossEngine(model, x, model(x).detach(), "mse", scaling=scaling)
    curves = trace_curves(engine, SEEDS, np.linspace(0, 1, 12) ** 2)
    conditions = [Condition("loss", t) for t in (1e-3, 0.1, 5.0)]
    factor = 1.0 if scaling == "none" else model.weight.norm().item()
    for tolerance in (None, 1e-9):
        found, _ = find_radii(engine, curves, [3 * n], conditions, max_coefficient=65536, tolerance=tolerance)
        for condition in conditions:
            radii = found[3 * n, condition]
            for i, seed in enumerate(SEEDS):
                xi = xi_of(seed, (1, n))[0].flatten()
                quadratic = (factor * (x @ xi)).square().mean().item()
                expected = math.sqrt(condition.threshold / quadratic) * xi.norm().item()
                assert radii.radius[i] == pytest.approx(expected, rel=tolerance or 1e-4)
            assert not radii.censored.any()
            assert not radii.outside
            assert radii.start < 1e-25


@pytest.mark.parametrize("threshold", [0.3, 0.5, 2.0])
@pytest.mark.parametrize("tolerance", [None, 1e-10])
def test_radii_of_a_logistic_regression(threshold: float, tolerance: float | None):
    """Convex along every ray, not quadratic: float64 brentq finds the same single crossing."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.5, 1.0, 0.5]]))
        model.bias.fill_(0.3)
        y = (torch.rand(50, generator=generator, dtype=torch.float64) < torch.sigmoid(2 * model(x)[:, 0])).double()
    engine = LossEngine(model, x, y, "bce_with_logits", scaling="none")
    start = engine.start.loss[0, 0]
    assert start < 0.29
    curves = trace_curves(engine, SEEDS, np.linspace(0, 1, 12) ** 2, 1.0)
    condition = Condition("loss", threshold)
    found, _ = find_radii(engine, curves, [50], [condition], max_coefficient=512, tolerance=tolerance)
    radii = found[50, condition]
    xs, weight = x.numpy(), model.weight.detach().numpy()[0]
    sign = 2 * y.numpy() - 1
    for i, seed in enumerate(SEEDS):
        step, shift = (t.flatten().numpy() for t in xi_of(seed, (1, 4), (1,)))

        def excess(c: float, step=step, shift=shift) -> float:
            logits = xs @ (weight + c * step) + 0.3 + c * shift[0]
            return float(np.logaddexp(0, -sign * logits).mean()) - threshold

        end = 1e-3
        while excess(end) < 0:
            end *= 1.3
        expected = brentq(excess, 0, end, xtol=1e-14, rtol=1e-14)
        assert radii.coefficient[i] == pytest.approx(expected, rel=tolerance or 1e-4)
        norm = math.sqrt((step**2).sum() + shift[0] ** 2)
        assert radii.radius[i] == pytest.approx(expected * norm, rel=tolerance or 1e-4)


def test_float32_radii_agree_with_float64():
    """A float32 MLP: radii within 1e-4 of its float64 copy's; the tolerance stays at or above its floor of 2e-6."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(2, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2))
    x = normal(80, 2).float()
    y = model(x).argmax(1)
    condition, radii = Condition("loss", 0.8), []
    for dtype in (torch.float32, torch.float64):
        engine = LossEngine(model.to(dtype), x.to(dtype), y)
        curves = trace_curves(engine, SEEDS, np.linspace(0, 1, 34) ** 2, 1.0)
        found, _ = find_radii(engine, curves, [80], [condition], max_coefficient=16)
        radii.append(found[80, condition])
        n = engine.directions.num_params
        assert default_tolerance(engine) == pytest.approx(0.003 / n if dtype == torch.float64 else max(0.003 / n, 2e-6))
    np.testing.assert_allclose(radii[0].radius, radii[1].radius, rtol=1e-5)
    assert (radii[0].radius != radii[1].radius).any()


def test_several_landscapes_and_conditions_at_once():
    """Each (size, condition) is what it is alone, bit for bit."""
    engine, _ = classifier()
    curves = trace_curves(engine, SEEDS, np.linspace(0, 1, 20) ** 2, 1.0)
    conditions = [Condition("loss", 0.5), Condition("loss", 0.9), Condition("accuracy", 0.8)]
    together, _ = find_radii(engine, curves, [20, 60], conditions, max_coefficient=16)
    for size in (20, 60):
        for condition in conditions:
            alone, _ = find_radii(engine, curves, [size], [condition], max_coefficient=16)
            assert np.array_equal(together[size, condition].radius, alone[size, condition].radius)
    assert (together[60, conditions[1]].radius > together[60, conditions[0]].radius).all()


# --------------------------------------------------------------------------------------------- awkward rays


def wavy(r: Tensor) -> Tensor:
    return r * (1 + 0.9 * torch.sin(7 * r))


def test_rays_that_reenter():
    """The first crossing on the grid counts, and rays that are inside again further out are flagged; both by a fine scan."""
    grid = np.linspace(0, 1.5, 301)
    radii = ray_radii(wavy, 0.5, grid, tolerance=1e-9)
    root = brentq(lambda r: r * (1 + 0.9 * math.sin(7 * r)) - 0.5, 0, 0.4)
    outside = wavy(torch.tensor(grid[None] * XI[:, None])).numpy() > 0.5
    on_grid = outside.any(1)
    assert on_grid.sum() >= 20
    np.testing.assert_allclose(radii.radius[on_grid], root, rtol=1e-8)
    again = np.array([bool((~row[row.argmax() :]).any()) and bool(row.any()) for row in outside])
    assert again.any()
    assert not again.all()
    assert np.array_equal(radii.reentered, again)


def test_a_minimum_outside():
    """A loss at c = 0 above the threshold: NaN radii, outside, neither censored nor re-entered."""
    radii = ray_radii(lambda r: 1 + r, 0.5, np.linspace(0, 1, 5))
    assert radii.outside
    assert radii.start == 1.0
    assert np.isnan(radii.radius).all()
    assert np.isnan(radii.coefficient).all()
    assert not radii.censored.any()


def test_a_start_exactly_at_the_threshold_is_inside():
    """loss <= threshold is inside; the crossing is where the loss begins to rise."""
    radii = ray_radii(lambda r: 0.5 + (r - 0.2).clamp_min(0), 0.5, np.linspace(0, 1, 9), tolerance=1e-6)
    assert not radii.outside
    np.testing.assert_allclose(radii.radius, 0.2, rtol=1e-5)


@pytest.mark.parametrize("largest", [1.0, 3.0, 8.0])
def test_rays_that_never_cross(largest: float):
    """Censored at max_coefficient, which is kept as the lower bound; no coefficient beyond it is evaluated."""
    seen = []

    def saturating(r: Tensor) -> Tensor:
        seen.append(r.detach().max().item())
        return 0.3 * torch.tanh(r)

    radii = ray_radii(saturating, 0.5, np.linspace(0, 1, 6), max_coefficient=largest)
    assert radii.censored.all()
    np.testing.assert_array_equal(radii.coefficient, largest)
    np.testing.assert_allclose(radii.radius, largest * XI)
    assert max(seen) == pytest.approx(largest * XI.max())


def test_rays_that_cross_past_the_grid():
    """Doubling finds a crossing between grid and max_coefficient; one just beyond max_coefficient is censored."""
    radii = ray_radii(lambda r: r**2, 25.0, np.linspace(0, 0.5, 6), max_coefficient=20, tolerance=1e-9)
    reached = XI * 20 > 5
    assert reached.any()
    assert not reached.all()
    assert np.array_equal(radii.censored, ~reached)
    np.testing.assert_allclose(radii.radius[reached], 5.0, rtol=1e-8)
    np.testing.assert_allclose(radii.radius[~reached], 20 * XI[~reached])


@pytest.mark.parametrize("radius", [1e-3, 1e-7])
def test_rays_that_cross_in_the_first_cell(radius: float):
    """Between 0, where the loss is 0 and has no logarithm, and the first grid point."""
    radii = ray_radii(lambda r: (r / radius) ** 2, 1.0, np.linspace(0, 1, 5), tolerance=1e-9)
    np.testing.assert_allclose(radii.radius, radius, rtol=1e-8)


def test_a_loss_of_exactly_zero_around_the_minimum():
    """log 0 = -infinity inside: bisection, then the secant, to the kink's far side."""
    radii = ray_radii(lambda r: (r - 0.7).clamp_min(0) * 3, 0.6, np.linspace(0, 4, 9), tolerance=1e-9)
    np.testing.assert_allclose(radii.radius, 0.9, rtol=1e-8)


def test_a_loss_of_ones_own_may_be_negative():
    """A negative loss is inside a positive threshold."""
    radii = ray_radii(lambda r: r**3 - 2, 0.5, np.linspace(0, 2, 4), tolerance=1e-9)
    np.testing.assert_allclose(radii.radius, 2.5 ** (1 / 3), rtol=1e-8)
    assert radii.start == -2


@pytest.mark.parametrize("far", [math.nan, math.inf])
def test_a_loss_that_breaks_down_far_out(far: float):
    """NaN and infinity are outside: the radius is where the loss stops being a number."""
    radii = ray_radii(lambda r: torch.where(r < 0.8, 0.1 * r, far), 0.5, np.linspace(0, 1, 6), tolerance=1e-8)
    np.testing.assert_allclose(radii.radius, 0.8, rtol=1e-7)


def test_a_jump():
    """A loss that jumps over the threshold has its radius at the jump."""
    radii = ray_radii(lambda r: torch.where(r <= 0.37, 0.2 + 0.1 * r, 50.0), 0.5, np.linspace(0, 1, 6), tolerance=1e-8)
    np.testing.assert_allclose(radii.radius, 0.37, rtol=1e-7)


def test_an_error_rate_as_a_loss():
    """A step function with its last step inside exactly at the threshold."""
    radii = ray_radii(lambda r: torch.floor(5 * r) / 10, 0.3, np.linspace(0, 1, 6), tolerance=1e-8)
    np.testing.assert_allclose(radii.radius, 0.8, rtol=1e-7)


def test_flat_directions():
    """All scalings 0: nothing moves, every ray is censored, and ||xi|| counts the moving entries alone."""
    model = nn.Linear(3, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    engine = LossEngine(model, normal(9, 3), torch.zeros(9, 1), "mse")
    curves = trace_curves(engine, SEEDS, np.linspace(0, 1, 5), 1.0)
    condition = Condition("loss", 0.1)
    found, _ = find_radii(engine, curves, [9], [condition], max_coefficient=16)
    radii = found[9, condition]
    assert radii.censored.all()
    assert not radii.radius.any()
    assert (radii.coefficient == 16).all()


def test_a_threshold_above_the_ceiling_continues_the_curve():
    """Same radii as from a whole curve; the returned curve is filled up to the new crossing, and the given one is not changed."""
    grid = np.linspace(0, 3, 61)
    engine = LossEngine(
        OnRay(), torch.ones(2, 1, dtype=torch.float64), torch.zeros(2), lambda out, y: out.squeeze(1) ** 2
    )
    low, whole = trace_curves(engine, SEEDS, grid, 0.01), trace_curves(engine, SEEDS, grid)
    before = low.loss.copy()
    condition = Condition("loss", 0.49)
    found, continued = find_radii(engine, low, [2], [condition], max_coefficient=4096, tolerance=1e-9)
    expected, unchanged = find_radii(engine, whole, [2], [condition], max_coefficient=4096, tolerance=1e-9)
    np.testing.assert_allclose(found[2, condition].radius, 0.7, rtol=1e-8)
    np.testing.assert_allclose(expected[2, condition].radius, 0.7, rtol=1e-8)
    assert np.array_equal(low.loss, before, equal_nan=True)
    assert np.array_equal(unchanged.loss, whole.loss)
    for d in range(len(SEEDS)):
        crossed = whole.loss[0, d] > 0.49
        end = crossed.argmax() + 1 if crossed.any() else len(grid)
        assert np.array_equal(continued.loss[0, d, :end], whole.loss[0, d, :end])
        assert np.isnan(continued.loss[0, d, end:]).all()
    assert (np.isnan(before) & ~np.isnan(continued.loss)).any()


@given(
    st.lists(st.tuples(st.floats(0.02, 1.0), st.floats(0.0, 3.0)), min_size=1, max_size=6),
    st.floats(0.05, 0.95),
    st.integers(2, 12),
    st.sampled_from([1.0, 2.0, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_any_increasing_loss(pieces: list[tuple[float, float]], share: float, points: int, power: float):
    """Piecewise linear with flat parts, steep parts and kinks: the loss passes the threshold within 1e-6 of the radius."""
    widths, heights = (np.array(column) for column in zip(*pieces, strict=True))
    knots = np.concatenate([[0], np.cumsum(widths), [widths.sum() + 1]])
    values = np.concatenate([[0], np.cumsum(heights), [heights.sum() + 1]])

    def function(r: Tensor) -> Tensor:
        beyond = (r - knots[-1]).clamp_min(0)
        return torch.from_numpy(np.interp(r.numpy(), knots, values)) + beyond

    threshold = share * values[-1]
    radii = ray_radii(function, threshold, np.linspace(0, 2, points) ** power, 1e4, tolerance=1e-7, seeds=range(1, 8))
    assert not radii.censored.any()
    assert (function(torch.from_numpy(radii.radius * (1 - 1e-6))) <= threshold).all()
    assert (function(torch.from_numpy(radii.radius * (1 + 1e-6))) >= threshold).all()


class Cliff(nn.Module):
    """Loss 0.5 * (1 - below) up to radius 0.55, then 5: just under the threshold, then a jump."""

    def __init__(self, below: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
        self.below = below

    def forward(self, x):
        radius = (self.weight - 1).abs()
        return torch.where(radius < 0.55, 0.5 * (1 - self.below), 5.0).expand(len(x), 1)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
@pytest.mark.parametrize("below", [1e-2, 1e-4, 1e-6])
def test_a_plateau_just_under_the_threshold_is_followed_to_its_edge(below: float, tolerance: float):
    """A secant across the jump must not pass for convergence."""
    x = torch.zeros(1, 1, dtype=torch.float64)
    engine = LossEngine(Cliff(below), x, x, lambda outputs, targets: outputs.squeeze(1), fast=False)
    curves = trace_curves(engine, [1, 2, 3], np.linspace(0, 3, 16), 0.5)
    condition = Condition("loss", 0.5)
    found, _ = find_radii(engine, curves, [1], [condition], max_coefficient=16.0, tolerance=tolerance)
    radii = found[1, condition]
    assert radii.radius == pytest.approx(np.full(3, 0.55), rel=2 * tolerance)
