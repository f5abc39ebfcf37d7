"""Slices of your own model's landscape: the loss along a line, and over a plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from minima_volume.arguments import by_text, check_names, check_positive, check_seed, check_seeds, is_whole
from minima_volume.errors import ConfigError
from minima_volume.isolation import isolated
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.given import prepare
from minima_volume.perturbation.plane import MARGIN, Frame, Plane, frame_through, losses_at, losses_on
from minima_volume.result import Result, number
from minima_volume.samples import Samples

FIRST_REACH, LAST_REACH = 1 / 32, 16.0  # coefficients between which a picture ends, if nobody says where
PAST = 2.0  # thresholds that the loss rises to at the ends
FEWEST = 3  # points of a slice


@dataclass(frozen=True)
class LineSlice(Result):
    """The loss of a model along random directions, to both sides of the minimum.

    Attributes:
        coefficients: (C,) c of theta* + c F xi, from -reach to reach; 0 is among them.
        losses: (D, C) mean losses.
        seeds: (D,) of the directions, the same as of `measure_volume`.
        norms: (D,) ||xi||, so that the radius is c times it.
        threshold: of the loss, or None.
        loss: its name.
        num_samples: of the landscape.
        scaling: F.
        note: what a reader must know, or None.
    """

    coefficients: np.ndarray
    losses: np.ndarray
    seeds: tuple[int, ...]
    norms: np.ndarray
    threshold: float | None
    loss: str
    num_samples: int
    scaling: str
    note: str | None = None

    @property
    def crossings(self) -> np.ndarray:
        """(D, 2) coefficients where the loss first passes the threshold, to the left and to the right, between two points by a
        straight line; NaN if it does not, or there is no threshold."""
        found = np.full((len(self.losses), 2), np.nan)
        middle = len(self.coefficients) // 2
        for row, losses in enumerate(self.losses):
            for side, order in enumerate((slice(middle, None, -1), slice(middle, None))):
                found[row, side] = _first_crossing(self.coefficients[order], losses[order], self.threshold)
        return found

    def __str__(self) -> str:
        ends = ", ".join(
            f"direction {seed} from {low:.6g} to {high:.6g}"
            for seed, (low, high) in zip(self.seeds, self.crossings, strict=True)
        )
        inside = "no threshold" if self.threshold is None else f"inside loss threshold {self.threshold:g}: {ends}"
        return f"{len(self.seeds)} directions, coefficients up to {self.coefficients[-1]:.6g}; {inside}"

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        return [
            ("directions", ", ".join(map(str, self.seeds))),
            ("landscape", f"{self.num_samples:,} samples, {self.loss}"),
            ("crossings", str(self)),
        ]


@dataclass(frozen=True)
class PlaneSlice(Result):
    """The loss over a plane through one, two or three models.

    Attributes:
        plane: coordinates, losses and the places of the models.
        names: of the models.
        seeds: of the random directions that are axes, u first.
        threshold: of the loss, or None.
        loss: its name.
        note: what a reader must know, or None.
    """

    plane: Plane
    names: tuple[str, ...]
    seeds: tuple[int, ...]
    threshold: float | None
    loss: str
    note: str | None = None

    def __str__(self) -> str:
        inside = ""
        if self.threshold is not None:
            inside = f"; {(self.plane.loss[0] <= self.threshold).mean():.1%} inside loss threshold {self.threshold:g}"
        return f"plane through {', '.join(self.names)}, {self.plane.sizes[0]:,} samples{inside}"

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        places = zip(self.names, self.plane.points, self.plane.at_points[0], strict=True)
        models = [(name, f"loss {number(loss)} at ({u:.4g}, {v:.4g})") for name, (u, v), loss in places]
        return [*models, ("landscape", f"{self.plane.sizes[0]:,} samples, {self.loss}"), ("slice", str(self))]


@isolated
def slice_line(
    model: nn.Module,
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    seeds: Sequence[int] = (1,),
    scaling: str = "filter",
    names: str | Sequence[str] = "weight_bias",
    reach: float | None = None,
    num_points: int = 101,
    class_axis: int | None = None,
    device: str | torch.device | None = None,
) -> LineSlice:
    """The loss along seeded random directions, those that `measure_volume` follows and draws.

    Args:
        model, x, y, loss, scaling, names, class_axis, device: as of `measure_volume`.
        threshold: the loss that ends the minimum, to be drawn.
        seeds: of the directions.
        reach: the largest coefficient; by default where the loss is past twice the threshold on both sides, at most 16, or 1 if
            there is no threshold.
        num_points: along the line, odd.

    Raises:
        ConfigError: an argument is not allowed, or the model cannot be measured rightly.

    >>> x, model = torch.eye(2), nn.Linear(2, 1, bias=False)
    >>> line = slice_line(model, x, model(x).detach(), "mse", threshold=0.5, scaling="none", reach=2.0, num_points=2001)
    >>> bool(np.allclose(line.crossings * line.norms, [[-1.0, 1.0]], atol=1e-3))  # the loss is r^2 / 2
    True
    """
    threshold, reach = _checked(threshold, reach, num_points, odd=True)
    seeds, names = check_seeds(seeds), check_names(names)
    engine, note = _engine(model, x, y, loss, scaling, names, class_axis, device, seeds[0])
    with engine.host.borrowed():
        rays = engine.rays(seeds)

        def losses(coefficients: np.ndarray) -> np.ndarray:
            rows = np.repeat(np.arange(len(seeds)), len(coefficients))
            values = rays.evaluate(rows, np.tile(coefficients, len(seeds)), accuracy=False).loss[0]
            return values.reshape(len(seeds), -1)

        if reach is None:
            reach = _reach(lambda c: losses(np.array([-c, c])), threshold)
        coefficients = np.linspace(-reach, reach, num_points)
        coefficients[num_points // 2] = 0.0
        found = losses(coefficients)
    return LineSlice(
        coefficients, found, seeds, rays.norms, threshold, engine.loss.name, engine.sizes[0], scaling, note
    )


@isolated
def slice_plane(
    models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    seed: int = 1,
    names: str | Sequence[str] | None = None,
    reach: float | None = None,
    resolution: int = 41,
    class_axis: int | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> PlaneSlice:
    """The loss over a plane through one, two or three models, in filter-normalised distances from the first (Li et al. 2018).

    Axes towards no model point in seeded random directions.

    Args:
        models: a model, or two or three of one architecture, in a list or by their names.
        x, y, loss, class_axis, device: as of `measure_volume`.
        threshold: the loss that ends the minimum, to be drawn.
        seed: of the first random direction; a second has the next.
        names: parameters that random directions move, `weight_bias` by default; for one model only. Through several, all move.
        reach: how far the plane reaches from one model, as a radius; by default where the loss is past twice the threshold, or
            sqrt(n) if there is none. Through several models it reaches 35 % past them.
        resolution: points along each side.
        progress: show a progress bar.

    Raises:
        ConfigError: an argument is not allowed, the models do not fit together, or a model cannot be measured rightly.

    >>> x, model = torch.eye(2), nn.Linear(2, 1, bias=False)
    >>> plane = slice_plane(model, x, model(x).detach(), "mse", reach=2.0, resolution=5, progress=False).plane
    >>> bool(np.isclose(plane.loss[0, 0, 0], (model.weight.norm() ** 2 * 8 / 2).item()))  # corner (-2, -2): r^2 = 8
    True
    """
    threshold, reach = _checked(threshold, reach, resolution)
    named = _named(models)
    seed = check_seed(seed, 2)
    if len(named) > 1 and (names is not None or reach is not None):
        raise ConfigError(
            "names and reach apply only to one model: through several, all parameters move and 35 % is left around"
        )
    first, *others = named.values()
    names = check_names(names if names is not None else "all" if others else "weight_bias")
    engine, note = _engine(first, x, y, loss, "filter", names, class_axis, device, seed)
    with engine.host.borrowed(), tqdm(total=resolution**2, unit=" points", disable=not progress) as bar:
        seeds = tuple(range(seed, seed + 2 - len(others)))
        frame = frame_through(engine.directions, others, seeds)
        corners = _corners(engine, frame, threshold, reach)
        plane = losses_on(engine, frame, corners, resolution, bar.update)
    note = "; ".join(filter(None, (note, _buffer_note(named)))) or None
    return PlaneSlice(plane, tuple(named), seeds, threshold, engine.loss.name, note)


def _engine(
    model: nn.Module,
    x: Any,
    y: Any,
    loss: LossLike,
    scaling: str,
    names: str | Sequence[str],
    class_axis: int | None,
    device: str | torch.device | None,
    seed: int,
) -> tuple[LossEngine, str | None]:
    host, x, y, read = prepare(model, x, y, names, device, loss)
    with host.borrowed():
        engine = LossEngine(host, x, y, loss, scaling=scaling, names=names, class_axis=class_axis)
        engine.check(seed)
    return engine, "; ".join(filter(None, (*engine.notes, read, engine.directions.note))) or None


def _checked(
    threshold: float | None, reach: float | None, points: int, odd: bool = False
) -> tuple[float | None, float | None]:
    """Threshold and reach as numbers."""
    if not is_whole(points) or points < FEWEST or (odd and points % 2 == 0):
        kind = "an odd number" if odd else "a whole number"
        name = "num_points" if odd else "resolution"
        raise ConfigError(f"{name} {points!r} is not allowed: it must be {kind} of at least {FEWEST}")
    ends = (("threshold", threshold), ("reach", reach))
    limit, end = (None if value is None else check_positive(name, value) for name, value in ends)
    return limit, end


def _named(models: Any) -> dict[str, nn.Module]:
    """Name -> model, of what was given."""
    if isinstance(models, Mapping):
        named = by_text("models", models)
    else:
        listed = isinstance(models, Iterable) and not isinstance(models, nn.Module)  # some modules are containers
        given = list(models) if listed else [models]
        numbered = {f"model {i + 1}": model for i, model in enumerate(given)}
        named = numbered if len(given) != 1 else {"model": given[0]}
    if not 1 <= len(named) <= 3:
        raise ConfigError(f"a plane goes through one, two or three models, not {len(named)}")
    for name, model in named.items():
        if not isinstance(model, nn.Module):
            raise ConfigError(f"{name} is a {type(model).__name__}; it must be a torch.nn.Module")
    return named


def _reach(losses: Callable[[float], np.ndarray], threshold: float | None) -> float:
    """The first coefficient, of doubling ones, where the loss is well past the threshold in every direction and on both sides."""
    if threshold is None:
        return 1.0
    coefficient = FIRST_REACH
    while coefficient < LAST_REACH:
        if not (losses(coefficient) <= PAST * threshold).any():
            break
        coefficient *= 2
    return coefficient


def _corners(
    engine: LossEngine, frame: Frame, threshold: float | None, reach: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of a square around one model, or of what lies around several."""
    low, high = frame.points.min(0), frame.points.max(0)
    extent = float((high - low).max())
    if extent == 0:
        root = math.sqrt(engine.directions.num_params)

        def ends(c: float) -> np.ndarray:
            r = c * root
            return losses_at(engine, [frame.move(a, b) for a, b in ((-r, 0), (r, 0), (0, -r), (0, r))])

        reach = _reach(ends, threshold) * root if reach is None else reach
        return low - reach, high + reach
    margins = np.full(2, MARGIN * extent)
    if len(frame.points) == 2:  # a square, with the models on its middle line
        margins[1] = (0.5 + MARGIN) * extent
    return low - margins, high + margins


def _first_crossing(coefficients: np.ndarray, losses: np.ndarray, threshold: float | None) -> float:
    if threshold is None:
        return math.nan
    outside = ~(losses <= threshold)  # NaN is outside
    i = int(outside.argmax())
    if not outside[i] or i == 0:
        return math.nan
    share = (threshold - losses[i - 1]) / (losses[i] - losses[i - 1])
    share = share if math.isfinite(share) else 0.0  # the loss is infinite at the next point
    return float(coefficients[i - 1] + share * (coefficients[i] - coefficients[i - 1]))


def _buffer_note(named: Mapping[str, nn.Module]) -> str | None:
    """Statistics that are no parameters belong to the first model everywhere on the plane."""
    first, *others = named.values()
    own = dict(first.named_buffers())
    differing = sorted(
        {
            name
            for other in others
            for name, buffer in other.named_buffers()
            if name in own and buffer.is_floating_point() and not torch.equal(buffer.cpu(), own[name].cpu())
        }
    )
    if not differing:
        return None
    name = next(iter(named))
    return (
        f"buffers differ between the models ({', '.join(differing)}); those of {name} are used everywhere on the plane"
    )
