"""Radii: where the loss along each direction first passes a threshold, to a stated tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from minima_volume.perturbation.curves import Curves, finite_or_inf
from minima_volume.perturbation.engine import LossEngine, Rays
from minima_volume.volume.condition import Condition
from minima_volume.volume.star.crossings import crossings

FLOAT32_FLOOR = 2e-6


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
    double = all(tensor.dtype == torch.float64 for tensor in engine.directions.minimum)
    return tolerance if double else max(tolerance, FLOAT32_FLOOR)


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

    def _known(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Known points (R, 4) and their scores: the ends of the brackets, then the grid points beside them.

        Scores are read off the curve for a loss. For an accuracy those of the ends are measured, and the others not known.
        """
        ends = np.column_stack([low, high])
        columns = np.searchsorted(self.grid, ends)
        columns = np.column_stack([columns, columns[:, 0] - 1, columns[:, 1] + 1])
        there = (columns >= 0) & (columns < len(self.grid))
        columns = np.where(there, columns, 0)
        if self.condition.kind == "loss":
            scores = np.where(there, self._log_ratio(self.loss[rows[:, None], columns]), np.nan)
        else:
            scores = np.full(columns.shape, np.nan)
        for end in range(2):
            unknown = np.isnan(scores[:, end])
            if unknown.any():
                scores[unknown, end] = self._excess(rows[unknown], ends[unknown, end])
        return np.column_stack([ends, self.grid[columns[:, 2:]]]), scores

    def _refine(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray, tolerance: float) -> np.ndarray:
        """The crossings within the brackets; margins are nearly linear in c, log losses in log c."""
        points, scores = self._known(rows, low, high)
        logarithmic = self.condition.kind == "loss"
        return crossings(
            lambda some, at: self._excess(rows[some], at), points, scores, tolerance, logarithmic=logarithmic
        )
