"""Radii: where the loss along each direction first passes a threshold, to a stated tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from minima_volume.perturbation.curves import Curves, finite_or_inf
from minima_volume.perturbation.engine import LossEngine, Rays
from minima_volume.volume.condition import Condition

FLOAT32_FLOOR = 2e-6
MAX_STEPS = 80


@dataclass(frozen=True)
class Radii:
    """The radii of one minimum in one landscape at one threshold.

    Attributes:
        coefficient: (D,) c at the crossing; where censored, the largest coefficient still inside.
        radius: (D,) c * ||xi||.
        censored: (D,) True where the loss never passed the threshold up to `max_coefficient`: the radius is a lower bound.
        reentered: (D,) True where a later evaluated grid point is inside again.
        outside: the minimum itself is outside (its loss at c = 0 is above the threshold): radii are NaN.
        start: loss or accuracy at c = 0.
        seeds: (D,) of the directions.
        tolerance: relative tolerance of the coefficients.
    """

    coefficient: np.ndarray
    radius: np.ndarray
    censored: np.ndarray
    reentered: np.ndarray
    outside: bool
    start: float
    seeds: np.ndarray
    tolerance: float


def default_tolerance(engine: LossEngine) -> float:
    """min(1e-4, 0.003 / n): the error of n log r then stays below 0.003; in float32 not below 2e-6, what its losses resolve."""
    tolerance = min(1e-4, 0.003 / max(engine.directions.num_params, 1))
    return tolerance if engine.dtype == torch.float64 else max(tolerance, FLOAT32_FLOOR)


def find_radii(
    engine: LossEngine,
    curves: Curves,
    sizes: list[int],
    conditions: list[Condition],
    *,
    max_coefficient: float | np.ndarray,
    tolerance: float | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> tuple[dict[tuple[int, Condition], Radii], Curves]:
    """Find the first crossing of every direction, in several landscapes and at several thresholds.

    A crossing is bracketed on the stored curve. Where the curve was stopped before the threshold it is continued on the grid;
    past the grid the coefficient doubles up to `max_coefficient`. So the first crossing is the first that these coefficients see: a
    ray that leaves and comes back between two of them is not noticed. Brackets are refined for all directions in lock-step.

    Args:
        engine: the model the curves belong to.
        curves: its curves in all landscapes of the engine.
        sizes: the landscapes that are asked for.
        conditions: the thresholds.
        max_coefficient: where the search ends, (D,) where directions differ in that.
        tolerance: relative, of the coefficient; see `default_tolerance`.
        on_done: called with the number of directions just finished.

    Returns:
        Radii for each (size, condition), and the curves, continued where that was needed.
    """
    tolerance = default_tolerance(engine) if tolerance is None else tolerance
    loss, accs = curves.loss.copy(), curves.accs.copy()
    parts: dict[tuple[int, Condition], list[_Part]] = {
        (size, condition): [] for size in sizes for condition in conditions
    }
    limit = np.broadcast_to(np.asarray(max_coefficient, dtype=np.float64), curves.seeds.shape)
    begin = 0
    for rays in engine.groups(curves.seeds.tolist()):
        part = slice(begin, begin + len(rays.seeds))
        for size in sizes:
            k = engine.sizes.index(size)
            for condition in conditions:
                search = _Search(rays, size, condition, curves.coefficients, loss[k, part], accs[k, part])
                parts[size, condition].append(search.run(limit[part], tolerance))
        begin = part.stop
        on_done(len(rays.seeds))
    radii = {}
    for (size, condition), found in parts.items():
        k = engine.sizes.index(size)
        joined = _Part(*(np.concatenate(column) for column in zip(*(vars(p).values() for p in found), strict=True)))
        start = (loss if condition.kind == "loss" else accs)[k, 0, 0]
        outside = not bool(condition.inside(loss[k, :1, 0], accs[k, :1, 0], size * engine.answers)[0])
        radii[size, condition] = Radii(
            joined.coefficient,
            joined.coefficient * curves.norms,
            joined.censored,
            joined.reentered,
            outside,
            float(start),
            curves.seeds,
            tolerance,
        )
    return radii, replace(curves, loss=loss, accs=accs)


@dataclass(frozen=True)
class _Part:
    coefficient: np.ndarray
    censored: np.ndarray
    reentered: np.ndarray


class _Search:
    """The crossings of one group of directions in one landscape under one condition.

    `loss` and `accs` are (D, C) views into the curves, continued in place.
    """

    def __init__(
        self,
        rays: Rays,
        size: int,
        condition: Condition,
        grid: np.ndarray,
        loss: np.ndarray,
        accs: np.ndarray,
    ) -> None:
        self.rays, self.size, self.condition = rays, size, condition
        self.answers = size * rays.engine.answers
        self.grid, self.loss, self.accs = grid, loss, accs

    def run(self, limit: np.ndarray, tolerance: float) -> _Part:
        count = len(self.rays.seeds)
        if not self._inside()[0, 0]:
            return _Part(np.full(count, np.nan), np.zeros(count, bool), np.zeros(count, bool))
        low, high = self._bracket(limit)
        censored = np.isinf(high)
        reentered = self._reentered()
        coefficient = np.where(censored, low, np.nan)
        rows = np.flatnonzero(~censored)
        if len(rows):
            coefficient[rows] = self._refine(rows, low[rows], high[rows], tolerance)
        return _Part(coefficient, censored, reentered)

    def _inside(self) -> np.ndarray:
        return self.condition.inside(self.loss, self.accs, self.answers)

    def _bracket(self, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each direction the last coefficient inside and the first outside (infinity if there is none up to its limit)."""
        low, high = np.zeros(len(self.loss)), np.full(len(self.loss), np.inf)
        for column in range(1, len(self.grid)):
            pending = np.flatnonzero(np.isinf(high))
            unknown = pending[np.isnan(self.loss[pending, column])]
            if len(unknown):
                values = self.rays.evaluate(unknown, np.full(len(unknown), self.grid[column]), [self.size])
                self.loss[unknown, column] = finite_or_inf(values.loss[0])
                self.accs[unknown, column] = values.accuracy[0]
            inside = self.condition.inside(self.loss[pending, column], self.accs[pending, column], self.answers)
            low[pending[inside]] = self.grid[column]
            high[pending[~inside]] = self.grid[column]
        while len(pending := np.flatnonzero(np.isinf(high) & (low < limit))):
            coefficient = np.minimum(2 * low[pending], limit[pending])
            values = self.rays.evaluate(pending, coefficient, [self.size])
            inside = self.condition.inside(finite_or_inf(values.loss[0]), values.accuracy[0], self.answers)
            low[pending[inside]] = coefficient[inside]
            high[pending[~inside]] = coefficient[~inside]
        return low, high

    def _reentered(self) -> np.ndarray:
        inside, known = self._inside(), ~np.isnan(self.loss)
        left = np.logical_or.accumulate(~inside & known, axis=1)
        return (left & inside & known).any(1)

    def _excess(self, rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """A continuous score of each direction: <= 0 inside, > 0 outside; log(loss / threshold), or minus the margin."""
        if self.condition.kind == "loss":
            values = self.rays.evaluate(rows, coefficients, [self.size], accuracy=False)
            loss = finite_or_inf(values.loss[0])
            return self._log_ratio(loss)
        values = self.rays.evaluate(rows, coefficients, [self.size], [self.condition.wrong_allowed(self.answers)])
        assert values.score is not None
        return np.where(values.score[0] > 0, -values.score[0], np.maximum(-values.score[0], np.finfo(float).tiny))

    def _log_ratio(self, loss: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # a user's own loss may be 0 or negative
            return np.log(np.maximum(loss, 0)) - np.log(self.condition.threshold)

    def _excess_on_grid(self, rows: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """The score at the ends of the brackets: read off the curve for a loss, measured for an accuracy."""
        if self.condition.kind == "accuracy":
            return self._excess(rows, coefficients)
        columns = np.searchsorted(self.grid, coefficients)
        known = columns < len(self.grid)
        excess = np.full(len(rows), np.nan)
        excess[known] = self._log_ratio(self.loss[rows[known], columns[known]])
        if not known.all():
            excess[~known] = self._excess(rows[~known], coefficients[~known])
        return excess

    def _refine(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray, tolerance: float) -> np.ndarray:
        """Safeguarded secant in (log c, log loss) or (c, margin) for all rows in lock-step; bisection where an end is 0 or not finite.

        A row is done when the last step has at least halved the excess and the next one is below a quarter of the tolerance, or
        when its bracket is below the tolerance.
        """
        low, high = low.copy(), high.copy()
        f_low, f_high = self._excess_on_grid(rows, low), self._excess_on_grid(rows, high)
        found = np.full(len(rows), np.nan)
        near_low = np.abs(f_low) < np.abs(f_high)
        last, f_last = np.where(near_low, low, high), np.where(near_low, f_low, f_high)
        previous, f_previous = np.where(near_low, high, low), np.where(near_low, f_high, f_low)
        linear = self.condition.kind == "accuracy"  # margins are nearly linear in c, log losses in log c
        guess = _secant(previous, f_previous, last, f_last, low, high, linear)
        width = _log_width(low, high)
        todo = np.arange(len(rows))
        for step in range(MAX_STEPS):
            point = guess[todo]
            excess = self._excess(rows[todo], point)
            inside = excess <= 0
            nearer = np.abs(excess) <= np.minimum(np.abs(f_low[todo]), np.abs(f_high[todo])) / 2
            low[todo], f_low[todo] = np.where(inside, point, low[todo]), np.where(inside, excess, f_low[todo])
            high[todo], f_high[todo] = (
                np.where(inside, high[todo], point),
                np.where(inside, f_high[todo], excess),
            )
            # the secant goes through the newest point and the better of its predecessor and the bracket's other end
            other, f_other = (
                np.where(inside, high[todo], low[todo]),
                np.where(inside, f_high[todo], f_low[todo]),
            )
            newer = np.abs(f_last[todo]) < np.abs(f_other)
            previous[todo] = np.where(newer, last[todo], other)
            f_previous[todo] = np.where(newer, f_last[todo], f_other)
            last[todo], f_last[todo] = point, excess
            guess[todo] = _secant(previous[todo], f_previous[todo], point, excess, low[todo], high[todo], linear)
            # a small step counts only where the last one brought the excess down: on a plateau just inside a jump the secant's
            # steps are small too, and lead nowhere
            settled = nearer & (np.abs(guess[todo] - point) <= tolerance / 4 * point)
            if step % 3 == 2:  # three steps must have cut the bracket to an eighth, or bisect once
                now = _log_width(low[todo], high[todo])
                slow = now > width[todo] / 8
                guess[todo[slow]] = _middle(low[todo[slow]], high[todo[slow]])
                settled &= ~slow
                width[todo] = now
            settled |= high[todo] - low[todo] <= tolerance * high[todo]
            found[todo[settled]] = guess[todo[settled]]
            todo = todo[~settled]
            if not len(todo):
                return found
        found[todo] = _middle(low[todo], high[todo])
        return found


def _log_width(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.log(high) - np.log(np.maximum(low, np.finfo(float).tiny))


def _middle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(low > 0, np.sqrt(low * high), high / 2)


def _secant(
    a: np.ndarray,
    f_a: np.ndarray,
    b: np.ndarray,
    f_b: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    linear: bool,
) -> np.ndarray:
    """The root of the line through (a, f_a) and (b, f_b), in c or in log c, or the bracket's middle if that root lies outside it."""
    with np.errstate(all="ignore"):
        if linear:
            root = b - f_b * (b - a) / (f_b - f_a)
        else:
            root = b * np.exp(-f_b * np.log(b / a) / (f_b - f_a))
    useful = np.isfinite(root) & (root > low) & (root < high)
    return np.where(useful, root, _middle(low, high))
