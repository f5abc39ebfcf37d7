"""The trace of the Hessian, matrix-free."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator


@dataclass(frozen=True)
class Trace:
    """The trace of a Hessian.

    Attributes:
        value: loss / z^2; sigma^2 / 2 times it is the mean loss increase under noise of size sigma, to second order.
        standard_error: of the random probes; 0 where exact.
        num_products: Hessian-vector products taken.
        method: `exact` or `hutch++`.
    """

    value: float
    standard_error: float
    num_products: int
    method: str


def hessian_trace(mean_loss: MeanLoss, *, num_products: int = 60, seed: int = 1) -> Trace:
    """tr H of the Hessian with respect to z at the minimum: exact for n <= num_products, else Hutch++.

    A third of the products finds a basis Q of the steepest directions, a third takes tr Q'HQ exactly, and a third estimates
    the rest with random signs g, tr (I - QQ') H (I - QQ') = E g'(I - QQ') H (I - QQ') g. The estimate is unbiased, and
    the spread of the last third is its standard error.

    Args:
        mean_loss: the loss and its coordinates.
        num_products: Hessian-vector products to spend, at least 6; a third of them are held, n numbers each.
        seed: of the probes.

    Raises:
        ConfigError: too few products, or the Hessian is not finite, or there is none.

    Source: Meyer, Musco, Musco and Woodruff 2021, "Hutch++: Optimal Stochastic Trace Estimation".
    """
    if num_products < 6:
        raise ConfigError(f"num_products {num_products} is not allowed: it must be at least 6")
    n, zeros = mean_loss.num_entries, mean_loss.zeros()
    if n <= num_products:
        value, error, products = (
            float(_products(mean_loss, torch.eye(n, dtype=zeros.dtype, device=zeros.device)).diagonal().double().sum()),
            0.0,
            n,
        )
        return Trace(value, error, products, "exact")
    third = num_products // 3
    signs = (
        torch.randint(0, 2, (2 * third, n), generator=generator(seed, "trace probes"), device="cpu").to(zeros) * 2 - 1
    )
    basis = torch.linalg.qr(_products(mean_loss, signs[:third]).T).Q.T
    known = float((basis * _products(mean_loss, basis)).double().sum())
    probes = signs[third:] - (signs[third:] @ basis.T) @ basis
    rest = (probes * _products(mean_loss, probes)).double().sum(1)
    value, error = known + float(rest.mean()), float(rest.std()) / math.sqrt(third)
    return Trace(value, error, 3 * third, "hutch++")


def _products(mean_loss: MeanLoss, vectors: torch.Tensor) -> torch.Tensor:
    products = mean_loss.hessian_product(vectors)
    if not bool(products.isfinite().all()):
        raise ConfigError("the Hessian is not finite: the loss is NaN or infinite here")
    return products
