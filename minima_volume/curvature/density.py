"""The density of all eigenvalues of the Hessian, matrix-free, by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
import torch

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator

SMALLEST_STEP = 1e-6  # of the largest coefficient of a Lanczos matrix: below, the vector spans no more
WIDTH = 0.01  # of the range of the eigenvalues: the width of a smoothed peak


@dataclass(frozen=True)
class Density:
    """The spectral density as point masses: what share of all eigenvalues lies where.

    Attributes:
        nodes: (K,) ascending, loss / z^2.
        weights: (K,) shares, at least 0, their sum 1.
        num_entries: n, the eigenvalues that there are.
        num_products: Hessian-vector products taken.
        method: `exact`, all eigenvalues, or `lanczos`.
    """

    nodes: np.ndarray
    weights: np.ndarray
    num_entries: int
    num_products: int
    method: str

    @property
    def width(self) -> float:
        """Standard deviation of the Gaussians that `smooth` puts in the place of the masses: 1 % of their range."""
        return max(WIDTH * float(np.ptp(self.nodes)), 1e-12)

    @property
    def trace(self) -> float:
        """The sum of all eigenvalues, n times their mean."""
        return self.num_entries * float(self.weights @ self.nodes)

    def smooth(self, at: np.ndarray, width: float | None = None) -> np.ndarray:
        """The density per unit of the eigenvalue, with a Gaussian in the place of each mass.

        Args:
            at: (P,) eigenvalues.
            width: its standard deviation, `self.width` by default.
        """
        s = self.width if width is None else width
        return scipy.stats.norm.pdf(np.asarray(at)[:, None], self.nodes, s) @ self.weights

    def share_below(self, value: float) -> float:
        """The share of eigenvalues at or below a value."""
        return float(self.weights[self.nodes <= value].sum())


def eigenvalue_density(mean_loss: MeanLoss, *, num_vectors: int = 4, num_steps: int = 40, seed: int = 1) -> Density:
    """The density of the eigenvalues of the Hessian with respect to z at the minimum, over the n entries that move.

    From a random vector v of signs, m steps of Lanczos give a tridiagonal matrix whose eigenvalues and squared first components are the
    nodes and weights of Gauss's quadrature for v's spectral measure: right for polynomials up to degree 2 m - 1. The mean over vectors
    estimates the density, without bias in each of these moments. If n is at most num_vectors x num_steps, the whole Hessian costs no
    more, and all eigenvalues are exact.

    Args:
        mean_loss: the loss and its coordinates.
        num_vectors: random vectors.
        num_steps: of Lanczos, m; as many vectors of n numbers are held.
        seed: of the signs.

    Raises:
        ConfigError: a number is not allowed, or the Hessian is not finite, or there is none.

    Sources: Ghorbani, Krishnan and Xiao 2019, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density"; Golub and
    Welsch 1969 (the quadrature).
    """
    for name, count in (("num_vectors", num_vectors), ("num_steps", num_steps)):
        if count < 1:
            raise ConfigError(f"{name} {count} is not allowed: it must be at least 1")
    moving = mean_loss.directions.moving.numpy()
    n = int(moving.sum())
    if n == 0:
        raise ConfigError("no parameter moves: every scaling is 0")
    if n <= num_vectors * num_steps:
        matrix = np.stack([_product(mean_loss, moving, unit) for unit in np.eye(n)])
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        return Density(values, np.full(n, 1 / n), n, n, "exact")
    signs = torch.randint(0, 2, (num_vectors, n), generator=generator(seed, "density"), device="cpu").double() * 2 - 1
    parts = [_lanczos(mean_loss, moving, row, min(num_steps, n)) for row in signs.numpy()]
    nodes, weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    order = np.argsort(nodes)
    return Density(nodes[order], weights[order] / num_vectors, n, sum(len(part[0]) for part in parts), "lanczos")


def _lanczos(
    mean_loss: MeanLoss, moving: np.ndarray, start: np.ndarray, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights from one vector; every new direction is made orthogonal to all before, twice."""
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        step = _product(mean_loss, moving, basis[-1])
        diagonal.append(float(step @ basis[-1]))
        held = np.stack(basis)
        for _ in range(2):
            step = step - held.T @ (held @ step)
        size = float(np.linalg.norm(step))
        if len(basis) == num_steps or size <= SMALLEST_STEP * max(map(abs, (*diagonal, *beside))):
            break
        beside.append(size)
        basis.append(step / size)
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
    return values, vectors[0] ** 2


def _product(mean_loss: MeanLoss, moving: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """H v over the entries that move, float64."""
    whole = np.zeros(len(moving))
    whole[moving] = vector
    product = mean_loss.hessian_product(torch.from_numpy(whole).to(mean_loss.zeros())).double().cpu().numpy()[moving]
    if not np.isfinite(product).all():
        raise ConfigError("the Hessian is not finite: the loss is NaN or infinite here")
    return product
