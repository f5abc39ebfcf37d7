"""Directions: a seeded Gaussian vector, scaled parameter by parameter."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.perturbation.names import perturbed_names, still_note
from minima_volume.seeding import normals

SCALINGS = ("filter", "none", "layer", "tensor_std", "sample_std")
SMALLEST_DEVIATION = 1e-8


def draw_gaussian(seed: int, shapes: Sequence[torch.Size], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """xi: standard normals of direction `seed`, parameter by parameter, drawn in float32 on the CPU.

    The same seed names the same direction on every machine and device.

    >>> first, second = draw_gaussian(3, [torch.Size([2, 2]), torch.Size([1])])
    >>> bool((first == torch.randn(2, 2, generator=torch.Generator().manual_seed(3))).all())
    True
    """
    random = torch.Generator("cpu").manual_seed(seed)
    return [normals(random, *shape).to(dtype) for shape in shapes]


def filter_norm(parameter: Tensor) -> Tensor:
    """F: the L2 norm of each entry's row or filter (dimension >= 2), 1 for one-dimensional parameters.

    Returns:
        A tensor that broadcasts against the parameter.

    Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4.
    """
    if parameter.ndim < 2:
        return torch.ones_like(parameter)
    rows = parameter.flatten(1)
    norms = rows.norm(dim=1)
    if rows.numel() and bool((lost := _out_of_range(norms)).any()):
        largest = rows.abs().amax(1)
        norms = torch.where(lost & (largest > 0), (rows / largest[:, None]).norm(dim=1) * largest, norms)
    return norms.reshape(-1, *[1] * (parameter.ndim - 1))


def _sent(tensors: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The tensors on a device: all at once, since a GPU waits for each transfer."""
    if device.type == "cpu":
        return tensors
    parts = torch.cat([tensor.flatten() for tensor in tensors]).to(device).split([t.numel() for t in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _out_of_range(sizes: Tensor) -> Tensor:
    """Where squares of numbers as large as these leave the range of their type."""
    small = (
        0.0 if sizes.dtype == torch.float16 else 1e3 * math.sqrt(torch.finfo(sizes.dtype).tiny)
    )  # squared in float32
    return (sizes < small) | ~sizes.isfinite()


def _size(parameter: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """A norm or deviation; where its squares leave the range of the type, that of the parameter over its largest entry."""
    size = measure(parameter)
    if not parameter.numel():
        return size
    largest = parameter.abs().max()
    return measure(parameter / largest) * largest if bool(_out_of_range(size) & (largest > 0)) else size


def scaling_factor(parameter: Tensor, scaling: str) -> Tensor:
    """What a Gaussian is multiplied by, broadcastable against the parameter.

    Args:
        parameter: one parameter tensor.
        scaling: `filter` (see `filter_norm`); `none` (1); `layer`: the L2 norm of the whole tensor for dimension >= 2,
            1 for one-dimensional ones; `tensor_std`: the tensor's standard deviation (population); `sample_std`: its sample standard
            deviation, at least 1e-8, as the weight-noise study has it.

    Raises:
        ConfigError: no such scaling.
    """
    if scaling == "filter":
        return filter_norm(parameter)
    if scaling == "none":
        return parameter.new_ones(())
    if scaling == "layer":
        return _size(parameter, Tensor.norm) if parameter.ndim >= 2 else parameter.new_ones(())
    if scaling == "tensor_std":
        return _size(parameter, lambda tensor: tensor.std(correction=0))
    if scaling == "sample_std":
        deviation = parameter.std() if parameter.numel() > 1 else parameter.new_zeros(())
        return deviation.clamp(min=SMALLEST_DEVIATION)
    raise ConfigError(f"scaling {scaling!r} is not known; allowed: {', '.join(SCALINGS)}")


@dataclass(frozen=True)
class Directions:
    """Everything that turns a seed into a direction of one model.

    Attributes:
        names: the perturbed parameters.
        left_out: the model's other parameters, as far as they have entries.
        num_left_out: their entries.
        minimum: theta*, one tensor a name, a copy.
        factors: the scaling of each, broadcastable against it.
        scaling: its name.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    num_left_out: int
    minimum: tuple[Tensor, ...]
    factors: tuple[Tensor, ...]
    scaling: str

    @classmethod
    def of(cls, model: nn.Module, scaling: str = "filter", names: str | Sequence[str] = "weight_bias") -> Directions:
        """The directions of a model's parameters as they are now."""
        chosen = perturbed_names(model, names)
        parameters = dict(model.named_parameters())
        minimum = tuple(parameters[name].detach().clone(memory_format=torch.contiguous_format) for name in chosen)
        if bad := [name for name, tensor in zip(chosen, minimum, strict=True) if not tensor.is_floating_point()]:
            raise ConfigError(f"parameters {bad} are not floating-point numbers; choose others with names=[...]")
        left_out = tuple(name for name, tensor in parameters.items() if tensor.numel() and name not in chosen)
        entries = sum(parameters[name].numel() for name in left_out)
        factors = tuple(scaling_factor(tensor, scaling) for tensor in minimum)
        return cls(chosen, left_out, entries, minimum, factors, scaling)

    @property
    def shapes(self) -> list[torch.Size]:
        return [tensor.shape for tensor in self.minimum]

    @cached_property
    def num_zero(self) -> int:
        """Entries whose scaling is 0 (dead filters): directions do not move them, they are left out of n."""
        return sum(
            int((factor == 0).expand(tensor.shape).sum())
            for tensor, factor in zip(self.minimum, self.factors, strict=True)
        )

    @cached_property
    def num_params(self) -> int:
        """n: the entries that directions move."""
        return sum(tensor.numel() for tensor in self.minimum) - self.num_zero

    @cached_property
    def moving(self) -> Tensor:
        """(N,) which entries of a flat parameter vector have F != 0, on the CPU; n of them."""
        parts = zip(self.minimum, self.factors, strict=True)
        return torch.cat([(factor != 0).expand(tensor.shape).reshape(-1).cpu() for tensor, factor in parts])

    @property
    def note(self) -> str | None:
        """What directions leave as it is, in words."""
        return still_note(self.left_out, self.num_left_out, self.num_params, self.num_zero)

    @cached_property
    def log_det(self) -> float:
        """sum_j log F_j over the n entries, float64: the Jacobian of theta = theta* + F z."""
        total = 0.0
        for tensor, factor in zip(self.minimum, self.factors, strict=True):
            count = tensor.numel() // factor.numel()
            positive = factor[factor > 0].double()
            total += count * positive.log().sum().item()
        return total

    def seed_of(self, seed: int) -> int:
        """A seed for particles of this minimum alone: minima that are measured with one seed have independent errors, as comparisons take them to have.

        >>> first, second = (Directions.of(nn.Linear(2, 1)) for _ in range(2))
        >>> first.seed_of(1) == first.seed_of(1), first.seed_of(1) == second.seed_of(1)
        (True, False)
        """
        return int(np.random.SeedSequence([seed, self._mark]).generate_state(1)[0])

    @cached_property
    def _mark(self) -> int:
        """A checksum of the minimum."""
        mark = 0
        for tensor in self.minimum:
            mark = zlib.crc32(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes(), mark)
        return mark

    def draw(self, seed: int) -> tuple[list[Tensor], float]:
        """The direction of a seed, on the model's device and in its type, and its norm.

        Returns:
            xi * F, one tensor a name, and ||xi|| (float64, without the entries where F = 0).
        """
        drawn, norms = draw_gaussian(seed, self.shapes), []
        for xi, moved in zip(drawn, self._moved, strict=True):
            kept = xi if moved is None else xi * moved
            norms.append(torch.linalg.vector_norm(kept, dtype=torch.float64))
        there = zip(_sent(drawn, self.minimum[0].device), self.minimum, self.factors, strict=True)
        direction = [xi.to(tensor.device, tensor.dtype) * factor for xi, tensor, factor in there]
        return direction, math.hypot(*torch.stack(norms).tolist())

    @cached_property
    def _moved(self) -> list[Tensor | None]:
        """Where each scaling is not 0; None if it is 0 everywhere."""
        return [(factor != 0).cpu() if bool((factor == 0).any()) else None for factor in self.factors]
