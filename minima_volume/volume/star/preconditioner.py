"""Preconditioners P = L L': what the curvature at a minimum says about where its region reaches far and where it ends soon."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.files.records import UNSAVED
from minima_volume.perturbation.directions import Directions, draw_gaussian


def _lost(w: Tensor) -> Tensor:
    raise ConfigError("a preconditioner that was loaded from a file has lost its factor; measure again to draw with it")


@dataclass(frozen=True)
class Preconditioner:
    """The covariance P = L L' of directions, in the coordinates z of theta = theta* + F z, over the n entries that move.

    On a quadratic loss 1/2 z'Hz with P proportional to H^-1 all rays have the same whitened radius, so each one says all.
    The functions below make P in units where tr P = n: directions are as long as plain ones in the root mean square, so
    coefficients mean the same. With growing damping P tends to 1, plain directions.

    Attributes:
        name: what it was made of.
        factor: w -> L w, (n,) to (n,), float64 on the CPU; L need be neither symmetric nor triangular.
        log_det: log det P.
        damping: what was added to the curvature, relative to its mean tr H / n; None if nothing was.
        num_pilots: pilot directions on which each damping was tried, 0 where it was given.
    """

    name: str
    factor: Callable[[Tensor], Tensor] = field(repr=False, metadata={UNSAVED: _lost})
    log_det: float
    damping: float | None = None
    num_pilots: int = 0


def diagonal(curvature: Tensor, damping: float, name: str = "diagonal") -> Preconditioner | None:
    """P = (diag h + delta)^-1.

    Args:
        curvature: h, (n,), at least 0.
        damping: delta / mean h; None is returned where P is not finite.

    >>> preconditioner = diagonal(torch.tensor([1.0, 4.0]), 0.0)
    >>> preconditioner.factor(torch.ones(2)).square()
    tensor([1.6000, 0.4000], dtype=torch.float64)
    """
    h = curvature.double()
    variance = 1 / (h + damping * h.mean())
    if not _positive(variance):
        return None
    variance = variance / variance.mean()
    scale = variance.sqrt()
    return Preconditioner(name, lambda w: scale * w, float(variance.log().sum()), damping)


def low_rank(values: Tensor, vectors: Tensor, curvature: Tensor, damping: float) -> Preconditioner | None:
    """P = (U diag(lambda) U' + D)^-1 with k eigenpairs and, for all the rest, a diagonal D.

    D is what the eigenpairs leave of the diagonal of the curvature, at least 0, plus delta. With an orthonormal basis Q of
    the columns of D^-1/2 U, L = D^-1/2 (1 + Q M Q')^-1/2 for a (k, k) matrix M: n k numbers, no (n, n) matrix.

    Args:
        values: (k,) eigenvalues, positive.
        vectors: (n, k) orthonormal.
        curvature: (n,) diagonal of the whole curvature.
        damping: delta / mean of `curvature`; None is returned where P is not finite.
    """
    values, vectors, h = values.double(), vectors.double(), curvature.double()
    rest = (h - vectors.square() @ values).clamp(min=0) + damping * h.mean()
    outer = rest.rsqrt()
    if not _positive(outer):
        return None
    q, r = torch.linalg.qr(outer.unsqueeze(1) * vectors)
    mu, rotation = torch.linalg.eigh(r @ torch.diag(values) @ r.T)
    basis, shrink = q @ rotation, (1 + mu.clamp(min=0)).rsqrt()
    trace = float((outer.square() * (1 + basis.square() @ (shrink.square() - 1))).sum())
    outer = outer * math.sqrt(len(h) / trace)
    log_det = 2 * float(outer.log().sum() + shrink.log().sum())
    return Preconditioner("low_rank", lambda w: outer * (w + basis @ ((shrink - 1) * (basis.T @ w))), log_det, damping)


def full(values: Tensor, vectors: Tensor, damping: float) -> Preconditioner | None:
    """P = (|H| + delta)^-1 from all eigenpairs of the Hessian: L = V diag(|lambda| + delta)^-1/2.

    Directions of negative curvature count by its size, so that no large damping is needed where the minimum is none exactly.

    Args:
        values: (n,) eigenvalues.
        vectors: (n, n), V, one per column.
        damping: delta / mean |lambda|; None is returned where P is not finite.
    """
    inner = diagonal(values.abs(), damping, "full")
    if inner is None:
        return None
    return replace(inner, factor=lambda w: vectors @ inner.factor(w))


def _positive(values: Tensor) -> bool:
    return bool((values.isfinite() & (values > 0)).all())


@dataclass(frozen=True)
class PreconditionedDirections(Directions):
    """Directions F L w instead of F w, and the Jacobian that goes with them; norms are ||w||, so radii are whitened.

    Attributes:
        preconditioner: L and log det P; all else is as in `Directions`.
    """

    preconditioner: Preconditioner

    @classmethod
    def around(cls, directions: Directions, preconditioner: Preconditioner) -> PreconditionedDirections:
        """Other directions from the same minimum, in the same scaling."""
        return cls(
            **{field.name: getattr(directions, field.name) for field in fields(Directions)},
            preconditioner=preconditioner,
        )

    @cached_property
    def log_det(self) -> float:
        """sum_j log F_j + 1/2 log det P: the Jacobian of theta = theta* + F L w."""
        return super().log_det + self.preconditioner.log_det / 2

    def steps(self, seed: int) -> tuple[Tensor, Tensor]:
        """w and L w of a seed, (n,) float64: w holds the same normals as the plain direction of that seed."""
        normals = torch.cat([xi.reshape(-1) for xi in draw_gaussian(seed, self.shapes, torch.float64)])[self.moving]
        return normals, self.preconditioner.factor(normals)

    def draw(self, seed: int) -> tuple[list[Tensor], float]:
        """The direction of a seed and ||w||, see `Directions.draw`."""
        normals, step = self.steps(seed)
        flat = torch.zeros(len(self.moving), dtype=torch.float64, device="cpu")
        flat[self.moving] = step
        direction = []
        for part, tensor, factor in zip(
            flat.split([tensor.numel() for tensor in self.minimum]), self.minimum, self.factors, strict=True
        ):
            direction.append(part.reshape(tensor.shape).to(tensor.device, tensor.dtype) * factor)
        return direction, float(normals.norm())


def lengths(directions: Directions, seeds: Sequence[int]) -> list[float]:
    """||z|| of each direction at coefficient 1, without the entries where F = 0."""
    if isinstance(directions, PreconditionedDirections):
        return [float(directions.steps(seed)[1].norm()) for seed in seeds]
    return [directions.draw(seed)[1] for seed in seeds]
