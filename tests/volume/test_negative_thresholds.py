"""Gaussian local volumes of losses that may be negative: a threshold of any sign, the same mass as of the loss moved above 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from chi_square import same
from helpers import agree
from scipy.stats import chi2
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Loss
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target

EYE = torch.eye(4, dtype=torch.float64)
UNSCALED: dict[str, Any] = {"scaling": "none", "progress": False}
FEW: dict[str, Any] = {"num_particles": 40, "num_repeats": 8, "num_moves": 2, "precision": 2.0}


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1, bias=False).double()


def below(constant: float) -> Any:
    """The mean squared error minus a constant."""
    return lambda outputs, y: (outputs - y).square().mean(1) - constant


@pytest.mark.parametrize(("constant", "threshold"), [(5.0, -4.9), (0.1, 0.0)])
@pytest.mark.parametrize("estimator", ["monte_carlo", "splitting"])
def test_a_quadratic_minus_a_constant(constant: float, threshold: float, estimator: str) -> None:
    """L = sigma^2 |z|^2 / 4 - c: the mass of the quadratic at the threshold 0.1, chi2.logcdf(0.4 / sigma^2, 4)."""
    own = linear()
    y = own(EYE).detach()
    options = UNSCALED | {"sigma": 0.4, "estimator": estimator} | FEW
    found = mv.measure_volume(own, EYE, y, below(constant), threshold=threshold, **options)
    expected = mv.measure_volume(own, EYE, y, below(0.0), threshold=0.1, **options)
    assert found.start_loss == -constant and found.log_mass == pytest.approx(expected.log_mass, abs=1e-9)
    agree(found, float(chi2.logcdf(0.4 / 0.4**2, 4)))


def test_losses_of_both_signs_are_read_to_the_last_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first samples lie far above 0, the last far below: a partial sum says nothing, so no particle is given up early."""
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    own = nn.Linear(8, 1, bias=False)
    offsets = torch.linspace(100, -102, 4000)[:, None]
    y = torch.cat([own(x).detach(), offsets], 1)
    signed = lambda outputs, y: ((outputs - y[:, :1]).square() + y[:, 1:]).mean(1)  # noqa: E731
    target = Target.of(LossEngine(own, x, y, signed, scaling="none"), 0.3, 4000, Condition("loss", -0.5))
    z = target.empty(50).normal_(generator=target.generator(1))
    whole = target.scores(z)
    assert (whole <= -0.5).any() and (whole > -0.5).any()
    monkeypatch.setattr("minima_volume.volume.gaussian.event.Rejection", None)
    found = target.scores_below(z, torch.full((50,), -0.5).numpy())
    assert same(found).tolist() == whole.tolist()


def test_a_sigma_is_suggested() -> None:
    """The same as for the quadratic."""
    own = linear()
    y = own(EYE).detach()
    found = mv.suggest_sigma(own, EYE, y, below(5.0), threshold=-4.9, **UNSCALED)
    assert found == mv.suggest_sigma(own, EYE, y, "mse", threshold=0.1, **UNSCALED)


def test_figures_tables_and_files(tmp_path) -> None:
    """Levels below 0 are drawn; what is saved comes back."""
    own = linear()
    found = mv.measure_volume(
        own, EYE, own(EYE).detach(), below(5.0), threshold=-4.9, sigma=0.6, estimator="splitting", **UNSCALED | FEW
    )
    axis = found.plot().axes[0]
    axis.figure.savefig(tmp_path / "one.png")
    levels = [x for line in axis.lines for x in line.get_xdata()]
    assert min(levels) == -4.9 and max(levels) > -4.8 and axis.get_xscale() == "symlog"
    assert "loss threshold -4.9" in str(found)
    assert mv.load(found.save(tmp_path / "one.json")).threshold == -4.9


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_a_loss_that_is_never_negative_needs_a_positive_threshold(threshold: float) -> None:
    """Built-in ones, and those that say so; star regions always."""
    own = linear()
    y = own(EYE).detach()
    never = Loss("ours", below(0.0), batched=False, non_negative=True)
    for loss in ("mse", nn.MSELoss(), never):
        for measure in (mv.measure_volume, mv.suggest_sigma):
            options = UNSCALED | ({"sigma": 0.1} if measure is mv.measure_volume else {})
            with pytest.raises(ConfigError, match=r"must be a positive loss, since \w+ is never negative"):
                measure(own, EYE, y, loss, threshold=threshold, **options)
    with pytest.raises(ConfigError, match="must be a positive loss"):
        mv.measure_volume(own, EYE, y, below(5.0), threshold=threshold, measure="ball", progress=False)


def test_a_minimum_above_its_negative_threshold() -> None:
    """Is outside, as with any threshold."""
    own = linear()
    found = mv.measure_volume(own, EYE, own(EYE).detach(), below(5.0), threshold=-5.5, sigma=0.1, progress=False)
    assert found.log_mass is None and "outside: its value is -5 " in str(found.note)


def test_one_loss_of_all_samples() -> None:
    """Instead of one for each."""
    own = linear()
    whole: Any = lambda outputs, y: (outputs - y).square().mean() - 5  # noqa: E731
    options = UNSCALED | {"sigma": 0.3}
    found = mv.measure_volume(own, EYE, own(EYE).detach(), whole, threshold=-4.9, **options)
    assert isinstance(found.log_mass, float) and math.isclose(
        found.log_mass, float(chi2.logcdf(0.4 / 0.09, 4)), abs_tol=0.2
    )
