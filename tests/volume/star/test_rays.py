"""Star regions through the front door: without bound, cut off by a ball, and against numerical integration."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import Tensor, nn

from minima_volume import measure_volume
from minima_volume.errors import UnboundedError
from minima_volume.volume.star.volume import log_unit_ball

THRESHOLD = 0.02
GRID = np.linspace(0, 1, 8) ** 2


def flat_directions(n: int, curvature: float = 2.0) -> tuple[nn.Linear, Tensor, Tensor]:
    """A regression that sees one of n weights, with this second derivative: the region is a slab |w_1 - w_1*| <= a."""
    x = torch.zeros(4, n, dtype=torch.float64)
    x[:, 0] = math.sqrt(curvature / 2)
    model = nn.Linear(n, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.arange(1.0, n + 1))
    return model, x, model(x).detach()


def slab_in_ball(n: int, half: float, radius: float) -> float:
    """log-volume of {|z_1| <= half, ||z|| <= radius}, from its (n - 1)-dimensional slices."""
    area = quad(lambda t: (radius**2 - t**2) ** ((n - 1) / 2), -half, half)[0]
    return log_unit_ball(n - 1) + math.log(area)


def test_an_unbounded_region_has_no_lebesgue_volume():
    """Rays that never cross are an error that counts them and says what to do; other rays alone are not averaged."""
    model, x, y = flat_directions(3)
    with pytest.raises(UnboundedError, match="measure='ball'") as caught:
        measure_volume(
            model,
            x,
            y,
            "mse",
            threshold=THRESHOLD,
            max_coefficient=2,
            num_directions=400,
            progress=False,
            measure="lebesgue",
        )
    count = int(re.match(r"(\d+) of 400 directions", str(caught.value)).group(1))
    normals = [torch.randn(3, generator=torch.Generator().manual_seed(seed)).double().numpy() for seed in range(1, 401)]
    half = math.sqrt(2 * THRESHOLD / 2) / math.sqrt(14)  # in units of the filter norm
    assert count == sum(2 * abs(xi[0]) <= half for xi in normals)


@pytest.mark.parametrize("scaling", ["none", "filter"])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_directions": 4000},
        {"num_directions": 1000, "preconditioner": "full", "damping": 0.1},
        {"num_directions": 1000, "preconditioner": "low_rank", "damping": 0.3},
    ],
    ids=["plain", "full", "low_rank"],
)
@pytest.mark.parametrize("n", [2, 3])
def test_a_slab_within_a_ball(n: int, settings: dict, scaling: str):
    """The region that `lebesgue` refuses has a closed form within the ball; preconditioned rays measure the same set."""
    model, x, y = flat_directions(n)
    unit = 1.0 if scaling == "none" else math.sqrt(n * (n + 1) * (2 * n + 1) / 6)
    max_coefficient = 1.0 / unit
    estimate = measure_volume(
        model, x, y, "mse", threshold=THRESHOLD, measure="ball", scaling=scaling, coefficients=GRID / 2 / unit,
        max_coefficient=max_coefficient, progress=False, **settings,
    )  # fmt: skip
    exact = slab_in_ball(n, math.sqrt(THRESHOLD), max_coefficient * unit * math.sqrt(n))
    assert estimate.log_volume == pytest.approx(exact, abs=0.1)
    assert estimate.num_capped > 0.05 * settings["num_directions"]
    assert estimate.num_censored == 0
    assert (
        f"{estimate.num_capped} of {settings['num_directions']} directions end at the ball's radius" in estimate.verdict
    )
    if "preconditioner" not in settings:
        assert estimate.radii.max() == pytest.approx(max_coefficient * math.sqrt(n), rel=1e-12)


def test_a_wide_ball_changes_nothing():
    """Where no ray reaches it, `ball` and `lebesgue` give the same numbers."""
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1, bias=False).double(), torch.randn(9, 4, dtype=torch.float64)
    settings = {"threshold": THRESHOLD, "num_directions": 50, "max_coefficient": 1000, "progress": False}
    both = [
        measure_volume(model, x, model(x).detach(), "mse", measure=measure, **settings)
        for measure in ("ball", "lebesgue")
    ]
    assert both[0].num_capped == 0
    assert both[0].log_volume == both[1].log_volume
    assert np.array_equal(both[0].radii, both[1].radii)
    assert [estimate.measure for estimate in both] == ["ball", "lebesgue"]


def test_a_ball_inside_the_region():
    """Where every ray reaches the ball, the volume is the ball's, exactly, and every direction counts the same."""
    model, x, y = flat_directions(5, curvature=1e-6)
    estimate = measure_volume(
        model, x, y, "mse", threshold=THRESHOLD, measure="ball", scaling="none", num_directions=30, progress=False
    )
    assert estimate.num_capped == 30
    assert estimate.log_volume == pytest.approx(log_unit_ball(5) + 5 * math.log(16 * math.sqrt(5)), abs=1e-9)
    assert estimate.effective_sample_size == pytest.approx(30)


@pytest.mark.parametrize("preconditioner", [None, "diagonal", "low_rank", "full"])
def test_logistic_regression_against_numerical_integration(preconditioner: str | None):
    """Two weights, a loss far from quadratic: the area is the integral over angles of r^2 / 2, r by `brentq` in float64."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(12, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    y = (x[:, 0] + x[:, 1] > 0).double()
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 2.0]]))
    threshold, max_coefficient = 0.15, 2.0
    radius = max_coefficient * math.sqrt(2)
    samples, signs = x.numpy(), 2 * y.numpy() - 1

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (samples @ weights)).mean())

    def reach(angle: float) -> float:
        unit = np.array([math.cos(angle), math.sin(angle)])

        def excess(r: float) -> float:
            return loss(np.array([3.0, 2.0]) + r * unit) - threshold

        # the loss is convex: it crosses once at most
        return radius if excess(radius) <= 0 else brentq(excess, 0, radius, xtol=1e-12)

    angles = (np.arange(4000) + 0.5) / 4000 * 2 * math.pi
    radii = np.array([reach(angle) for angle in angles])
    exact = math.log((radii**2).mean() / 2 * 2 * math.pi)
    assert 0.05 < (radii == radius).mean() < 0.9
    estimate = measure_volume(
        model, x, y, "bce_with_logits", threshold=threshold, measure="ball", scaling="none", num_directions=2000,
        preconditioner=preconditioner, coefficients=GRID, max_coefficient=max_coefficient, progress=False,
    )  # fmt: skip
    assert estimate.log_volume == pytest.approx(exact, abs=0.1)
    low, high = estimate.interval
    assert low - 0.02 <= exact <= high + 0.02
