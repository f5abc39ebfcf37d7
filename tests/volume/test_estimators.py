"""Every estimator on one loss with a closed form: an isotropic quadratic in 6 dimensions, L = |theta - theta*|^2 / n."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy
import torch
from torch import nn

import minima_volume as mv

N, THRESHOLD, SIGMA = 6, 0.1, 0.35
FALSE_ALARM = 1e-6

# what is measured, how, and whether the estimate is drawn (else all rays have the same radius, and it is exact)
TABLE = {
    "plain samples": (mv.Gaussian(sigma=SIGMA, scaling="none", estimator="monte_carlo", seed=5), True),
    "splitting": (mv.Gaussian(sigma=SIGMA, scaling="none", estimator="splitting", num_repeats=16, seed=5), True),
    "rays, ball": (mv.Rays(measure="ball", scaling="none", num_directions=40), False),
    "rays, lebesgue": (mv.Rays(measure="lebesgue", scaling="none", num_directions=40), False),
    "importance, full": (
        mv.Rays(measure="ball", scaling="none", num_directions=40, estimator="importance", preconditioner="full"),
        False,
    ),
    "importance, diagonal": (
        mv.Rays(measure="ball", scaling="none", num_directions=40, estimator="importance", preconditioner="diagonal"),
        False,
    ),
}


def quadratic() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """N orthonormal inputs, so that the mean squared error is |theta - theta*|^2 / N."""
    model = nn.Linear(N, 1, bias=False).double()
    x = torch.eye(N, dtype=torch.float64)
    return model, x, model(x).detach()


@pytest.mark.parametrize(("how", "drawn"), TABLE.values(), ids=TABLE)
def test_closed_form(how: mv.Gaussian | mv.Rays, drawn: bool) -> None:
    """Mass: P[chi-square <= N threshold / sigma^2]. Volume: that of the ball of radius sqrt(N threshold)."""
    model, x, y = quadratic()
    found = mv.measure_volume(model, x, y, "mse", threshold=THRESHOLD, how=how, progress=False)
    radius = math.sqrt(N * THRESHOLD)
    if not drawn:
        volume = N / 2 * math.log(math.pi) - math.lgamma(N / 2 + 1) + N * math.log(radius)
        assert found.log_volume == pytest.approx(volume, abs=0.01)  # radii are exact to 1e-4
        return
    mass = scipy.stats.chi2.cdf((radius / SIGMA) ** 2, N)
    if found.hits is not None:
        assert scipy.stats.binomtest(found.hits, found.num_samples, mass).pvalue > FALSE_ALARM
    else:
        limit = scipy.stats.t.ppf(1 - FALSE_ALARM / 2, found.degrees)
        assert abs(found.log_mass - np.log(mass)) < limit * found.standard_error
