"""Losses over a plane through three models: what a two-dimensional picture of a landscape is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.isolation import own_modes
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine, Rays

GROUP = 128  # points whose parameter vectors are held at once


@dataclass(frozen=True)
class Plane:
    """Losses on a grid of a plane in parameter space.

    Coordinates are those of z in theta = theta* + F z, theta* and F the minimum and the filter norms of the first model: lengths are the
    radii r of rays from the first model, so that a picture shows filter-normalised distances (Li et al. 2018).

    Attributes:
        u, v: (U,), (V,) coordinates of the grid's columns and rows.
        loss: (K, V, U) mean losses in each landscape.
        sizes: (K,) samples of the landscapes.
        points: (3, 2) coordinates of the three models; the first is the origin, the second lies on the u axis.
        out_of_plane: largest distance of a model's perturbed parameters from the plane, in the same unit; rounding alone.
    """

    u: np.ndarray
    v: np.ndarray
    loss: np.ndarray
    sizes: tuple[int, ...]
    points: np.ndarray
    out_of_plane: float


@own_modes()
def plane_losses(
    models: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    loss: LossLike,
    sizes: Sequence[int],
    *,
    resolution: int = 41,
    margin: float = 0.35,
    on_done: Callable[[int], object] = lambda count: None,
) -> Plane:
    """The losses of all landscapes on a grid of the plane through three models of one architecture.

    Args:
        models: three, with different parameters; the first gives the filter norms.
        x, y: samples of the largest landscape, (T, ...).
        loss: `cross_entropy`, `bce_with_logits`, `mse`, a function, or a `Loss`.
        sizes: samples of each landscape, prefixes of x.
        resolution: points along each side.
        margin: how far the picture reaches past the models, in units of their extent.
        on_done: called with the number of points just evaluated.

    Raises:
        ConfigError: not three models, or they lie on a line.
    """
    if len(models) != 3:
        raise ConfigError(f"a plane goes through three models, not {len(models)}")
    engine = LossEngine(models[0], x, y, loss, sizes, names="all")
    base = engine.directions
    factors = [torch.where(factor == 0, 1.0, factor) for factor in base.factors]  # dead filters: their own unit
    offsets = [
        [
            (there - here) / factor
            for there, here, factor in zip(
                Directions.of(model, names="all").minimum, base.minimum, factors, strict=True
            )
        ]
        for model in models[1:]
    ]
    first, second = offsets
    length = _dot(first, first) ** 0.5
    if length == 0:
        raise ConfigError("the first two models have the same parameters; a plane needs three different ones")
    axis_u = [part / length for part in first]
    along = _dot(second, axis_u)
    rest = [part - along * axis for part, axis in zip(second, axis_u, strict=True)]
    height = _dot(rest, rest) ** 0.5
    if height <= 1e-6 * length:
        raise ConfigError("the three models lie on one line; a plane needs a third one beside it")
    axis_v = [part / height for part in rest]
    points = np.array([[0.0, 0.0], [length, 0.0], [along, height]])
    low, high = points.min(0), points.max(0)
    reach = margin * float((high - low).max())
    u, v = (np.linspace(a - reach, b + reach, resolution) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    values = np.empty((len(engine.sizes), len(grid)))
    for start in range(0, len(grid), GROUP):
        part = grid[start : start + GROUP]
        moves = [
            [(a * p + b * q) * factor for p, q, factor in zip(axis_u, axis_v, factors, strict=True)]
            for a, b in part.tolist()
        ]
        values[:, start : start + len(part)] = losses_at(engine, moves)
        on_done(len(part))
    back = [along * p + height * q for p, q in zip(axis_u, axis_v, strict=True)]
    error = [a - b for a, b in zip(second, back, strict=True)]
    loss_grid = values.reshape(len(engine.sizes), resolution, resolution)
    return Plane(u, v, loss_grid, engine.sizes, points, _dot(error, error) ** 0.5)


def losses_at(engine: LossEngine, moves: Sequence[list[Tensor]]) -> np.ndarray:
    """Mean losses (K, B) of the engine's model moved by each of B lists of parameter changes."""
    rays = Rays(engine, engine.path, tuple(range(len(moves))), np.ones(len(moves)), engine.path.hold(list(moves)))
    return rays.evaluate(np.arange(len(moves)), np.ones(len(moves))).loss


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum().item() for a, b in zip(first, second, strict=True)))
