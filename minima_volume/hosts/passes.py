"""One pass of a probe: over which samples, what its exceptions mean, and whether it drew random numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.hosts.host import Host
from minima_volume.samples import Samples, part, tensors

MOST_SAMPLES, MOST_NUMBERS = 256, 2**18  # of a probe, so that it is quick and fits in memory


def few_of(x: Samples) -> Samples:
    """The samples that a probe looks at: at most 256, fewer where they are large, at least two."""
    each_has = max(tensor[0].numel() for tensor in tensors(x))
    return part(x, 0, max(2, min(MOST_SAMPLES, MOST_NUMBERS // max(1, each_has))))


def uneven(samples: int) -> int:
    """Where to cut samples in two so that groups of 2, 4, 8, ... or of any other size up to a third of them are cut, too.

    >>> uneven(2), uneven(32), uneven(256)
    (1, 1, 83)
    """
    return next((n for n in range(samples // 3, 10, -1) if all(n % k for k in range(2, math.isqrt(n) + 1))), 1)


class SamplesError(ConfigError):
    """The model cannot take these samples."""


def first_pass(host: Host, x: Samples) -> Any:
    """One pass.

    Raises:
        SamplesError: the model cannot take these samples.
    """
    try:
        return host.run(x)
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        model = host.module
        weights = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in [*model.named_parameters()][:2])
        shapes = ", ".join(str(tuple(tensor.shape[1:])) for tensor in tensors(x))
        types = ", ".join(dict.fromkeys(str(tensor.dtype) for tensor in tensors(x)))
        raise SamplesError(
            f"{type(model).__name__} cannot take samples of shape {shapes} and type {types} (its first parameters are {weights}): "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def draw_something() -> None:
    """Move every global generator on, so that a model that draws random numbers gets others."""
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(1, device="cpu")


def write(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)


def equal_states(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Whether nothing was drawn in between."""
    same_numpy = all(_equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    same_torch = all(_equal(a, b) for a, b in zip(first[2:], second[2:], strict=True))
    return first[0] == second[0] and same_numpy and same_torch


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return bool((a == b).all()) if hasattr(a, "all") else bool(a == b)
