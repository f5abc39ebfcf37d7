"""Settings of the Gaussian local volume at the front door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.plan import METHODS, MassSettings
from minima_volume.volume.gaussian.splitting import Splitting
from minima_volume.volume.settings import Perturbed, check_estimator


@dataclass(frozen=True, kw_only=True)
class Gaussian(Perturbed):
    """Measure log_mass(sigma) = log P[L(theta* + sigma F z) <= threshold], z standard normal.

    Attributes:
        sigma: size of the perturbation in units of the scaling: a number, or several for a profile.
        estimator: `auto`, `monte_carlo` (plain samples) or `splitting`; `auto` takes plain samples if the probability allows, else splitting.
        num_particles, num_repeats, num_moves: of splitting: particles per repeat, independent repeats, moves between stages (None: as many
            as a pilot finds).
        precision: half-width of the interval, nats, that more repeats or plain samples are spent on (of splitting 3 % of log_mass if that is more).

    Raises:
        ConfigError: a value is not allowed.

    >>> Gaussian(sigma=[0.1, 0.2]).sigmas
    (0.1, 0.2)
    """

    sigma: float | Sequence[float]
    estimator: str = "auto"
    num_particles: int = 250
    num_repeats: int = 16
    num_moves: int | None = None
    precision: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_estimator(self.estimator, "gaussian", METHODS)
        sizes = sizes_of(self.sigma)
        object.__setattr__(self, "sigma", sizes[0] if np.ndim(self.sigma) == 0 else sizes)
        _ = self.plan  # refuses bad numbers

    @property
    def sigmas(self) -> tuple[float, ...]:
        """All sizes, one or several."""
        return (self.sigma,) if isinstance(self.sigma, float) else tuple(self.sigma)

    @property
    def plan(self) -> MassSettings:
        """How each mass is estimated."""
        how = Splitting(
            num_particles=self.num_particles, num_moves=self.num_moves, memory=float(self.memory_gib) * 2**30
        )
        return MassSettings(self.estimator, self.num_repeats, self.precision, how)


def sizes_of(sigma: Any) -> tuple[float, ...]:
    """One sigma or several, as floats; one of lower precision is the decimal that it is printed as, 0.3 in float32 the float 0.3.

    Raises:
        ConfigError: there are none, or one is no positive number.
    """
    try:
        array = np.asarray(sigma)
        if array.dtype.kind not in "iuf" or array.ndim > 1:
            raise TypeError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"sigma {sigma!r} is not allowed: it must be a number, or a sequence of numbers") from error
    if not array.size:
        raise ConfigError("sigma is an empty sequence; give a number, or several for a volume profile")
    sizes = tuple(float(str(value)) for value in np.atleast_1d(array))
    for size in sizes:
        if not 0 < size < np.inf:
            raise ConfigError(f"sigma {size} is not allowed: it must be a positive number")
    return sizes
