"""The loss engine: losses, accuracies and margin scores of perturbed models, for all landscapes of a run in one pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.losses import LOSSES, Loss, PerSample, get_loss, is_one_hot, one_hot_margins, prepare_targets
from minima_volume.perturbation.cnn_path import CNNPath
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.general import GeneralPath
from minima_volume.perturbation.mlp_path import MLPPath
from minima_volume.perturbation.particles import Particles
from minima_volume.perturbation.tiles import Tile, tiles_for
from minima_volume.perturbation.trace import trace_stack
from minima_volume.perturbation.values import Values, measure

MAX_GROUP = 512
CHECKED_COEFFICIENTS = (0.01, 0.1, 1.0)
CHECKED_SAMPLES = 256


class EngineError(MinimaVolumeError):
    """The fast path and the plain loop disagree."""


class Path(Protocol):
    """One way of running a model at many perturbed parameter vectors."""

    name: str
    chunk: int  # parameter vectors run together on the largest landscape
    block: int  # coefficients of one direction that are best run together
    tiles: list[Tile]
    features_first: bool
    bytes_per_direction: int
    bytes_for_samples: int  # what the path keeps beside the samples themselves

    def chunk_for(self, size: int) -> int: ...

    def hold(self, directions: Sequence[list[Tensor]]) -> Any: ...

    def stack(self, held: Any, rows: Tensor, coefficients: Tensor) -> Any: ...

    def forward(self, stacked: Any, held: Any, tile: Tile) -> Tensor: ...


class LossEngine:
    """Losses of one model along directions, in nested landscapes.

    Args:
        model: any `nn.Module`; it comes back unchanged.
        x: (T, ...) inputs: base, then additional samples.
        y: (T, ...) targets.
        loss: a name (`cross_entropy`, `bce_with_logits`, `mse`) or a callable (outputs, targets) -> per-sample losses,
            or one loss of all samples.
        sizes: samples of every landscape of the run, each a prefix of x; (T,) by default. All of them decide how samples are
            tiled, so that results do not depend on which are asked for.
        scaling: see `directions.scaling_factor`.
        names: parameters to perturb, see `directions.perturbed_names`.
        memory_gib: budget for what the engine keeps beside the model and the samples: held directions, their first-layer
            products, and its own copy of the samples. One direction at a time is held whatever the budget.
        fast: use a fast path where the model allows; False always runs the general path.

    Raises:
        ConfigError: sizes, targets or names do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        loss: str | PerSample = "cross_entropy",
        sizes: Sequence[int] | None = None,
        *,
        scaling: str = "filter",
        names: str | Sequence[str] = "weight_bias",
        memory_gib: float = 2.0,
        fast: bool = True,
    ) -> None:
        self.sizes = tuple(sorted(set(sizes or (len(x),))))
        if self.sizes[0] < 1 or self.sizes[-1] > len(x) or len(x) != len(y):
            raise ConfigError(
                f"landscape sizes {self.sizes} need 1 to {len(x)} samples; x has {len(x)}, y has {len(y)}"
            )
        x = x[: self.sizes[-1]]
        self.dtype = next(model.parameters()).dtype
        if x.is_floating_point() and x.dtype != self.dtype:
            raise ConfigError(f"the samples are {x.dtype}, the model {self.dtype}; convert one of them")
        self.loss: Loss = get_loss(loss)
        self.directions = Directions.of(model, scaling, names)
        self.memory = memory_gib * 2**30
        general = GeneralPath(model, self.directions, x, self.sizes)
        with torch.no_grad():
            one = general.run(x[:1])
        self.y = prepare_targets(self.loss, one.expand(len(x), *one.shape[1:]), y[: self.sizes[-1]])
        if self.loss is LOSSES["mse"]:  # look at the targets once, not at every evaluation
            self.loss = replace(self.loss, margins=one_hot_margins if is_one_hot(self.y) else None)
        if not self.loss.batched:
            with torch.no_grad():
                found = self.loss.elements(general.run(x[:2]), self.y[:2])
            if not isinstance(found, Tensor):
                raise ConfigError(
                    f"loss {self.loss.name!r} returns a {type(found).__name__}; it must return a tensor: one loss a sample, or one of all"
                )
            self.loss = replace(self.loss, whole=found.ndim == 0)
        self.general = general
        self.path: Path = self._choose(x) if fast and self.loss.batched else general
        # margins of one sample: one, or one for each of its tokens
        self.answers = 1 if self.loss.margins is None else self.loss.margins(one, self.y[:1]).numel()
        self._y = _features_first(self.y) if self.path.features_first else self.y

    def _choose(self, x: Tensor) -> Path:
        # a copy in evaluation mode: tracing runs the user's forward, which may change the model
        model = copy.deepcopy(self.general.model)
        layers = trace_stack(model)
        if layers is not None and MLPPath.fits(layers, self.directions, x):
            return MLPPath(model, self.directions, x, self.sizes, layers)
        if layers is not None and CNNPath.fits(layers, self.directions, x):
            return CNNPath(model, self.directions, x, self.sizes, layers)
        return self.general

    @property
    def group_size(self) -> int:
        """Directions that are held at once within the memory budget."""
        # drawing and stacking a group takes about as much again for a moment
        room = self.memory - self.path.bytes_for_samples
        return int(max(1, min(MAX_GROUP, room // (2 * self.path.bytes_per_direction))))

    def groups(self, seeds: Sequence[int]) -> Iterator[Rays]:
        """Hold the directions of `seeds` group by group."""
        for start in range(0, len(seeds), self.group_size):
            yield self.rays(seeds[start : start + self.group_size])

    def along(self, directions: Directions) -> LossEngine:
        """The same engine with other directions from the same minimum, preconditioned ones for example."""
        other = copy.copy(self)
        other.directions = directions
        return other

    def rays(self, seeds: Sequence[int]) -> Rays:
        """Hold the directions of a few seeds."""
        drawn = [self.directions.draw(seed) for seed in seeds]
        return Rays(
            self,
            self.path,
            tuple(seeds),
            np.array([norm for _, norm in drawn]),
            self.path.hold([d for d, _ in drawn]),
        )

    def particles(self, sigma: float, sizes: Sequence[int] | None = None) -> Particles:
        """Unrelated parameter vectors theta* + sigma F z instead of points on rays."""
        return Particles(self, sigma, sizes)

    @cached_property
    def start(self) -> Values:
        """Loss and accuracy (K, 1) of the minimum itself in every landscape."""
        still = [torch.zeros_like(tensor) for tensor in self.directions.minimum]
        return Rays(self, self.path, (0,), np.zeros(1), self.path.hold([still])).evaluate(np.zeros(1, int), np.zeros(1))

    def check(self, seed: int = 1) -> None:
        """Compare the fast path with the plain loop on one direction and three coefficients.

        Raises:
            EngineError: they differ by more than rounding explains.
        """
        if self.path is self.general:
            return
        size = next((size for size in reversed(self.sizes) if size <= CHECKED_SAMPLES), self.sizes[0])
        direction, norm = self.directions.draw(seed)
        rows, coefficients = np.zeros(len(CHECKED_COEFFICIENTS), int), np.array(CHECKED_COEFFICIENTS)
        values = []
        for path in (self.path, self.general):
            rays = Rays(self, path, (seed,), np.array([norm]), path.hold([direction]))
            values.append(rays.evaluate(rows, coefficients, [size]).loss[0])
        fast, plain = values
        if not np.allclose(fast, plain, rtol=5e-3, atol=1e-6, equal_nan=True):
            raise EngineError(
                f"the fast engine ({self.path.name}) gives losses {fast.tolist()} at coefficients {CHECKED_COEFFICIENTS} of direction "
                f"{seed}, the plain loop {plain.tolist()}; nothing was measured. Please report the model; fast=False runs the plain loop"
            )


@dataclass(frozen=True)
class Rays:
    """A group of held directions of one engine.

    Attributes:
        seeds: their seeds.
        norms: (D,) ||xi||, float64.
    """

    engine: LossEngine
    path: Path
    seeds: tuple[int, ...]
    norms: np.ndarray
    held: Any

    @torch.inference_mode()
    def evaluate(
        self,
        rows: np.ndarray,
        coefficients: np.ndarray,
        sizes: Sequence[int] | None = None,
        wrong_allowed: Sequence[int] | None = None,
        accuracy: bool = True,
    ) -> Values:
        """Measure B perturbed parameter vectors theta* + coefficients[b] * direction[rows[b]].

        Args:
            rows: (B,) which of the held directions.
            coefficients: (B,) float64.
            sizes: the landscapes, (K,) of the engine's sizes, ascending; all by default.
            wrong_allowed: for each landscape, the number w of answers (samples, or their tokens) that may be wrong; asks for
                the (w + 1)-th smallest margin as `score`: at most w answers are wrong exactly when it is > 0.
            accuracy: False leaves accuracies out (NaN), which is faster.

        Returns:
            Values of shape (K, B).
        """
        engine, path = self.engine, self.path
        sizes = engine.sizes if sizes is None else tuple(sizes)
        y = engine._y if path is engine.path else engine.y
        tiles = tiles_for(path.tiles, sizes[-1])
        chunk, parts = path.chunk_for(sizes[-1]), []
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            stacked = path.stack(
                self.held,
                torch.as_tensor(rows[part], device=y.device),
                torch.as_tensor(coefficients[part], device=y.device),
            )
            forward = partial(path.forward, stacked, self.held)
            parts.append(measure(engine.loss, y, tiles, forward, sizes, wrong_allowed, accuracy))
        return Values.join(parts)


def _features_first(y: Tensor) -> Tensor:
    """The same targets, laid out in memory as the fast path's outputs are."""
    return y.t().contiguous().t() if y.ndim == 2 else y
