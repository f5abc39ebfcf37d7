"""Settings of the star region's volume at the front door."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minima_volume.arguments import check_count, check_seed, is_number
from minima_volume.config.run import Coefficients
from minima_volume.errors import ConfigError
from minima_volume.volume.settings import Perturbed, check_estimator
from minima_volume.volume.star.importance import PRECONDITIONERS
from minima_volume.volume.star.preconditioner import Preconditioner

MEASURES = ("lebesgue", "ball")
ESTIMATORS = ("monte_carlo", "importance")


@dataclass(frozen=True, kw_only=True)
class Rays(Perturbed):
    """Measure the volume of the star region: random directions are followed until the loss passes the threshold.

    Attributes:
        measure: `lebesgue`, the volume of the region, an error if that is unbounded; `ball`, of its part within
            max_coefficient * sqrt(n) of the minimum, in units of the scaling.
        estimator: `monte_carlo`, isotropic directions; `importance`, directions that reach further where the loss is flat, which need
            far fewer. By default `importance` if a preconditioner is given, else `monte_carlo`.
        num_directions: D, directions with seeds seed .. seed + D - 1.
        coefficients: (C,) grid on which crossings are bracketed, increasing from 0; 34 quadratic steps to 1 by default.
        max_coefficient: past the grid the search doubles up to here; sets the radius of `ball`.
        tolerance: relative, of the radius; min(1e-4, 0.003 / n) by default, in float32 at least 2e-6.
        preconditioner: of `importance`: `adam` (Adam's second moments, free), `diagonal` (of the Gauss-Newton matrix), `low_rank` (20
            eigenpairs of the Hessian and that diagonal), `full` (the whole Hessian, n up to 5,000), or your own; by default `full` for n
            up to 500, `low_rank` above.
        damping: of `importance`: added to the curvature, relative to its mean; chosen on pilot directions by default.
        second_moments: of `importance`, for `adam`: the optimiser, or parameter name -> its `exp_avg_sq`.

    Raises:
        ConfigError: a value is not allowed.

    >>> Rays(measure="ball", preconditioner="full").importance
    True
    """

    measure: str = "lebesgue"
    estimator: str | None = None
    num_directions: int = 500
    coefficients: Sequence[float] | None = None
    max_coefficient: float = 16.0
    tolerance: float | None = None
    preconditioner: str | Preconditioner | None = None
    damping: float | None = None
    second_moments: Mapping[str, Tensor] | torch.optim.Optimizer | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure not in MEASURES:
            raise ConfigError(
                f"measure {self.measure!r} is not known; allowed for rays: {', '.join(MEASURES)} (Gaussian is the other kind)"
            )
        if self.estimator is not None:
            check_estimator(self.estimator, self.measure, ESTIMATORS)
        object.__setattr__(self, "num_directions", check_count("num_directions", self.num_directions, 1))
        check_seed(self.seed, self.num_directions)
        self._check_reach()
        self._check_importance()

    @property
    def importance(self) -> bool:
        """Whether directions are drawn by importance."""
        return self.estimator == "importance" or (self.estimator is None and self.preconditioner is not None)

    @property
    def grid(self) -> np.ndarray:
        """(C,) coefficients, float64."""
        return Coefficients().values() if self.coefficients is None else np.asarray(self.coefficients, dtype=np.float64)

    def _check_reach(self) -> None:
        try:
            grid = self.grid
        except (TypeError, ValueError) as error:
            raise ConfigError(f"coefficients {self.coefficients!r} are not allowed: give numbers") from error
        if grid.ndim != 1 or len(grid) < 2 or grid[0] != 0 or not bool((np.diff(grid) > 0).all()):
            raise ConfigError("coefficients must increase from 0 and be at least two")
        if self.coefficients is not None:
            object.__setattr__(self, "coefficients", tuple(grid.tolist()))
        if not is_number(self.max_coefficient) or not grid[-1] <= self.max_coefficient < math.inf:
            raise ConfigError(
                f"max_coefficient {self.max_coefficient!r} is not allowed: it must be at least the last coefficient {grid[-1]:g}, and finite"
            )
        if self.tolerance is not None and not (is_number(self.tolerance) and 0 < self.tolerance < 1):
            raise ConfigError(f"tolerance {self.tolerance!r} is not allowed: it must be above 0 and below 1")

    def _check_importance(self) -> None:
        chosen = self.preconditioner
        for name in () if self.importance else ("preconditioner", "damping", "second_moments"):
            if getattr(self, name) is not None:
                raise ConfigError(f"{name} applies only to estimator='importance'; here it is 'monte_carlo'")
        if chosen is not None and not isinstance(chosen, Preconditioner) and chosen not in PRECONDITIONERS:
            raise ConfigError(f"preconditioner {chosen!r} is not known; allowed: {', '.join(PRECONDITIONERS)}")
        if self.damping is not None and not (is_number(self.damping) and 0 <= self.damping < math.inf):
            raise ConfigError(
                f"damping {self.damping!r} is not allowed: it must be at least 0, relative to the mean curvature"
            )
        moments = self.second_moments
        if moments is None or isinstance(moments, torch.optim.Optimizer):
            return
        values = moments.items() if isinstance(moments, Mapping) else [("", moments)]
        if wrong := [(name, value) for name, value in values if not (name and isinstance(value, Tensor))]:
            name, value = wrong[0]
            what = f"holds a {type(value).__name__} for {name!r}" if name else f"is a {type(value).__name__}"
            raise ConfigError(
                f"second_moments {what}; give the optimiser, or a dictionary of parameter name -> its exp_avg_sq, a tensor"
            )
