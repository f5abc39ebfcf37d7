"""Losses over a plane in parameter space, through models of one architecture: what a two-dimensional picture is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.isolation import own_modes
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.directions import Directions, draw_gaussian
from minima_volume.perturbation.engine import LossEngine, Rays

MARGIN = 0.35  # of the models' extent, that a picture reaches past them
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
        points: (M, 2) coordinates of the models; the first is the origin, the second lies on the u axis.
        out_of_plane: largest distance of a model's perturbed parameters from the plane, in the same unit; rounding alone.
        at_points: (K, M) mean losses of the models themselves.
    """

    u: np.ndarray
    v: np.ndarray
    loss: np.ndarray
    sizes: tuple[int, ...]
    points: np.ndarray
    out_of_plane: float
    at_points: np.ndarray


@dataclass(frozen=True)
class Frame:
    """Two orthonormal axes in the coordinates z of a model, and where models lie between them.

    Attributes:
        axes: u and v, a tensor per parameter.
        factors: F.
        points: (M, 2) coordinates of the models.
        out_of_plane: as of `Plane`.
    """

    axes: tuple[list[Tensor], list[Tensor]]
    factors: list[Tensor]
    points: np.ndarray
    out_of_plane: float

    def move(self, a: float, b: float) -> list[Tensor]:
        """The parameter changes F (a u + b v)."""
        return [(a * p + b * q) * factor for p, q, factor in zip(*self.axes, self.factors, strict=True)]


@own_modes()
def plane_losses(
    models: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    loss: LossLike,
    sizes: Sequence[int],
    *,
    resolution: int = 41,
    margin: float = MARGIN,
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
    frame = frame_through(engine.directions, models[1:])
    low, high = frame.points.min(0), frame.points.max(0)
    reach = margin * float((high - low).max())
    return losses_on(engine, frame, (low - reach, high + reach), resolution, on_done)


def frame_through(base: Directions, others: Sequence[nn.Module], seeds: Sequence[int] = ()) -> Frame:
    """The axes from a model towards up to two others; axes that are missing point in seeded random directions.

    Args:
        base: of the first model; with others, of all its parameters.
        others: of the same architecture.
        seeds: of the random directions, which are those of `Directions.draw`, made orthogonal to the axes before.

    Raises:
        ConfigError: other shapes, the same parameters, or three models on a line.
    """
    factors = [torch.where(factor == 0, 1.0, factor) for factor in base.factors]  # dead filters: their own unit
    offsets = [_offset(base, factors, model) for model in others]
    axes: list[list[Tensor]] = []
    points = [(0.0, 0.0)]
    for offset, name in zip(offsets, ("second", "third"), strict=False):
        along = [_dot(offset, axis) for axis in axes]
        rest = _less(offset, axes, along)
        height = _dot(rest, rest) ** 0.5
        if height <= (1e-6 * points[1][0] if axes else 0.0):
            raise ConfigError(
                "the three models lie on one line; a plane needs a third one beside it"
                if name == "third"
                else "the first two models have the same parameters; a plane needs different ones"
            )
        axes.append([part / height for part in rest])
        points.append((*along, height, 0.0)[:2])
    for seed in seeds[: 2 - len(axes)]:
        drawn = [
            xi.to(factor.device, factor.dtype) * (own != 0)
            for xi, factor, own in zip(draw_gaussian(seed, base.shapes), factors, base.factors, strict=True)
        ]
        rest = _less(drawn, axes, [_dot(drawn, axis) for axis in axes])
        height = _dot(rest, rest) ** 0.5
        if height == 0:
            raise ConfigError("no plane: the model has fewer than two parameters that move")
        axes.append([part / height for part in rest])
    misses = [_less(offset, axes, point) for offset, point in zip(offsets[1:], points[2:], strict=True)]
    error = max((_dot(miss, miss) ** 0.5 for miss in misses), default=0.0)
    return Frame((axes[0], axes[1]), factors, np.array(points), error)


def losses_on(
    engine: LossEngine,
    frame: Frame,
    corners: tuple[np.ndarray, np.ndarray],
    resolution: int,
    on_done: Callable[[int], object] = lambda count: None,
) -> Plane:
    """The losses on a grid between two corners (2,) of a frame, and at its models."""
    low, high = corners
    u, v = (np.linspace(a, b, resolution) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    values = np.empty((len(engine.sizes), len(grid)))
    for start in range(0, len(grid), GROUP):
        part = grid[start : start + GROUP]
        values[:, start : start + len(part)] = losses_at(engine, [frame.move(a, b) for a, b in part.tolist()])
        on_done(len(part))
    at_points = losses_at(engine, [frame.move(a, b) for a, b in frame.points.tolist()])
    loss_grid = values.reshape(len(engine.sizes), resolution, resolution)
    return Plane(u, v, loss_grid, engine.sizes, frame.points, frame.out_of_plane, at_points)


def losses_at(engine: LossEngine, moves: Sequence[list[Tensor]]) -> np.ndarray:
    """Mean losses (K, B) of the engine's model moved by each of B lists of parameter changes."""
    rays = Rays(engine, engine.path, tuple(range(len(moves))), np.ones(len(moves)), engine.path.hold(list(moves)))
    return rays.evaluate(np.arange(len(moves)), np.ones(len(moves))).loss


def _offset(base: Directions, factors: Sequence[Tensor], model: nn.Module) -> list[Tensor]:
    """z of a model."""
    there = Directions.of(model, names="all")
    if (there.names, there.shapes) != (base.names, base.shapes):
        raise ConfigError("the models have parameters of different names or shapes; a plane needs one architecture")
    return [
        (a.to(b.device, b.dtype) - b) / factor
        for a, b, factor in zip(there.minimum, base.minimum, factors, strict=True)
    ]


def _less(vector: Sequence[Tensor], axes: Sequence[Sequence[Tensor]], along: Sequence[float]) -> list[Tensor]:
    """A vector without what lies along some axes."""
    rest = list(vector)
    for axis, length in zip(axes, along, strict=False):
        rest = [part - length * step for part, step in zip(rest, axis, strict=True)]
    return rest


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return float(sum((a.double() * b.double()).sum().item() for a, b in zip(first, second, strict=True)))
