"""The mean loss around a minimum as a function of z, theta = theta* + F z: values, gradients, Hessian-vector products."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from minima_volume.curvature.kernels import plain_kernels
from minima_volume.errors import ConfigError
from minima_volume.losses import Loss, PerSample, get_loss, prepare_targets
from minima_volume.perturbation.directions import Directions

# what one tile's graph may take; a constant, so that tiles (and the last digits) depend on the model and data alone
TILE_BYTES = 2**28
LARGEST_TILE = 2048


@dataclass(frozen=True)
class MeanLoss:
    """L(theta* + F z), the mean loss over a landscape, near one minimum; make one with `MeanLoss.of`.

    Vectors z are flat, (n,): the perturbed parameters one after the other, in the model's type, on its device. With scaling
    `none` they are the parameters' own coordinates; entries with F = 0 are kept, do not move, and have zero derivatives.

    Attributes:
        model: a copy in evaluation mode; neither it nor the user's model is ever changed.
        directions: names, theta* and F.
        x, y: the samples.
        loss: per-sample losses.
        tile: samples in one forward pass; memory grows with it, not with the number of samples.
    """

    model: nn.Module
    directions: Directions
    x: Tensor
    y: Tensor
    loss: Loss
    tile: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        loss: str | PerSample = "cross_entropy",
        *,
        scaling: str = "none",
        names: str | Sequence[str] = "weight_bias",
        tile: int | None = None,
    ) -> MeanLoss:
        """Check the samples against the model and cut them into tiles.

        Args:
            model: a trained model; it comes back unchanged.
            x: (T, ...) inputs, on the model's device.
            y: (T, ...) targets.
            loss: `cross_entropy`, `bce_with_logits`, `mse`, or a callable (outputs, targets) -> (T,) differentiable losses.
            scaling: F: `none`, `filter`, `layer` or `tensor_std`.
            names: parameters that move: `weight_bias`, `all`, or a list of names, see `perturbation.names`.
            tile: samples in one forward pass; by default what fits 256 MiB, at most 2,048.

        Raises:
            ConfigError: devices, types, targets or names do not fit.
        """
        directions = Directions.of(model, scaling, names)
        device, dtype = directions.minimum[0].device, directions.minimum[0].dtype
        if wrong := {str(tensor.device) for tensor in (x, y) if tensor.device != device}:
            raise ConfigError(
                f"the samples are on {', '.join(sorted(wrong))}, the model on {device}; move one of them, for example model.to(x.device)"
            )
        if x.is_floating_point() and x.dtype != dtype:
            raise ConfigError(f"the samples are {x.dtype}, the model {dtype}; convert one of them")
        if len(x) != len(y) or not len(x):
            raise ConfigError(f"x has {len(x)} samples, y has {len(y)}; they must be equally many, and at least one")
        frozen = copy.deepcopy(model).eval().requires_grad_(False)
        bare = cls(frozen, directions, x, y, get_loss(loss), tile or 1)
        try:
            with torch.no_grad():
                one = bare.outputs(list(directions.minimum), x[:1])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"{type(model).__name__} cannot take samples of shape {tuple(x.shape[1:])} and type {x.dtype}: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        targets = prepare_targets(bare.loss, one.expand(len(x), *one.shape[1:]), y)
        ready = cls(frozen, directions, x, targets, bare.loss, tile or 1)
        return ready if tile else cls(frozen, directions, x, targets, bare.loss, _tile(ready))

    @property
    def num_entries(self) -> int:
        """Length of z, with the entries that have F = 0."""
        return sum(tensor.numel() for tensor in self.directions.minimum)

    @property
    def num_samples(self) -> int:
        return len(self.x)

    def zeros(self) -> Tensor:
        """z of the minimum itself."""
        return self.directions.minimum[0].new_zeros(self.num_entries)

    def value(self, z: Tensor | None = None) -> float:
        """The mean loss at z (the minimum by default), summed in float64."""
        parameters, total = self._parameters(z), 0.0
        with torch.no_grad():
            for x, y in self._tiles():
                total += float(self._losses(parameters, x, y).double().sum())
        return total / self.num_samples

    def gradient(self, z: Tensor | None = None) -> tuple[float, Tensor]:
        """The mean loss at z and its gradient with respect to z, (n,)."""
        parameters = self._parameters(z)
        total, gradient = 0.0, [torch.zeros_like(tensor) for tensor in parameters]
        with torch.enable_grad():
            for x, y in self._tiles():
                losses = self._losses(parameters, x, y)
                total += float(losses.detach().double().sum())
                for sum_, part in zip(gradient, self._first(losses, parameters, graph=False), strict=True):
                    sum_ += part
        return total / self.num_samples, self._flat(gradient) / self.num_samples

    def hessian_product(self, vectors: Tensor, z: Tensor | None = None) -> Tensor:
        """H v for one vector (n,) or several (k, n), H the Hessian with respect to z (F H_theta F) at z.

        Reverse mode twice (Pearlmutter 1994); the forward pass and the gradient of a tile serve all vectors. ReLU counts as linear
        on either side; a function of one's own that is marked `once_differentiable` passes for constant, which torch does not tell.

        Raises:
            ConfigError: the loss or a layer has no second derivative.
        """
        parameters = self._parameters(z)
        rows = [self._split(row) for row in vectors.reshape(-1, self.num_entries)]
        products = [[torch.zeros_like(tensor) for tensor in parameters] for _ in rows]
        with torch.enable_grad(), plain_kernels():
            for x, y in self._tiles():
                first = self._first(self._losses(parameters, x, y), parameters, graph=True)
                curved = [i for i, part in enumerate(first) if part.requires_grad]
                if not curved:  # the loss is linear in the parameters here
                    continue
                for row, product in zip(rows, products, strict=True):
                    given = [row[i].to(first[i].dtype) for i in curved]
                    for sum_, part in zip(
                        product, self._second([first[i] for i in curved], parameters, given), strict=True
                    ):
                        sum_ += part
        flat = torch.stack([self._flat(product) for product in products]) / self.num_samples
        return flat.reshape(vectors.shape)

    def outputs(self, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
        """A forward pass with other parameters; buffers are handed over as copies, since a model may write to them."""
        state = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        state |= dict(zip(self.directions.names, parameters, strict=True))
        return functional_call(self.model, state, (x.clone(),))

    def _parameters(self, z: Tensor | None) -> list[Tensor]:
        with torch.no_grad():
            if z is None:
                return [tensor.clone().requires_grad_() for tensor in self.directions.minimum]
            moved = zip(self.directions.minimum, self._split(z), strict=True)
            return [(tensor + step).requires_grad_() for tensor, step in moved]

    def _losses(self, parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
        losses = self.loss.per_sample(self.outputs(parameters, x), y)
        if losses.shape != x.shape[:1]:
            raise ConfigError(
                f"loss {self.loss.name!r} must return one value a sample, shape ({len(x)},), got {tuple(losses.shape)}"
            )
        return losses

    def _first(self, losses: Tensor, parameters: list[Tensor], graph: bool) -> tuple[Tensor, ...]:
        if not losses.requires_grad:
            raise ConfigError(
                f"loss {self.loss.name!r} has no gradient with respect to the parameters; use a differentiable loss"
            )
        return torch.autograd.grad(losses.sum(), parameters, create_graph=graph, materialize_grads=True)

    def _second(self, first: list[Tensor], parameters: list[Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
        try:
            return torch.autograd.grad(first, parameters, grad_outputs=given, retain_graph=True, materialize_grads=True)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"no Hessian: loss {self.loss.name!r} or a layer of {type(self.model).__name__} has no second derivative ({reason})"
            ) from error

    def _tiles(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, self.num_samples, self.tile):
            yield self.x[start : start + self.tile], self.y[start : start + self.tile]

    def _split(self, z: Tensor) -> list[Tensor]:
        """F z, parameter by parameter."""
        parts = z.split([tensor.numel() for tensor in self.directions.minimum])
        shaped = zip(parts, self.directions.minimum, self.directions.factors, strict=True)
        return [part.reshape(tensor.shape).to(tensor.dtype) * factor for part, tensor, factor in shaped]

    def _flat(self, parts: Sequence[Tensor]) -> Tensor:
        """The derivative with respect to z from that with respect to theta."""
        scaled = zip(parts, self.directions.factors, strict=True)
        return torch.cat([(part.detach() * factor).reshape(-1) for part, factor in scaled])


def _tile(mean_loss: MeanLoss) -> int:
    """Samples whose graph for Hessian-vector products fits the budget: what a second sample adds to the first's."""
    if mean_loss.num_samples == 1:
        return 1
    one, two = (_graph_bytes(mean_loss, count) for count in (1, 2))
    return int(min(LARGEST_TILE, max(1, TILE_BYTES // max(1, two - one))))


def _graph_bytes(mean_loss: MeanLoss, count: int) -> int:
    """Bytes that the graph of a gradient keeps for `count` samples."""
    kept: dict[int, int] = {}
    alive = []  # else a freed address could be handed out twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    parameters = mean_loss._parameters(None)
    try:
        with (
            torch.enable_grad(),
            plain_kernels(),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            losses = mean_loss._losses(parameters, mean_loss.x[:count], mean_loss.y[:count])
            mean_loss._first(losses, parameters, graph=True)
    except RuntimeError:  # no second derivative: gradients only, a few times less than the forward pass counted so far
        pass
    return sum(kept.values())
