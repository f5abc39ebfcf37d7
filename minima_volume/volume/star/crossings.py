"""Where many curves cross zero: brackets that are refined side by side, by inverse interpolation.

Source: Alefeld, Potra and Shi 1995, "Algorithm 748: enclosing zeros of continuous functions" (inverse cubic interpolation within a
bracket, which is halved where it does not shrink fast enough).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MAX_STEPS = 80
ZERO = np.finfo(float).tiny  # a score that is exactly zero and yet outside is said to be so large

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def crossings(
    score: Score, points: np.ndarray, values: np.ndarray, tolerance: float, *, logarithmic: bool
) -> np.ndarray:
    """The crossing of each row, to a relative tolerance.

    A row is done when its last step has brought the score down, the next one is small, and interpolation of one degree less says the
    same; or when its bracket is below the tolerance. Where a curve is level at its crossing, only the bracket is to be relied on.

    Args:
        score: of rows (indices) at one point each: at most 0 inside, above 0 outside, never NaN.
        points: (R, K) known points of each row, at least 0: the last one inside, the first one outside, then any others.
        values: (R, K) their scores; NaN where a point is not known.
        tolerance: relative, of the crossings.
        logarithmic: scores are nearly linear in the logarithm of the points, not in the points themselves.

    Returns:
        (R,) crossings.
    """
    (low, high), (f_low, f_high) = points[:, :2].T.copy(), values[:, :2].T.copy()
    points, values = _nearest_first(points, values)
    root, _ = _interpolated(points, values, low, high, logarithmic)
    guess = np.where(np.isnan(root), _middle(low, high), root)
    width, found, todo = _log_width(low, high), np.full(len(low), np.nan), np.arange(len(low))
    for step in range(MAX_STEPS):
        if not len(todo):
            return found
        point = guess[todo]
        value = score(todo, point)
        inside = value <= 0
        end = np.where(inside, f_low[todo], f_high[todo])
        at_zero = (np.abs(value) <= ZERO) & (np.abs(end) > ZERO)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # an end may be at zero
            left = np.abs(value) / np.minimum(np.abs(f_low[todo]), np.abs(f_high[todo]))
        low[todo], f_low[todo] = np.where(inside, point, low[todo]), np.where(inside, value, f_low[todo])
        high[todo], f_high[todo] = np.where(inside, high[todo], point), np.where(inside, f_high[todo], value)
        others, f_others = _nearest_first(points[todo], values[todo])
        points[todo] = np.column_stack([point, others[:, :-1]])
        values[todo] = np.column_stack([value, f_others[:, :-1]])
        root, doubt = _interpolated(points[todo], values[todo], low[todo], high[todo], logarithmic)
        guess[todo] = np.where(np.isnan(root), _middle(low[todo], high[todo]), root)
        # a small step is the last one where the one before brought the score down: on a plateau just inside a jump steps are small, too,
        # and lead nowhere
        small = np.select([left <= 0.1, left <= 0.5], [tolerance, tolerance / 4], 0.0)
        settled = (np.abs(root - point) <= small * point) & (doubt <= tolerance / 8 * point) & ~at_zero
        if step % 3 == 2:  # three steps cut the bracket to an eighth, or the last one the score; else it is halved
            now = _log_width(low[todo], high[todo])
            slow = (now > width[todo] / 8) & (left > 1 / 8)
            guess[todo[slow]] = _middle(low[todo[slow]], high[todo[slow]])
            settled &= ~slow
            width[todo] = now
        # the crossing is at a point with the score zero, or a plateau ends there: look just beside it
        beside = point * (1 + np.where(inside, tolerance, -tolerance) / 2)
        guess[todo[at_zero]] = np.clip(beside, low[todo], high[todo])[at_zero]
        settled |= high[todo] - low[todo] <= tolerance * high[todo]
        found[todo[settled]] = guess[todo[settled]]
        todo = todo[~settled]
    found[todo] = _middle(low[todo], high[todo])
    return found


def _nearest_first(points: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of each row by their distance from zero; what is not finite comes last, as NaN."""
    values = np.where(np.isfinite(values), values, np.nan)
    order = np.argsort(np.abs(values), axis=1, kind="stable")
    return np.take_along_axis(points, order, 1), np.take_along_axis(values, order, 1)


def _interpolated(
    points: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray, logarithmic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Where the polynomial through as many points as possible, as a function of the score, is at zero (Neville's scheme).

    From three points on these must increase with their scores.

    Returns:
        The places, NaN where no polynomial ends within the bracket; and how far a degree less is from them, 0 for a straight line.
    """
    best, doubt = np.full(len(low), np.nan), np.zeros(len(low))
    with np.errstate(all="ignore"):  # a point at 0 has no logarithm, and two scores may be equal
        places = np.log(points) if logarithmic else points
        ends = places
        for degree in range(1, points.shape[1]):
            first, last = values[:, :-degree], values[:, degree:]
            ends = ends[:, :-1] - first * (ends[:, :-1] - ends[:, 1:]) / (first - last)
            root = np.exp(ends[:, 0]) if logarithmic else ends[:, 0]
            useful = (root > low) & (root < high)
            if degree > 1:
                useful &= _increasing(places[:, : degree + 1], values[:, : degree + 1])
                doubt = np.where(useful, np.abs(root - best), doubt)
            best = np.where(useful, root, best)
    return best, doubt


def _increasing(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    ordered = np.take_along_axis(places, np.argsort(values, axis=1), 1)
    return np.asarray((np.diff(ordered, axis=1) > 0).all(1))


def _log_width(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.log(high) - np.log(np.maximum(low, np.finfo(float).tiny))


def _middle(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.where(low > 0, np.sqrt(low * high), high / 2)
