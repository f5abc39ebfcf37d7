"""Quadratic losses whose star regions are ellipsoids: made-up radii with a known volume."""

from __future__ import annotations

import numpy as np

from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.volume import StarVolume, star_volume


def ellipsoid_logs(n: int, eigenvalues: np.ndarray, directions: int, seed: int) -> np.ndarray:
    """n log r along random directions of a quadratic with 2 eps = 1: r = (u'Hu)^(-1/2), so that log E[r^n] = -1/2 log det H."""
    return ellipsoids_logs(n, [eigenvalues], directions, seed)[0]


def ellipsoids_logs(n: int, spectra: list[np.ndarray], directions: int, seed: int) -> np.ndarray:
    """The same for several quadratics along the same directions."""
    u = np.random.default_rng(seed).standard_normal((directions, n), dtype=np.float32).astype(float) ** 2
    return np.stack([-n / 2 * np.log(u @ h / u.sum(axis=1)) for h in spectra])


def volume_of(
    logs: np.ndarray, n: int = 10, log_det: float = 0.0, censored: int = 0, first_seed: int = 1
) -> StarVolume:
    """The estimate of a minimum whose radii have these n log r."""
    radius, marks = np.exp(logs / n), np.arange(len(logs))
    radii = Radii(radius, radius, marks < censored, marks < 0, False, 0.1, marks + first_seed, 1e-6)
    return star_volume(radii, n, log_det)
