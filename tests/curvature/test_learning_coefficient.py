"""The local learning coefficient against the closed form of its walk, and the diagnostics of its chains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import regression
from torch import nn

from minima_volume.curvature import MeanLoss, learning_coefficient, top_eigenvalues
from minima_volume.curvature.chains import effective_sample_size, split_r_hat
from minima_volume.errors import ConfigError


def quadratic_coefficient(spectrum: np.ndarray, strength: float, gamma: float, step: float) -> float:
    """What the discretised walk reads: 1/2 sum a / (a + gamma) / (1 - step (a + gamma) / 4)."""
    a = strength * spectrum
    return float((a / (a + gamma) / (1 - step * (a + gamma) / 4)).sum() / 2)


@pytest.mark.parametrize(
    ("spectrum", "gamma", "share", "limit"),
    [
        (np.full(60, 2.0), 0.2, 0.02, 30),  # regular: n / 2
        (np.array([2.0] * 30 + [0.0] * 30), 0.2, 0.02, 15),  # degenerate: half the steep directions
        (np.linspace(0.5, 2, 60), 20.0, 0.05, None),  # localised: the flatter directions count in part
        (np.full(60, 2.0), 0.2, 0.3, None),  # a large step: 1 / 0.7 too much
        (np.full(60, 20.0), 2.0, 0.02, 30),  # the scale of the loss (a factor in mse) drops out
    ],
)
def test_the_learning_coefficient_of_a_quadratic(spectrum, gamma, share, limit):
    """Within 5 % of the closed form of the walk, and of k / 2 where localisation and step are weak."""
    model, x, y, _ = regression(spectrum, samples=100)
    strength = 100 / math.log(100)
    step = 4 * share / (strength * spectrum.max() + gamma)
    found = learning_coefficient(
        MeanLoss.of(model, x, y, "mse"),
        num_chains=3,
        num_draws=600,
        num_burn_in=150,
        localisation=gamma,
        step_size=step,
    )
    assert found.value == pytest.approx(quadratic_coefficient(spectrum, strength, gamma, step), rel=0.05)
    if limit is not None:
        assert found.value == pytest.approx(limit, rel=0.08)
    assert found.discretisation == pytest.approx(share, rel=1e-3)
    assert ("the step is too large" in found.verdict) == (share > 0.15)
    assert found.losses.shape == (3, 750) and found.interval[0] < found.value < found.interval[1]


def test_the_learning_coefficient_is_reproducible_and_finds_its_step():
    """The same numbers from the same seed; the automatic step keeps the steepest direction's bias at 5 %."""
    model, x, y, _ = regression(np.linspace(0.1, 2, 10), samples=100)
    mean_loss = MeanLoss.of(model, x, y, "mse")
    first, second, other = (
        learning_coefficient(mean_loss, num_chains=2, num_draws=40, num_burn_in=20, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.losses, second.losses) and first.value != other.value
    assert first.step_size == pytest.approx(0.2 / (100 / math.log(100) * 2 + 100), rel=1e-3)
    assert not np.array_equal(first.losses[0], first.losses[1])


def test_steps_shrink_where_the_walk_meets_more_curvature():
    """Cross-entropy at a loss near 0 is flat; the places that the posterior reaches are not."""
    model, x, y = (
        nn.Linear(2, 2),
        torch.tensor([[1.0, 0.3], [-1.0, 0.2], [1.0, -0.5], [-1.0, -0.1]] * 10),
        torch.tensor([0, 1] * 20),
    )
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[6.0, 0.0], [-6.0, 0.0]]))
        model.bias.zero_()
    mean_loss = MeanLoss.of(model, x, y)
    found = learning_coefficient(mean_loss, num_chains=2, num_draws=400, num_burn_in=400, localisation=0.05)
    still = 0.2 / (40 / math.log(40) * float(top_eigenvalues(mean_loss, 1).eigenvalues[0]) + 0.05)
    assert found.step_size < still / 5 and np.isfinite(found.losses).all()


def test_bad_chains_are_called_bad():
    """Divergence, a point that is no minimum, drift, too few draws: the verdict says which."""
    model, x, y, _ = regression(np.array([2.0, 1.0, 0.5]), samples=100)
    mean_loss = MeanLoss.of(model, x, y, "mse")
    options = {"num_chains": 2, "num_draws": 400, "num_burn_in": 50, "localisation": 0.1}
    gone = learning_coefficient(mean_loss, step_size=10.0, **options)
    assert gone.value is None and gone.interval is None and gone.r_hat is None
    assert gone.verdict.startswith("undefined: 2 of 2 chains diverged") and np.isnan(gone.losses[:, -1]).all()
    slow = learning_coefficient(mean_loss, step_size=1e-6, **options)
    assert "not converged: R-hat" in slow.verdict and "few draws" in slow.verdict
    with torch.no_grad():
        model.weight += 3
    off = learning_coefficient(MeanLoss.of(model, x, y, "mse"), **options)
    assert off.value < 0 and off.verdict.startswith("negative in 2 of 2 chains")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_chains": 1}, "num_chains 1 is not allowed: it must be at least 2"),
        ({"num_draws": 3}, "num_draws 3"),
        ({"localisation": 0.0}, "localisation 0.0 is not allowed: it must be a positive number"),
        ({"step_size": math.nan}, "step_size nan"),
    ],
)
def test_arguments_of_the_learning_coefficient(change, words):
    """Each is named with its value."""
    model, x, y, _ = regression(np.ones(3))
    with pytest.raises(ConfigError, match=words):
        learning_coefficient(MeanLoss.of(model, x, y, "mse"), **change)
    with pytest.raises(ConfigError, match="needs at least 3 samples, the landscape has 2"):
        learning_coefficient(MeanLoss.of(model, x[:2], y[:2], "mse"))


def test_chain_diagnostics_on_autoregressions():
    """Effective sample size S (1 - phi) / (1 + phi); R-hat sees a chain elsewhere and a drift that all share."""
    random = np.random.default_rng(0)
    for phi in (0.0, 0.7, 0.95):
        noise, draws = random.normal(size=(4, 20000)), np.zeros((4, 20000))
        for i in range(1, 20000):
            draws[:, i] = phi * draws[:, i - 1] + noise[:, i]
        assert effective_sample_size(draws) == pytest.approx(80000 * (1 - phi) / (1 + phi), rel=0.12)
        assert split_r_hat(draws) < 1.02
    moved = random.normal(size=(4, 1000))
    moved[0] += 3
    drifting = random.normal(size=(4, 1000)) + np.linspace(0, 5, 1000)
    # one of four chains 3 away: between-chain variance 9 * 2 * 6 / (8 * 7)
    assert split_r_hat(moved) == pytest.approx(math.sqrt(1 + 9 * 2 * 6 / 56), rel=0.05)
    assert split_r_hat(drifting) > 1.4 and effective_sample_size(drifting) < 20
    assert split_r_hat(np.ones((2, 8))) == 1 and effective_sample_size(np.ones((2, 8))) == 16
