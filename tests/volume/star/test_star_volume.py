"""The star region's volume: closed forms, from the model to the number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor, nn

from minima_volume import measure_volume
from minima_volume.errors import ConfigError, UnboundedError
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.volume import log_mean_power, log_unit_ball, star_volume

THRESHOLD = 0.01
DIRECTIONS = 20_000


def ellipsoid(n: int, condition: float = 10.0) -> tuple[nn.Linear, Tensor, Tensor, np.ndarray]:
    """A linear regression with an exact fit whose Hessian 2 X'X / T has the eigenvalues returned, in a random basis."""
    generator = torch.Generator().manual_seed(n)
    samples = 3 * n
    values = np.geomspace(1, condition, n)
    left = torch.linalg.qr(torch.randn(samples, n, generator=generator, dtype=torch.float64)).Q
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    x = math.sqrt(samples / 2) * left @ torch.diag(torch.from_numpy(values).sqrt()) @ basis.T
    model = nn.Linear(n, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.full((1, n), 2.0))
    return model, x, model(x).detach(), values


@pytest.mark.parametrize("scaling", ["filter", "none"])
@pytest.mark.parametrize("n", [2, 5, 10])
def test_volume_of_an_ellipsoid(n: int, scaling: str):
    """log V_n + (n/2) log(2 eps) - 1/2 log det H from 20,000 directions, within 0.15 nats (7 standard errors at n = 10)."""
    model, x, y, values = ellipsoid(n)
    estimate = measure_volume(
        model, x, y, "mse", threshold=THRESHOLD, num_directions=DIRECTIONS, scaling=scaling,
        coefficients=np.linspace(0, 1, 8) ** 2, max_coefficient=256, progress=False, measure="lebesgue",)  # fmt: skip
    unit_ball = math.log(math.pi ** (n / 2) / math.gamma(n / 2 + 1))
    exact = unit_ball + n / 2 * math.log(2 * THRESHOLD) - 0.5 * np.log(values).sum()
    assert estimate.num_censored == 0
    assert estimate.num_params == n
    assert estimate.log_volume == pytest.approx(exact, abs=0.15)
    factor = 1.0 if scaling == "none" else 2 * math.sqrt(n)
    assert estimate.log_exp_r_n == pytest.approx(estimate.log_volume - unit_ball - n * math.log(factor), abs=1e-9)
    assert estimate.verdict.startswith("estimate: effective sample size")
    smallest, largest = np.sqrt(2 * THRESHOLD / values[[-1, 0]]) / factor
    assert smallest * (1 - 1e-4) <= estimate.radii.min()
    assert estimate.radii.max() <= largest * (1 + 1e-4)


def test_scalings_measure_one_space():
    """The same minimum with four scalings has one Lebesgue volume (n = 3, 1,500 directions, 0.15 nats)."""
    model, x, _, _ = ellipsoid(3, 2.0)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 3.0, 2.0]]))
    volumes = [
        measure_volume(
            model,
            x,
            model(x).detach(),
            "mse",
            threshold=THRESHOLD,
            num_directions=1500,
            scaling=scaling,
            progress=False,
            measure="lebesgue",
        ).log_volume
        for scaling in ("none", "filter", "layer", "tensor_std")
    ]
    assert np.ptp(np.array(volumes)) < 0.15


def test_an_accuracy_region_of_known_volume():
    """Two weights on two axes: sample i stays right while w_i > 0, so the star region around (1, 1) is the positive quadrant.

    Rays leave it at radius min over falling axes of 1 / -u_i; the ball cuts off those that do not, and the longest others.
    """
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(model.weight)
    arguments = (model, torch.eye(2, dtype=torch.float64), torch.ones(2), "bce_with_logits")
    settings = {
        "accuracy_threshold": 1.0,
        "scaling": "none",
        "num_directions": 1000,
        "max_coefficient": 4.0,
        "progress": False,
    }
    with pytest.raises(UnboundedError, match="of 1000 directions never cross"):
        measure_volume(*arguments, measure="lebesgue", **settings)
    estimate = measure_volume(*arguments, measure="ball", **settings)
    ball = 4 * math.sqrt(2)
    for radius, seed in zip(estimate.radii, estimate.seeds, strict=True):
        xi = torch.randn(1, 2, generator=torch.Generator().manual_seed(int(seed))).double().numpy()[0]
        fall = max(0.0, *-xi)
        assert radius == pytest.approx(min(np.linalg.norm(xi) / fall if fall else np.inf, ball), rel=1e-4)
    assert 0.25 * 1000 < estimate.num_capped < 0.45 * 1000
    assert f"{estimate.num_capped} of 1000 directions end at the ball's radius" in estimate.verdict
    assert estimate.num_censored == 0
    assert estimate.start_loss == 1.0

    def slice_of(w: float) -> float:
        half = math.sqrt(ball**2 - (w - 1) ** 2)
        return 1 + half - max(0.0, 1 - half)

    area = quad(slice_of, 0, 1 + ball, limit=200)[0]
    assert estimate.log_volume == pytest.approx(math.log(area), abs=0.15)


# ------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("n", "volume"),
    [(1, 2.0), (2, math.pi), (3, 4 * math.pi / 3), (4, math.pi**2 / 2), (5, 8 * math.pi**2 / 15), (6, math.pi**3 / 6)],
)
def test_unit_balls(n: int, volume: float):
    """Segment, disc, ball and so on."""
    assert log_unit_ball(n) == pytest.approx(math.log(volume), abs=1e-13)


@pytest.mark.parametrize("n", [10, 4353, 235_146])
def test_unit_balls_in_many_dimensions(n: int):
    """V_(n+2) = V_n 2 pi / (n + 2), where V_n itself is far below the smallest float."""
    assert log_unit_ball(n + 2) - log_unit_ball(n) == pytest.approx(math.log(2 * math.pi / (n + 2)), rel=1e-6)


def test_log_mean_power_in_a_million_dimensions():
    """r^n overflows, n log r does not: one direction carries the mean, minus log D; equal radii share it."""
    log_mean, effective, share = log_mean_power(np.array([3.0, 2.0, 1.0, 0.5]), 10**6)
    assert log_mean == pytest.approx(1e6 * math.log(3) - math.log(4), rel=1e-14)
    assert effective == pytest.approx(1, abs=1e-6)
    assert share == pytest.approx(1, abs=1e-6)
    log_mean, effective, share = log_mean_power(np.full(50, 1e-8), 10**6)
    assert log_mean == pytest.approx(1e6 * math.log(1e-8), rel=1e-14)
    assert effective == pytest.approx(50, rel=1e-6)
    assert share == pytest.approx(1 / 50, rel=1e-6)


def test_log_mean_power_takes_float32_radii():
    """The power is taken in float64."""
    radius = np.array([1.1, 1.3], dtype=np.float32)
    assert log_mean_power(radius, 3000)[0] == pytest.approx(log_mean_power(radius.astype(float), 3000)[0], rel=1e-15)


@given(st.lists(st.floats(0.2, 3.0), min_size=1, max_size=12), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_log_mean_power_is_what_it_says(radii: list[float], n: int):
    """log of the plain mean, (sum w)^2 / sum w^2 and max w / sum w, where nothing overflows."""
    weights = [r**n for r in radii]
    log_mean, effective, share = log_mean_power(np.array(radii), n)
    assert log_mean == pytest.approx(math.log(sum(weights) / len(weights)), abs=1e-9)
    assert effective == pytest.approx(sum(weights) ** 2 / sum(w * w for w in weights), rel=1e-9)
    assert share == pytest.approx(max(weights) / sum(weights), rel=1e-9)


# ------------------------------------------------------------------------------------------------------ verdicts


def radii_of(radius: list[float], censored: int = 0, reentered: int = 0, outside: bool = False) -> Radii:
    count = len(radius)
    values = np.array(radius)
    marks = np.arange(count)
    return Radii(values, values, marks < censored, marks < reentered, outside, 0.75, marks, 1e-4)


def test_the_volume_adds_up():
    """log V = log V_n + log mean r^n + sum_j log F_j; counts are passed on."""
    volume = star_volume(radii_of([1.0] * 20 + [2.0] * 20, 3, 5), 2, 0.7)
    assert volume.log_exp_r_n == pytest.approx(math.log(2.5))
    assert volume.log_volume == pytest.approx(math.log(math.pi) + math.log(2.5) + 0.7)
    assert (volume.num_directions, volume.num_censored, volume.num_reentered) == (40, 3, 5)
    assert volume.effective_sample_size == pytest.approx(100**2 / (20 + 20 * 16))
    assert volume.largest_share == pytest.approx(4 / 100)
    assert volume.note is None


def test_outside_is_undefined_with_the_reason():
    """No number, and a note that names the value at the minimum."""
    volume = star_volume(radii_of([math.nan] * 4, outside=True), 3, 0.0)
    assert volume.log_exp_r_n is None
    assert volume.log_volume is None
    assert volume.effective_sample_size is None
    assert volume.note == (
        "the minimum itself is outside: its value is 0.75 before any perturbation; train longer or choose another threshold"
    )
    assert volume.verdict == f"undefined: {volume.note}"


def test_nothing_that_moves_is_undefined_with_the_reason():
    """All scalings 0: there are no dimensions to measure: a message instead of 0 log 0."""
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    x = torch.ones(4, 3)
    estimate = measure_volume(
        model, x, torch.zeros(4, 1), "mse", threshold=0.1, num_directions=3, progress=False, measure="lebesgue"
    )
    assert (estimate.num_params, estimate.num_zero) == (0, 3)
    assert estimate.log_volume is None
    assert estimate.verdict.startswith("undefined: no parameter moves: every scaling is 0; 3 of 3 entries did not move")


def above(limit: float) -> str:
    return f"the log-volume is above {limit:,.1f} (97.5 %)"


@pytest.mark.parametrize(
    ("radii", "n", "verdict"),
    [
        (radii_of([1.0] * 30), 7, "estimate: effective sample size 30 of 30"),
        (
            radii_of([1.0] * 30, censored=4), 7,
            f"cannot be trusted: 4 of 30 directions never crossed the threshold; {above(log_unit_ball(7))}",
        ),
        (
            radii_of([1.0] * 19 + [9.0]), 1000,
            "cannot be trusted: one direction of 20 decides it (effective sample size 1.0); "
            + above(log_unit_ball(1000) + 1000 * math.log(9) - math.log(20) - math.log(40)),
        ),
        (
            radii_of([1.0] * 3, censored=1), 3,
            "cannot be trusted: 1 of 3 directions never crossed the threshold; "
            f"few of 3 directions decide it (effective sample size 3.0); {above(log_unit_ball(3) - math.log(40))}",
        ),
    ],
)  # fmt: skip
def test_verdicts(radii: Radii, n: int, verdict: str):
    """An estimate only where many directions carry the mean and all of them crossed."""
    assert star_volume(radii, n, 0.0).verdict == verdict


def test_a_minimum_outside_through_the_front_door():
    """An untrained model: nothing is measured, the reason is given, the radii are NaN."""
    model, x, y, _ = ellipsoid(3)
    estimate = measure_volume(
        model, x, y + 1, "mse", threshold=0.5, num_directions=4, progress=False, measure="lebesgue"
    )
    assert estimate.log_volume is None
    assert estimate.note is not None
    assert "outside: its value is 1" in estimate.note
    assert np.isnan(estimate.radii).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of threshold"),
        ({"threshold": 0.1, "accuracy_threshold": 0.9}, "exactly one of threshold"),
        ({"threshold": 0.0}, "positive loss"),
        ({"threshold": math.inf}, "positive loss"),
        ({"accuracy_threshold": 1.1}, "at most 1"),
        ({"accuracy_threshold": 0.9}, "accuracy is undefined"),
        ({"threshold": 0.1, "num_directions": 0}, "at least 1"),
        ({"threshold": 0.1, "measure": "gauss"}, "lebesgue"),
        ({"threshold": 0.1, "coefficients": [0.1, 0.2]}, "increase from 0"),
        ({"threshold": 0.1, "coefficients": [0.0, 0.2, 0.2]}, "increase from 0"),
        ({"threshold": 0.1, "max_coefficient": 0.5}, "at least the last coefficient"),
    ],
)
def test_arguments_that_are_not_allowed(settings: dict, message: str):
    """Each is named in a ConfigError before anything runs."""
    model, x, y, _ = ellipsoid(2)
    with pytest.raises(ConfigError, match=message):
        measure_volume(model, x, y, "mse", progress=False, **{"measure": "lebesgue"} | settings)
