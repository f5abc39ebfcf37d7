"""Crossings of curves whose root is known: smooth, bent and torn at it or near it, and known to a few digits only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from minima_volume.volume.star.crossings import crossings

ROWS = 200
ROOT = np.random.default_rng(0).uniform(0.05, 0.9, ROWS)
GRID = np.linspace(0, 1, 12) ** 2
Curve = Callable[[np.ndarray], np.ndarray]


def bent(at: float, ratio: float) -> Curve:
    """Slope 1 up to `at` (in log c), then `ratio`; through the root."""

    def curve(x: np.ndarray) -> np.ndarray:
        over = np.maximum(x - at, 0) - max(-at, 0.0)
        return x + (ratio - 1) * over

    return curve


CURVES: dict[str, Curve] = {
    **{f"power {k:g}": lambda x, k=k: k * x for k in (0.1, 1, 2, 50)},
    "exponential": lambda x: np.expm1(20 * np.expm1(x)),
    "bends upwards": lambda x: x + 3 * x**2 * (x > 0),
    "S": lambda x: np.tanh(8 * x) + 0.01 * x,
    "infinite slope": np.cbrt,
    "jump": lambda x: np.where(x > 0, 1 + x, -1 + 0.1 * np.minimum(x, 0)),
    "small jump up, large slope": lambda x: np.where(x > 0, 1e-3 + x, 30 * x - 1e-9),
    "plateau just inside, then a jump": lambda x: np.where(x > 0, 5.0, -1e-6),
    "plateau at zero": lambda x: np.where(x > 0, x, np.minimum(x + 0.1, 0)),
    "zero is outside": lambda x: np.where(x < 0, x, np.maximum(x, np.finfo(float).tiny)),
    "a plateau at zero is outside": lambda x: np.where(x < 0, x, np.maximum(x - 0.01, np.finfo(float).tiny)),
    "infinite outside": lambda x: np.where(x > 0, np.inf, x - 0.01),
    "steps": lambda x: np.where(x > 0, 1, -1) * (1 + np.floor(10 * np.abs(x))),
    **{
        f"bend at {at:g}, slope times {ratio:g}": bent(at, ratio)
        for at in (-1e-2, -1e-4, -1e-6, 0.0, 1e-6, 1e-4, 1e-2)
        for ratio in (1e-3, 0.3, 3.0, 1e3)
    },
}


def found(curve: Curve, tolerance: float, *, logarithmic: bool = True, digits: float = 0.0) -> tuple[np.ndarray, int]:
    """Crossings of `curve(log(c / root))`, and the evaluations that they took; `digits` is the size of what is added to each value."""
    count = 0

    def values(c: np.ndarray, root: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            x = np.log(c / root)
        return np.where(c > 0, curve(np.maximum(x, -50)), -60.0)

    def score(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        nonlocal count
        count += len(rows)
        exact = values(points, ROOT[rows])
        return exact + digits * np.sin(1e9 * points)

    high = np.searchsorted(GRID, ROOT)
    columns = np.column_stack([high - 1, high, high - 2, high + 1])
    known = (columns >= 0) & (columns < len(GRID))
    points = GRID[np.where(known, columns, 0)]
    scores = np.where(known, values(points, ROOT[:, None]), np.nan)
    return crossings(score, points, scores, tolerance, logarithmic=logarithmic), count


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("tolerance", [1e-4, 2e-6, 1e-11])
@pytest.mark.parametrize("name", CURVES)
def test_a_crossing_is_as_near_as_the_tolerance_says(name: str, tolerance: float, logarithmic: bool):
    points, count = found(CURVES[name], tolerance, logarithmic=logarithmic)
    np.testing.assert_allclose(points, ROOT, rtol=tolerance)
    assert count <= 100 * ROWS


@pytest.mark.parametrize("name", ["power 2", "exponential", "bends upwards"])
def test_values_of_seven_digits(name: str):
    """As single precision gives them, at the tolerance that goes with it."""
    points, _ = found(CURVES[name], 2e-6, digits=1e-7)
    np.testing.assert_allclose(points, ROOT, rtol=2e-6)


@pytest.mark.parametrize(("name", "most"), [("power 2", 3.0), ("exponential", 6.5), ("S", 4.5), ("bends upwards", 4.5)])
def test_smooth_curves_need_few_evaluations(name: str, most: float):
    _, count = found(CURVES[name], 2e-6)
    assert count <= most * ROWS


def test_a_row_does_not_depend_on_the_others():
    curve, alone = CURVES["exponential"], []
    for row in range(0, ROWS, 20):
        high = int(np.searchsorted(GRID, ROOT[row]))
        points = GRID[None, [high - 1, high]]
        with np.errstate(divide="ignore"):
            values = curve(np.maximum(np.log(points / ROOT[row]), -50))
        alone.append(
            crossings(lambda _, c, row=row: curve(np.log(c / ROOT[row])), points, values, 1e-9, logarithmic=True)
        )
    np.testing.assert_allclose(np.concatenate(alone), ROOT[::20], rtol=1e-9)
