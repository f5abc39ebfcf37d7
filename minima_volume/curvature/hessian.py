"""The mean loss around a minimum as a function of z, theta = theta* + F z: values, gradients, Hessian-vector products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.arguments import check_names
from minima_volume.curvature.kernels import plain_kernels
from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import fit_to, host_of
from minima_volume.hosts.footprint import PROBED, Footprint
from minima_volume.hosts.host import Host
from minima_volume.losses.loss import Loss, LossLike
from minima_volume.losses.registry import get_loss
from minima_volume.perturbation.directions import Directions, perturbed_names
from minima_volume.perturbation.given import check_types, perturbed_type
from minima_volume.samples import Samples, count, part, tensors

# what one tile's graph may take; a constant, so that tiles (and the last digits) depend on the model and data alone
TILE_BYTES = 2**26
LARGEST_TILE = 2048


@dataclass(frozen=True)
class MeanLoss:
    """L(theta* + F z), the mean loss over a landscape, near one minimum; make one with `MeanLoss.of`.

    Vectors z are flat, (n,): the perturbed parameters one after the other, in the model's type, on its device. With scaling
    `none` they are the parameters' own coordinates; entries with F = 0 are kept, do not move, and have zero derivatives.

    Attributes:
        host: the module that is run; the user's model comes back unchanged.
        directions: names, theta* and F.
        x, y: the samples.
        loss: per-sample losses.
        tile: samples in one forward pass; memory grows with it, not with the number of samples.
        notes: what a reader of a result must know about the model.
    """

    host: Host
    directions: Directions
    x: Samples
    y: Any
    loss: Loss
    tile: int
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: nn.Module | Host,
        x: Samples,
        y: Any,
        loss: LossLike = "cross_entropy",
        *,
        scaling: str = "none",
        names: str | Sequence[str] = "weight_bias",
        class_axis: int | None = None,
        tile: int | None = None,
    ) -> MeanLoss:
        """Check the samples against the model and cut them into tiles.

        Args:
            model: a trained model, which comes back unchanged, or a host of it.
            x: (T, ...) inputs, on the model's device.
            y: (T, ...) targets.
            loss: `cross_entropy`, `bce_with_logits`, `mse`, or a callable (outputs, targets) -> (T,) differentiable losses, or one
                loss of all samples.
            scaling: F: `none`, `filter`, `layer`, `tensor_std` or `sample_std`.
            names: parameters that move: `weight_bias`, `weights`, `all`, or a list of names, see `perturbation.names`.
            class_axis: which axis of the outputs counts classes, see `losses.registry.fit`.
            tile: samples in one forward pass; by default what fits 64 MiB, at most 2,048; all of them where they depend on each other.

        Raises:
            ConfigError: devices, types, targets or names do not fit.
        """
        module = model.module if isinstance(model, Host) else model
        names = check_names(names)
        chosen = perturbed_names(module, names)
        perturbed_type(module, chosen)
        device = next(module.parameters()).device
        given = [*tensors(x), *tensors(y)]
        if wrong := {str(tensor.device) for tensor in given if tensor.device != device}:
            raise ConfigError(
                f"the samples are on {', '.join(sorted(wrong))}, the model on {device}; move one of them, for example model.to(x.device)"
            )
        check_types(module, x)
        if count(x) != count(y) or not count(x):
            raise ConfigError(
                f"x has {count(x)} samples, y has {count(y)}; they must be equally many, and at least one"
            )
        host = model if isinstance(model, Host) else host_of(model, x, chosen, loss=(loss, y))
        if host.rewritten:
            raise ConfigError(
                f"{type(module).__name__} writes to its own parameters in forward, which leaves no derivative at the minimum: "
                "do that outside forward, or as a parametrization (torch.nn.utils.parametrize)"
            )
        with host.borrowed():
            directions = Directions.of(host.module, scaling, names)
            fitted = fit_to(host, x, y, get_loss(loss), class_axis)
        notes = tuple(filter(None, (*host.notes, fitted.note)))
        ready = cls(host, directions, x, fitted.targets, fitted.loss, tile or 1, notes)
        if fitted.apart:
            return replace(ready, tile=count(x))
        return ready if tile else replace(ready, tile=_tile(ready))

    @property
    def num_entries(self) -> int:
        """Length of z, with the entries that have F = 0."""
        return sum(tensor.numel() for tensor in self.directions.minimum)

    @property
    def num_samples(self) -> int:
        return count(self.x)

    def zeros(self) -> Tensor:
        """z of the minimum itself."""
        return self.directions.minimum[0].new_zeros(self.num_entries)

    @contextlib.contextmanager
    def at(self, z: Tensor | None = None) -> Iterator[list[nn.Parameter]]:
        """The parameters at z (at the minimum by default), which passes in the meantime depend on, with gradients."""
        with self.host.borrowed():
            parameters = self.host.parameters(self.directions.names)
            flags = [parameter.requires_grad for parameter in parameters]
            try:
                self._write(parameters, z)
                for parameter in parameters:
                    parameter.requires_grad_(True)
                yield parameters
            finally:
                self._write(parameters, None)
                for parameter, flag in zip(parameters, flags, strict=True):
                    parameter.requires_grad_(flag)

    def value(self, z: Tensor | None = None) -> float:
        """The mean loss at z (the minimum by default), summed in float64."""
        total = 0.0
        with self.at(z), torch.no_grad():
            for x, y in self._tiles():
                total += float(self._losses(x, y).double().sum())
        return total / self.num_samples

    def gradient(self, z: Tensor | None = None) -> tuple[float, Tensor]:
        """The mean loss at z and its gradient with respect to z, (n,)."""
        total, gradient = 0.0, [torch.zeros_like(tensor) for tensor in self.directions.minimum]
        with self.at(z) as parameters, torch.enable_grad():
            for x, y in self._tiles():
                losses = self._losses(x, y)
                total += float(losses.detach().double().sum())
                for sum_, piece in zip(gradient, self._first(losses, parameters, graph=False), strict=True):
                    sum_ += piece
        return total / self.num_samples, self._flat(gradient) / self.num_samples

    def hessian_product(self, vectors: Tensor, z: Tensor | None = None) -> Tensor:
        """H v for one vector (n,) or several (k, n), H the Hessian with respect to z (F H_theta F) at z.

        Reverse mode twice (Pearlmutter 1994); the forward pass and the gradient of a tile serve all vectors. ReLU counts as linear
        on either side; a user's function marked `once_differentiable` counts as constant; torch does not report it.

        Raises:
            ConfigError: the loss or a layer has no second derivative.
        """
        rows = [self._split(row) for row in vectors.reshape(-1, self.num_entries)]
        products = [[torch.zeros_like(tensor) for tensor in self.directions.minimum] for _ in rows]
        with self.at(z) as parameters, torch.enable_grad(), plain_kernels():
            for x, y in self._tiles():
                first = self._first(self._losses(x, y), parameters, graph=True)
                curved = [i for i, part in enumerate(first) if part.requires_grad]
                if not curved:  # the loss is linear in the parameters here
                    continue
                for row, product in zip(rows, products, strict=True):
                    given = [row[i].to(first[i].dtype) for i in curved]
                    for sum_, piece in zip(
                        product, self._second([first[i] for i in curved], parameters, given), strict=True
                    ):
                        sum_ += piece
        flat = torch.stack([self._flat(product) for product in products]) / self.num_samples
        return flat.reshape(vectors.shape)

    def outputs(self, x: Samples) -> Any:
        """A forward pass with the parameters as they are now, see `at`; the loss has read its outputs."""
        return self.loss.read(self.host.run(x))

    def _write(self, parameters: Sequence[nn.Parameter], z: Tensor | None) -> None:
        steps = [None] * len(parameters) if z is None else self._split(z)
        for parameter, minimum, step in zip(parameters, self.directions.minimum, steps, strict=True):
            parameter.data.copy_(minimum if step is None else minimum + step)

    def _losses(self, x: Samples, y: Any) -> Tensor:
        return self.loss.per_sample(self.host.run(x), y)

    def _first(self, losses: Tensor, parameters: Sequence[Tensor], graph: bool) -> tuple[Tensor, ...]:
        if not losses.requires_grad:
            raise ConfigError(
                f"loss {self.loss.name!r} has no gradient with respect to the parameters; use a differentiable loss"
            )
        return torch.autograd.grad(losses.sum(), parameters, create_graph=graph, materialize_grads=True)

    def _second(self, first: list[Tensor], parameters: Sequence[Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
        try:
            return torch.autograd.grad(first, parameters, grad_outputs=given, retain_graph=True, materialize_grads=True)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"no Hessian: loss {self.loss.name!r} or a layer of {type(self.host.module).__name__} has no second derivative ({reason})"
            ) from error

    def _tiles(self) -> Iterator[tuple[Samples, Any]]:
        for start in range(0, self.num_samples, self.tile):
            yield part(self.x, start, start + self.tile), part(self.y, start, start + self.tile)

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
    """Samples whose graph for Hessian-vector products fits the budget."""
    if mean_loss.num_samples < max(PROBED):
        return mean_loss.num_samples

    def product(samples: int) -> None:
        x, y = part(mean_loss.x, 0, samples), part(mean_loss.y, 0, samples)
        # without a second derivative: gradients only, a few times less than the forward pass
        without = contextlib.suppress(RuntimeError, ConfigError)
        with mean_loss.at() as parameters, torch.enable_grad(), plain_kernels(), without:
            first = mean_loss._first(mean_loss._losses(x, y), parameters, graph=True)
            curved = [one for one in first if one.requires_grad]
            mean_loss._second(curved, parameters, [torch.ones_like(one) for one in curved])

    module = mean_loss.host.module
    known = [*module.parameters(), *module.buffers(), *tensors(mean_loss.x), *tensors(mean_loss.y)]
    return min(LARGEST_TILE, Footprint.of(product, known).samples(TILE_BYTES))
