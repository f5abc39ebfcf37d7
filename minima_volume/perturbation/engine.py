"""The loss engine: losses, accuracies and margin scores of perturbed models, for all landscapes of a run in one pass."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.arguments import check_names
from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import fit_to, host_of
from minima_volume.hosts.host import Host
from minima_volume.losses.loss import LossLike
from minima_volume.losses.registry import get_loss
from minima_volume.perturbation.cnn_path import CNNPath
from minima_volume.perturbation.directions import Directions, perturbed_names
from minima_volume.perturbation.general_path import GeneralPath
from minima_volume.perturbation.given import check_types, perturbed_type
from minima_volume.perturbation.layers import trace_stack
from minima_volume.perturbation.mlp_path import MLPPath
from minima_volume.perturbation.tiles import Tile, tiles_for
from minima_volume.perturbation.values import Columns, Run, Values, measure, measure_apart
from minima_volume.samples import Samples, count, each, part, tensors

MAX_GROUP = 512
COPIES = 3  # of the model: the host's, the minimum, a path's own
CHECKED_COEFFICIENTS = (0.01, 0.1, 1.0)
CHECKED_SAMPLES = 256


class Path(Protocol):
    """One way of running a model at many perturbed parameter vectors."""

    name: str
    chunk: int  # parameter vectors run together on the largest landscape
    block: int  # coefficients of one direction that are best run together
    features_first: bool
    bytes_per_direction: int
    bytes_for_samples: int  # what the path keeps beside the samples themselves and directions

    @property
    def tiles(self) -> list[Tile]: ...

    def chunk_for(self, size: int) -> int: ...

    def hold(self, directions: Sequence[list[Tensor]]) -> Any: ...

    def stack(self, held: Any, rows: Tensor, coefficients: Tensor) -> Any: ...

    def outputs(self, stacked: Any, held: Any, tiles: Sequence[Tile]) -> Iterable[Any]: ...


class LossEngine:
    """Losses of one model along directions, in nested landscapes.

    Args:
        model: any `nn.Module`, which is looked at first (see `hosts.doors`) and comes back unchanged; or a host of it.
        x: (T, ...) inputs: base, then additional samples; a tuple or dictionary of these where the model takes several.
        y: (T, ...) targets.
        loss: a name (`cross_entropy`, `bce_with_logits`, `mse`) or a callable (outputs, targets) -> per-sample losses,
            or one loss of all samples.
        sizes: samples of every landscape of the run, each a prefix of x; (T,) by default. All of them decide how samples are
            tiled, so that results do not depend on which are asked for.
        scaling: see `directions.scaling_factor`.
        names: parameters to perturb, see `names.perturbed_names`.
        class_axis: which axis of the outputs counts classes, see `losses.registry.fit`; by default what the model declares.
        memory_gib: budget for what the engine keeps beside the model and the samples: held directions, their first-layer
            products, and its own copy of the samples. One direction at a time is held whatever the budget.
        fast: use a fast path where the model allows; False always runs the general path.
        directions: from the model as it is now, instead of those that `scaling` and `names` say.

    Attributes:
        notes: what a reader of a result must know about the model.
        apart: whether each landscape is run in one piece, not as a prefix of the longest.
        loss_mark: what tells a user's own loss from others of its name, see `Fit.mark`.
        reordered: size -> an engine of that landscape with its samples in another order, see `rejection`.

    Raises:
        ConfigError: sizes, targets or names do not fit, or the model is no function of its parameters and samples.
    """

    def __init__(
        self,
        model: nn.Module | Host,
        x: Samples,
        y: Any,
        loss: LossLike = "cross_entropy",
        sizes: Sequence[int] | None = None,
        *,
        scaling: str = "filter",
        names: str | Sequence[str] = "weight_bias",
        class_axis: int | None = None,
        memory_gib: float = 2.0,
        fast: bool = True,
        directions: Directions | None = None,
    ) -> None:
        samples = count(x)
        self.sizes = tuple(sorted(set(sizes or (samples,))))
        self.reordered: dict[int, LossEngine] = {}
        if self.sizes[0] < 1 or self.sizes[-1] > samples or samples != count(y):
            raise ConfigError(
                f"landscape sizes {self.sizes} need 1 to {samples} samples; x has {samples}, y has {count(y)}"
            )
        x, y = (part(values, 0, self.sizes[-1]) for values in (x, y))
        module = model.module if isinstance(model, Host) else model
        check_types(module, x)
        names = check_names(names)
        chosen = perturbed_names(module, names) if directions is None else directions.names
        self.dtype = perturbed_type(module, chosen)
        self.host = model if isinstance(model, Host) else host_of(model, x, chosen, loss=(loss, y))
        self.memory = memory_gib * 2**30
        with self.host.borrowed():
            self.directions = Directions.of(self.host.module, scaling, names) if directions is None else directions
            fitted = fit_to(self.host, x, y, get_loss(loss), class_axis)
            self.loss, self.y, self.apart, self.loss_mark = fitted.loss, fitted.targets, fitted.apart, fitted.mark
            self.notes = tuple(filter(None, (*self.host.notes, fitted.note)))
            general = GeneralPath(self.host, self.directions, x, self.sizes, self.loss)
            self.general = general
            self.path: Path = self._choose(x, self.sizes) if fast and self.loss.batched else general
            self.answers = self.loss.answers(self.y)
        self.device = tensors(self.y)[0].device
        self.path_targets = _features_first(self.y) if self.path.features_first else self.y

    def _choose(self, x: Samples, sizes: Sequence[int]) -> Path:
        host = self.host
        if host.own or self.apart or host.kept is not None or host.rewritten or not isinstance(x, Tensor):
            return self.general
        # another copy: tracing runs the user's forward, which may change the model
        model = copy.deepcopy(host.module)
        try:
            layers = trace_stack(model)
            if layers is not None and MLPPath.fits(layers, self.directions, x):
                return MLPPath(self.directions, x, sizes, layers)
            if layers is not None and CNNPath.fits(layers, self.directions, x):
                return CNNPath(self.directions, x, sizes, layers)
            return self.general
        finally:  # what was traced is held by its graph, and layers take their parameters from the directions
            for parameter in model.parameters():
                parameter.data = parameter.new_empty(0)

    def measure(
        self,
        path: Path,
        run: Run,
        sizes: Sequence[int],
        wrong_allowed: Sequence[int] | None,
        accuracy: bool,
    ) -> Columns:
        """Losses, accuracies and scores (K, B) of the parameter vectors that `run` runs."""
        y = self.path_targets if path is self.path else self.y
        if self.apart:
            return measure_apart(self.loss, y, run, sizes, wrong_allowed, accuracy)
        return measure(self.loss, y, tiles_for(path.tiles, sizes[-1]), run, sizes, wrong_allowed, accuracy)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside the block the host's parameters may be written to; afterwards they are reset to the minimum."""
        with self.host.borrowed():
            try:
                yield
            finally:
                self.general.put_back()

    @property
    def bytes_beside(self) -> int:
        """What the engine keeps whatever it evaluates: copies of the model, and of the samples as a path has them."""
        return COPIES * sum(tensor.nbytes for tensor in self.directions.minimum) + self.path.bytes_for_samples

    @property
    def group_size(self) -> int:
        """Directions that are held at once within the memory budget."""
        # drawing and stacking a group takes about as much again for a moment
        room = self.memory - self.bytes_beside
        return int(max(1, min(MAX_GROUP, room // (2 * self.path.bytes_per_direction))))

    def groups(self, seeds: Sequence[int]) -> Iterator[Rays]:
        """Hold the directions of `seeds` group by group."""
        for start in range(0, len(seeds), self.group_size):
            yield self.rays(seeds[start : start + self.group_size])

    def along(self, directions: Directions) -> LossEngine:
        """The same engine with other directions from the same minimum, preconditioned ones for example."""
        other = copy.copy(self)
        other.directions, other.reordered = directions, {}
        return other

    def in_order(self, order: Tensor) -> LossEngine:
        """The same model, loss and directions on these samples, in this order, as one landscape."""
        other = copy.copy(self)
        other.__dict__.pop("start", None)
        x, other.y = (each(values, lambda tensor: tensor[order]) for values in (self.general.x, self.y))
        other.sizes, other.reordered = (len(order),), {}
        with self.host.borrowed():
            other.general = GeneralPath(self.host, self.directions, x, other.sizes, self.loss)
            other.path = other.general if self.path is self.general else self._choose(x, other.sizes)
        other.path_targets = _features_first(other.y) if other.path.features_first else other.y
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

    @cached_property
    def start(self) -> Values:
        """Loss and accuracy (K, 1) of the minimum itself in every landscape."""
        still = [torch.zeros_like(tensor) for tensor in self.directions.minimum]
        return Rays(self, self.path, (0,), np.zeros(1), self.path.hold([still])).evaluate(np.zeros(1, int), np.zeros(1))

    def check(self, seed: int = 1) -> None:
        """Compare the fast path with the plain loop on one direction and three coefficients; take the plain loop where they differ."""
        if self.path is self.general:
            return
        size = next((size for size in reversed(self.sizes) if size <= CHECKED_SAMPLES), self.sizes[0])
        direction, norm = self.directions.draw(seed)
        rows, coefficients = np.zeros(len(CHECKED_COEFFICIENTS), int), np.array(CHECKED_COEFFICIENTS)
        fast, plain = (
            Rays(self, path, (seed,), np.array([norm]), path.hold([direction]))
            .evaluate(rows, coefficients, [size])
            .loss[0]
            for path in (self.path, self.general)
        )
        if not np.allclose(fast, plain, rtol=5e-3, atol=1e-6, equal_nan=True):
            self.notes += (f"the fast path ({self.path.name}) disagreed with the plain loop, which was used instead",)
            self.path, self.path_targets = self.general, self.y
            self.__dict__.pop("start", None)


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
        chunk, parts = path.chunk_for(sizes[-1]), []
        with engine.at_work():
            for start in range(0, len(rows), chunk):
                some = slice(start, start + chunk)
                stacked = path.stack(
                    self.held,
                    torch.as_tensor(rows[some], device=engine.device),
                    torch.as_tensor(coefficients[some], device=engine.device),
                )
                run = partial(path.outputs, stacked, self.held)
                parts.append(engine.measure(path, run, sizes, wrong_allowed, accuracy))
        return Values.join(parts)


def _features_first(y: Tensor) -> Tensor:
    """The same targets, laid out in memory as the fast path's outputs are."""
    return y.t().contiguous().t() if y.ndim == 2 else y
