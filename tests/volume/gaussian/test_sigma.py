"""A sigma is suggested: the native minimum of the smallest landscape then has a log mass of about -1.5."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import agree, edit_config, make_run
from scipy.stats import chi2
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.perturbation.particles import Particles
from minima_volume.stages.measured import make_engine
from minima_volume.stages.run import Run
from minima_volume.stages.sigma import PROBE
from minima_volume.volume.gaussian.mass import plain_estimate
from minima_volume.volume.gaussian.sigma import NATIVE_LOG_MASS, TOLERANCE, median_sigma, readable_sigma, round_sigma

WANTED = math.exp(NATIVE_LOG_MASS)


def test_bisection_finds_the_crossing() -> None:
    """A share that falls as exp(-sigma / 0.03) passes e^-1.5 at 0.045; steps of the share do not trouble it."""
    assert readable_sigma(lambda sigma: math.exp(-sigma / 0.03), WANTED) == pytest.approx(0.045, rel=0.03)
    stepped = readable_sigma(lambda sigma: round(400 * math.exp(-sigma / 0.03)) / 400, WANTED)
    assert stepped == pytest.approx(0.045, rel=0.03)


def chi_square(root: float, dimensions: int, steps: list[float]) -> Callable[[float], float]:
    """The share inside of equal eigenvalues, P[chi-square <= c / sigma^2], which is e^-1.5 at `root`."""
    at_root = chi2.ppf(WANTED, dimensions)

    def share(sigma: float) -> float:
        steps.append(sigma)
        return float(chi2.cdf(at_root * (root / sigma) ** 2, dimensions))

    return share


@pytest.mark.parametrize("dimensions", [1, 4, 30, 300, 2000, 100_000, 1_000_000])
@pytest.mark.parametrize("root", [0.1049, 0.2049, 0.0678, 0.000449, 9.4999])
def test_many_effective_dimensions_take_more_digits(root: float, dimensions: int) -> None:
    """The fewest of two to four that leave the log mass within 0.3 of -1.5; two digits of 0.1049 in 2,000 dimensions are at -0.01, of 0.2049 at -4.5."""
    share = chi_square(root, dimensions, tried := [])
    found = readable_sigma(share, WANTED)
    assert abs(math.log(share(found)) - NATIVE_LOG_MASS) <= TOLERANCE
    assert len(tried) <= 2 + 10 + 1 + 20 + 2 + 1
    digits = next(d for d in (2, 3, 4) if round_sigma(found, d) == found)
    for fewer in range(2, digits):
        assert abs(math.log(share(round_sigma(root, fewer)) / WANTED)) > TOLERANCE / 2
    if dimensions <= 4:
        assert found == round_sigma(found) and len(tried) == 2 + 10 + 1 + 1


def test_a_share_that_jumps() -> None:
    """Over the wanted one: after 20 more steps the jump is known to four digits."""
    tried = list[float]()

    def share(sigma: float) -> float:
        tried.append(sigma)
        return float(sigma < 0.10494)

    assert readable_sigma(share, WANTED) == 0.1049 and len(tried) == 2 + 10 + 1 + 20 + 2


def test_the_median_keeps_its_digits() -> None:
    """Those of the middle sigmas; of two digits it has two."""
    assert median_sigma([0.1049, 0.2, 0.05]) == 0.1049
    assert median_sigma([0.11, 0.12]) == round_sigma(float(np.median([0.11, 0.12])))
    assert median_sigma([0.1049, 0.1055, 0.9, 0.01]) == 0.1052


@pytest.mark.parametrize("root", [0.1046, 0.1054])
def test_a_quadratic_of_many_dimensions(root: float) -> None:
    """L = |z|^2 sigma^2 / 500: chi2.logcdf(500 threshold / sigma^2, 500) is -1.5 within rounding and six errors of 400 particles; two digits would miss by 1.2 or more."""
    threshold = root**2 * float(chi2.ppf(WANTED, 500)) / 500
    own = nn.Linear(500, 1, bias=False)
    x = torch.eye(500)
    sigma = mv.suggest_sigma(own, x, own(x).detach(), "mse", threshold=threshold, scaling="none", progress=False)
    assert chi2.logcdf(500 * threshold / sigma**2, 500) == pytest.approx(-1.5, abs=TOLERANCE + 0.6)


def test_no_sigma_does_it() -> None:
    """Both ends say what was tried and what to do."""
    with pytest.raises(ConfigError, match=r"no sigma in \[1e-07, 10\] reaches .* only 0.000 of .* raise the threshold"):
        readable_sigma(lambda sigma: 0.0, WANTED, (1e-7, 1e7))
    with pytest.raises(ConfigError, match=r"no sigma in \[0.0001, 1e\+07\] reaches .* 1.000 of .* passed: lower it"):
        readable_sigma(lambda sigma: 1.0, WANTED, (1e-7, 1e7))


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 30.0, 1e4, 1e9])
def test_any_scale_is_found(scale: float) -> None:
    """Outside the usual range, too, to two digits."""
    found = readable_sigma(lambda sigma: math.exp(-sigma / scale), WANTED, (1e-12, 1e12))
    assert found == pytest.approx(1.5 * scale, rel=0.04)


def test_two_digits() -> None:
    assert [round_sigma(sigma) for sigma in (0.0678, 1.234, 0.000449)] == [0.068, 1.2, 0.00045]


def test_suggestion_of_a_run(digits_run: Run) -> None:
    """At the suggested sigma 4,000 fresh particles give about -1.5; the other minima are estimated there too.

    The share of 400 particles that chose it has a standard error of 0.1 nats; two digits of sigma are up to 5 %, worth 0.2.
    """
    found = mv.suggest_run_sigma(digits_run)
    assert (found.landscape, found.threshold) == (0, 0.5) and sorted(found.masses) == [0, 20, 40]
    assert round_sigma(found.sigma) == found.sigma
    trained = mv.load_models_and_data(digits_run)
    for level, mass in found.masses.items():
        particles = Particles(make_engine(digits_run, trained, level), found.sigma, [20])
        values = particles.evaluate(particles.draw(4000, particles.generator(123)))
        plain = plain_estimate(int(np.sum(values.loss[0] <= 0.5)), 4000)
        agree(mass, plain)
        if level == 0:
            assert plain.log_mass == pytest.approx(-1.5, abs=0.7)
    assert mv.suggest_run_sigma(digits_run, trained) == found


def test_a_minimum_outside_its_own_landscape(copied: Run) -> None:
    run = edit_config(copied.folder, {"volume.loss_thresholds": [1e-4], "volume.accuracy_thresholds": None})
    with pytest.raises(
        ConfigError, match=r"the minimum itself is outside: its value is .*; train longer .*\(loss threshold 0.0001\)"
    ):
        mv.suggest_run_sigma(run)


def test_a_series_starts_with_minima_that_are_none_yet(tmp_path, digits_run: Run) -> None:
    """Epoch 1 is above the threshold: the first minimum that is inside decides."""
    options = {"data.levels": [0], "training.checkpoints": [1, 30]}
    run = make_run(tmp_path / "model_0_data_10", options, ("train",))
    found = mv.suggest_run_sigma(run)
    assert found.masses[1].log_mass is None and "outside" in str(found.masses[1].note)
    assert found.masses[30].log_mass == pytest.approx(-1.5, abs=0.7)


def test_a_minimum_out_of_reach_at_the_native_sigma(
    copied: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """+40 is made sharp: below -10 at the native sigma, where two stages end at -4; the median of the three sigmas is suggested."""
    trained = mv.load_models_and_data(copied)
    before = mv.suggest_run_sigma(copied, trained)
    sharp = copy.deepcopy(trained.models[40])
    with torch.no_grad():
        first, last = (layer for layer in sharp.modules() if isinstance(layer, nn.Linear))
        for parameter in first.parameters():
            parameter /= 300
        last.weight *= (
            300  # the same function, but biases, whose noise has one size for all, are felt 300 times as much
        )
    monkeypatch.setattr("minima_volume.stages.sigma.PROBE", replace(PROBE, max_stages=2))
    found = mv.suggest_run_sigma(copied, trained._replace(models={**trained.models, 40: sharp}), progress=True)
    assert before.sigmas == {} and list(found.sigmas) == list(found.masses) == [0, 20, 40]
    assert found.sigmas[0] == before.sigma and found.sigmas[40] == min(found.sigmas.values())
    middle = sorted(found.sigmas, key=found.sigmas.__getitem__)[1]
    assert found.sigma == found.sigmas[middle]
    assert found.masses[middle].log_mass == pytest.approx(-1.5, abs=0.7)
    assert "reach at sigma" in (bars := capfd.readouterr().err) and f"masses at sigma {found.sigma:g}" in bars


def test_command(copied: Run, cli: Callable[..., tuple[int, str, str]]) -> None:
    """A run folder, or a condition, whose first run is taken; what has none is refused."""
    expected = mv.suggest_run_sigma(copied).sigma
    for folder in (copied.folder, copied.folder.parent):
        code, out, _ = cli("suggest-sigma", folder)
        lines = out.splitlines()
        assert code == 0 and lines[0] == f"model_0_data_10, landscape +0, threshold 0.5: sigma {expected:g}"
        assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["+0", "+20", "+40"]
        assert f"sigma: {expected:g} in config.yaml" in lines[-1]
        assert all("measured: -" in line for line in lines[1:-1])
    assert "does not exist" in cli("suggest-sigma", copied.folder / "typo")[2]
    code, _, error = cli("suggest-sigma", copied.folder / "data_0")
    assert code != 0 and "is not a run folder and holds none" in error


EYE = torch.eye(4)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 1, bias=False)


@pytest.mark.parametrize("scaling", ["none", "filter"])
def test_a_quadratic(scaling: str) -> None:
    """L = |z|^2 sigma^2 f^2 / 4 in four dimensions: chi2.logcdf(0.4 / (sigma f)^2, 4) = -1.5 within the noise of 400 particles, 0.1."""
    own = linear()
    sigma = mv.suggest_sigma(own, EYE, own(EYE).detach(), "mse", threshold=0.1, scaling=scaling)
    factor = 1.0 if scaling == "none" else own.weight.norm().item()
    assert chi2.logcdf(0.4 / (sigma * factor) ** 2, 4) == pytest.approx(-1.5, abs=0.6)
    assert sigma == float(f"{sigma:.2g}")


def test_a_model_outside() -> None:
    own = linear()
    with pytest.raises(ConfigError, match=r"outside: its value is 1 before .* train longer .* \(loss threshold 0.1\)"):
        mv.suggest_sigma(own, EYE, own(EYE).detach() + 1, "mse", threshold=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("scaling", "weights", "threshold"),
    [("filter", 1e5, 0.1), ("filter", 1e-5, 0.1), ("none", 1e-3, 1e-12), ("none", 1.0, 1e12), ("layer", 1e4, 1e-3)],
)
def test_the_range_follows_the_weights(scaling: str, weights: float, threshold: float, dtype: torch.dtype) -> None:
    """L = |z|^2 sigma^2 f^2 / 4 again; the sigmas lie far outside 1e-4 to 10."""
    own = linear().to(dtype)
    with torch.no_grad():
        own.weight.mul_(weights)
    x = EYE.to(dtype)
    sigma = mv.suggest_sigma(own, x, own(x).detach(), "mse", threshold=threshold, scaling=scaling)
    factor = 1.0 if scaling == "none" else own.weight.norm().item()
    assert not 1e-4 < sigma < 10
    assert chi2.logcdf(4 * threshold / (sigma * factor) ** 2, 4) == pytest.approx(-1.5, abs=0.3)


def test_a_minimum_narrower_than_rounding() -> None:
    """Weights of 1e5 in single precision are known to 0.01 only: a threshold that asks for 1e-6 is refused, not met by rounding."""
    own = linear()
    with torch.no_grad():
        own.weight.mul_(1e5)
    with pytest.raises(ConfigError, match="narrower than rounding: raise the threshold"):
        mv.suggest_sigma(own, EYE, own(EYE).detach(), "mse", threshold=1e-12, scaling="none")


def test_a_threshold_that_is_never_passed() -> None:
    """A loss of at most 1 beside a threshold of 2."""
    own = linear()
    with pytest.raises(ConfigError, match="the threshold is hardly ever passed: lower it"):
        mv.suggest_sigma(own, EYE, own(EYE).detach(), lambda a, b: (a - b).tanh().abs().mean(1), threshold=2.0)
