"""An event with a known probability: squared length of standard normals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor


def same(score: np.ndarray) -> np.ndarray:
    return score


@dataclass(frozen=True)
class ChiSquare:
    """|z_1 .. z_k|^2 <= threshold for z of `dim` numbers, possibly through a function that makes scores tie."""

    threshold: float
    k: int = 5
    dim: int = 8
    chunk: int = 2000
    through: Callable[[np.ndarray], np.ndarray] = same

    @classmethod
    def of(cls, log_mass: float, **options: object) -> ChiSquare:
        """The event whose probability has this log."""
        event = cls(0.0, **options)  # type: ignore[arg-type]
        return replace(event, threshold=float(chi2.ppf(math.exp(log_mass), event.k)))

    @property
    def bytes_per_particle(self) -> int:
        return 8 * self.dim

    def outside(self) -> float | None:
        return None

    def empty(self, count: int) -> Tensor:
        return torch.empty(count, self.dim, dtype=torch.float64)

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def scores(self, z: Tensor) -> np.ndarray:
        return self.through(z[:, : self.k].square().sum(1).numpy())
