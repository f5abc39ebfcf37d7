"""Loss curves along directions, stopped early."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minima_volume.perturbation.engine import LossEngine, Rays


@dataclass(frozen=True)
class Curves:
    """Losses and accuracies of one model along D directions in K landscapes.

    Attributes:
        coefficients: (C,), increasing from 0.
        loss: (K, D, C); NaN where a direction was stopped early, infinity where the loss itself was NaN.
        accs: (K, D, C); NaN where a direction was stopped early.
        seeds: (D,) of the directions.
        norms: (D,) ||xi||.
    """

    coefficients: np.ndarray
    loss: np.ndarray
    accs: np.ndarray
    seeds: np.ndarray
    norms: np.ndarray


def trace_curves(
    engine: LossEngine,
    seeds: Sequence[int],
    coefficients: np.ndarray,
    ceiling: float | None = None,
    on_done: Callable[[int], None] = lambda count: None,
) -> Curves:
    """Walk along directions from the minimum outwards.

    Each direction is followed until its loss has passed `ceiling` in every landscape of the engine; the curve is kept up to
    and including the first coefficient where that holds.

    Args:
        engine: the model and its landscapes.
        seeds: (D,) of the directions.
        coefficients: (C,), increasing from 0.
        ceiling: the loss that ends a direction; None follows all to the last coefficient.
        on_done: called with the number of directions just finished.

    Returns:
        The curves, in the order of the seeds.
    """
    shape = len(engine.sizes), len(seeds), len(coefficients)
    loss, accs = np.full(shape, np.nan), np.full(shape, np.nan)
    loss[:, :, 0], accs[:, :, 0] = finite_or_inf(engine.start.loss), engine.start.accuracy
    norms, done = [], 0
    for rays in engine.groups(seeds):
        part = slice(done, done + len(rays.seeds))
        _walk(
            rays,
            coefficients,
            math.inf if ceiling is None else ceiling,
            loss[:, part],
            accs[:, part],
            on_done,
        )
        norms.append(rays.norms)
        done = part.stop
    return Curves(np.asarray(coefficients), loss, accs, np.array(seeds), np.concatenate(norms))


def _walk(
    rays: Rays,
    coefficients: np.ndarray,
    ceiling: float,
    loss: np.ndarray,
    accs: np.ndarray,
    on_done: Callable[[int], None],
) -> None:
    """Fill (K, D, C) views for one group, all its unfinished directions one step of `block` coefficients at a time."""
    active, column = np.arange(len(rays.seeds)), 1
    while len(active) and column < len(coefficients):
        block = (
            max(rays.path.block, math.ceil(rays.path.chunk / len(active))) if ceiling < math.inf else len(coefficients)
        )
        columns = np.arange(column, min(column + block, len(coefficients)))
        values = rays.evaluate(np.repeat(active, len(columns)), np.tile(coefficients[columns], len(active)))
        grid = len(loss), len(active), len(columns)
        loss[:, active[:, None], columns] = finite_or_inf(values.loss).reshape(grid)
        accs[:, active[:, None], columns] = values.accuracy.reshape(grid)
        column = int(columns[-1]) + 1
        passed = np.maximum.accumulate(loss[:, active, :column], axis=2).min(0) > ceiling
        over = passed.any(1)
        for row, first in zip(active[over], passed[over].argmax(1), strict=True):
            loss[:, row, first + 1 :], accs[:, row, first + 1 :] = np.nan, np.nan
        on_done(int(over.sum()))
        active = active[~over]
    on_done(len(active))


def finite_or_inf(loss: np.ndarray) -> np.ndarray:
    """Losses with NaN read as infinity: a model that computes NaN has left the minimum."""
    return np.where(np.isnan(loss), np.inf, loss)
