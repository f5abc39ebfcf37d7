"""Kernels whose second derivatives are right: torch's fused ones have none, or a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


class _PlainWeightNorm(TorchFunctionMode):
    """g v / ||v|| in plain steps: the fused kernel's backward pass takes ||v|| for a constant when it is differentiated itself."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is not torch._weight_norm:
            return function(*args, **(kwargs or {}))
        return _weight_norm(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Attention and weight normalisation in plain steps inside the block."""
    with sdpa_kernel(SDPBackend.MATH), _PlainWeightNorm():
        yield
