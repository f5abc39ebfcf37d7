"""The largest eigenvalues of the Hessian, matrix-free."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.files.records import UNSAVED

DENSE_BELOW = 64  # as many products as Lanczos would take


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of a Hessian.

    Attributes:
        eigenvalues: (k,) descending, loss / z^2.
        vectors: (n, k) unit eigenvectors, in the coordinates of z; none of them, (0, 0), if loaded from a file.
        residuals: (k,) ||H v - lambda v|| / max |lambda|: each eigenvalue of H is within residual * max |lambda|.
        num_products: Hessian-vector products taken.
        note: what did not converge, or None.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray = field(repr=False, metadata={UNSAVED: np.empty((0, 0))})
    residuals: np.ndarray
    num_products: int
    note: str | None = None


def top_eigenvalues(
    mean_loss: MeanLoss,
    k: int = 5,
    *,
    z: Tensor | None = None,
    seed: int = 1,
    tolerance: float = 1e-3,
    max_products: int = 2000,
) -> Spectrum:
    """The k algebraically largest eigenvalues of the Hessian with respect to z, by implicitly restarted Lanczos.

    Args:
        mean_loss: the loss and its coordinates.
        k: how many; at most n.
        z: where; the minimum by default.
        seed: of the start vector.
        tolerance: relative, of the eigenvalues (ARPACK's `tol`); float32 models do not reach below about 1e-6.
        max_products: where to give up; what has converged by then is returned, with a note.

    Raises:
        ConfigError: k is not allowed, the Hessian is not finite, or there is none.

    Source: Lehoucq, Sorensen and Yang 1998, ARPACK, through scipy.sparse.linalg.eigsh; dense for n <= 64.
    """
    n = mean_loss.num_entries
    if not 1 <= k <= n:
        raise ConfigError(f"{k} eigenvalues are not allowed: the Hessian has {n}")
    products = 0

    def multiply(columns: np.ndarray) -> np.ndarray:
        nonlocal products
        rows = torch.as_tensor(columns.T, dtype=mean_loss.zeros().dtype, device=mean_loss.zeros().device)
        products += 1 if rows.ndim == 1 else len(rows)
        product = mean_loss.hessian_product(rows, z).double().cpu().numpy().T
        if not np.isfinite(product).all():
            raise ConfigError("the Hessian is not finite: the loss is NaN or infinite here")
        return product

    note = None
    if n <= max(DENSE_BELOW, 2 * k + 1):
        dense = multiply(np.eye(n))
        values, vectors = np.linalg.eigh((dense + dense.T) / 2)
    else:
        values, vectors, note = _lanczos(multiply, n, k, seed, tolerance, max_products)
    order = np.argsort(-values)[:k]
    values, vectors = values[order], vectors[:, order]
    scale = max(float(np.abs(values).max(initial=0.0)), np.finfo(float).tiny)
    residuals = np.linalg.norm(multiply(vectors) - vectors * values, axis=0) / scale if len(values) else np.zeros(0)
    return Spectrum(values, vectors, residuals, products, note)


def lanczos_bytes(n: int, k: int) -> int:
    """Memory that the k largest eigenvalues of an n x n Hessian take: the basis, the vectors, and a few more of ARPACK's."""
    return 8 * n * (_basis(n, k) + 2 * k + 8)


def _basis(n: int, k: int) -> int:
    return min(n, max(2 * k + 1, 20))


def _lanczos(
    multiply: object, n: int, k: int, seed: int, tolerance: float, max_products: int
) -> tuple[np.ndarray, np.ndarray, str | None]:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    start = np.random.default_rng(seed).standard_normal(n)
    if not np.any(multiply(start)):  # type: ignore[operator]
        return np.zeros(k), np.eye(n, k), None
    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    width = _basis(n, k)
    try:
        values, vectors = eigsh(
            operator, k, which="LA", v0=start, ncv=width, tol=tolerance, maxiter=max(1, max_products // width)
        )
    except ArpackNoConvergence as error:
        found = len(error.eigenvalues)
        return error.eigenvalues, error.eigenvectors, f"{found} of {k} eigenvalues converged in {max_products} products"
    return values, vectors, None
