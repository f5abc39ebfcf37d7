"""Kernels whose second derivatives are right: torch's fused ones have none, or a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from minima_volume.errors import ConfigError
from minima_volume.seeding import generator, normals

if TYPE_CHECKING:
    from minima_volume.curvature.hessian import MeanLoss

ASYMMETRY = 0.05  # more than rounding makes, relative to the length of the products


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


def is_symmetric(mean_loss: MeanLoss, seed: int) -> bool:
    """True, or an error: where the Hessian is not symmetric the second derivative of some layer is wrong, and no other sign tells.

    For standard normal u and v the standard deviation of u'Hv - v'Hu is the Frobenius norm of H - H', that of |Hu| about that of H.

    Raises:
        ConfigError: u'Hv and v'Hu differ by more than rounding explains, or there is no Hessian.
    """
    shape, random = (2, mean_loss.num_entries), generator(seed, "symmetry")
    pair = normals(random, *shape).to(mean_loss.zeros())
    products = mean_loss.hessian_product(pair).double()
    (_, first), (second, _) = (products @ pair.double().T).tolist()
    if abs(first - second) > ASYMMETRY * float(products.norm()):
        raise ConfigError(
            f"no Hessian: u'Hv is {first:.4g}, v'Hu {second:.4g} (u and v random): the second derivative of a layer of "
            f"{type(mean_loss.host.module).__name__} is wrong, or its outputs change from pass to pass"
        )
    return True
