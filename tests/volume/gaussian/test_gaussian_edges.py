"""Gaussian local volumes at the edges: what cannot be measured, odd models and losses, arguments that are not allowed."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from helpers import agree
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.volume.comparison import mass_verdict
from minima_volume.volume.gaussian.comparison import compare_masses
from minima_volume.volume.gaussian.estimate import LocalVolume
from minima_volume.volume.gaussian.mass import GaussianMass, plain_estimate, splitting_estimate
from minima_volume.volume.gaussian.splitting import Repeat

QUICK: dict[str, Any] = {"num_particles": 60, "num_repeats": 2, "num_moves": 8, "precision": 2.0, "progress": False}
MANY = {"num_repeats": 16}  # degrees of freedom for comparisons that give a false alarm in a million (`helpers.agree`)


def fitted(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """A network that is right, and sure of it, on its 30 samples."""
    random = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=random))
        x = torch.randn(30, 3, generator=random).to(dtype)
        return model, x, model(x).argmax(1)


def measure(*args: Any, **options: Any) -> LocalVolume:
    found = mv.measure_volume(*args, **QUICK | options)
    assert isinstance(found, LocalVolume)
    return found


def brute_force(
    model: nn.Module, x: Tensor, y: Tensor, sigma: float, loss: Any, threshold: float, count: int
) -> GaussianMass:
    """The share of perturbed copies whose loss is at most the threshold; filter scaling, one forward each."""
    random, hits = torch.Generator().manual_seed(9), 0
    other = copy.deepcopy(model).eval()
    named = [(p, p.detach().clone()) for name, p in other.named_parameters() if name.endswith(("weight", "bias"))]
    with torch.no_grad():
        for _ in range(count):
            for p, start in named:
                norms = start.flatten(1).norm(dim=1).view(-1, *[1] * (p.ndim - 1)) if p.ndim > 1 else 1.0
                p.copy_(start + sigma * norms * torch.randn(p.shape, generator=random, dtype=p.dtype))
            hits += float(loss(other(x), y)) <= threshold
    return plain_estimate(hits, count)


def test_a_model_outside_its_threshold() -> None:
    """The note says so and what to do; nothing is drawn."""
    model, x, y = fitted()
    found = measure(model, x, y, threshold=1e-4, sigma=0.1)
    assert found.log_mass is None and found.interval == (None, None) and found.num_forward == 0 and found.method is None
    loss = nn.functional.cross_entropy(model(x), y).item()
    assert (
        f"the minimum itself is outside: its value is {loss:.6g} before any perturbation; train longer" in found.verdict
    )
    assert found.verdict.startswith("undefined: ") and found.start_loss == pytest.approx(loss, rel=1e-5)


def test_a_threshold_that_no_perturbation_keeps() -> None:
    """A loss that jumps as soon as the model moves at all: an upper limit from every particle that was drawn."""
    model, x, y = fitted()
    start = model(x).detach()

    def jumps(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - start[: len(outputs)]).abs().amax(1) > 1e-6).float() + 0 * targets

    found = measure(model, x, y, jumps, threshold=0.5, sigma=0.1)
    assert found.log_mass is None and found.interval[0] is None
    assert found.interval[1] == pytest.approx(math.log(1 - 0.025 ** (1 / 2120)))
    assert found.verdict == (
        "log mass < -6.4: all particles have the score 1, so there is no next stage (2 of 2 repeats)"
    )


def test_a_minimum_of_no_width() -> None:
    """A threshold at the loss of the minimum itself: splitting follows it down to what rounding leaves of the parameters."""
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.eye(2, dtype=torch.float64)
    found = measure(model, x, model(x).detach() + 1.0, "mse", threshold=1.0, sigma=0.5, names=["weight"])
    assert found.log_mass is not None  # half of the plane is better: no strict minimum
    strict = measure(
        model, x, model(x).detach(), "mse", threshold=1e-300, sigma=0.5, num_particles=100, num_moves=3, precision=9.0
    )
    assert strict.log_mass is not None and strict.log_mass < -50  # (1e-16)^2 = e^-74


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigmas_far_too_large(dtype: torch.dtype) -> None:
    """Losses overflow or not, warnings never, numbers or a limit always."""
    model, x, y = fitted(dtype)
    few = {"num_particles": 30, "num_moves": 3, "precision": 9.0}
    for sigma in (1e1, 1e30):
        found = measure(model, x, y, threshold=1.0, sigma=sigma, **few)
        assert found.log_mass is None or found.log_mass < -5
        assert (found.interval[1] is not None and found.interval[1] < 0) or found.note is not None
    linear = nn.Linear(3, 1, bias=False, dtype=dtype)
    found = measure(linear, x, linear(x).detach(), "mse", threshold=0.1, sigma=1e4, **few)
    assert found.log_mass is not None and found.log_mass < -20
    beyond = 1e38 if dtype == torch.float32 else 1e300
    found = measure(linear, x, linear(x).detach(), "mse", threshold=0.1, sigma=beyond, **few)
    assert found.log_mass is None and found.verdict.startswith("log mass < -6.3: all particles have the score inf")


def test_losses_that_are_nan_far_out() -> None:
    """NaN counts as outside: the same number as a loss that is infinite there, and the same as by brute force."""
    model, x, y = fitted()

    def nan_beyond(value: float) -> Any:
        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            found = nn.functional.cross_entropy(outputs, targets, reduction="none")
            return torch.where(found.mean() > 1.2, value, found)

        return loss

    options = {"threshold": 0.8, "sigma": 0.3, "estimator": "splitting"} | MANY
    nan, inf = (measure(model, x, y, nan_beyond(value), **options) for value in (math.nan, math.inf))
    assert nan.log_mass is not None and nan.log_mass == inf.log_mass and nan.interval == inf.interval
    agree(nan, measure(model, x, y, threshold=0.8, sigma=0.3, estimator="monte_carlo"))


def test_one_sample_and_the_same_sample_many_times() -> None:
    """A landscape of one sample; repeating it changes nothing, since the loss is a mean."""
    model, x, y = fitted()
    one = measure(model, x[:1], y[:1], threshold=0.3, sigma=0.4)
    many = measure(model, x[:1].repeat(25, 1), y[:1].repeat(25), threshold=0.3, sigma=0.4)
    plain = brute_force(model, x[:1], y[:1], 0.4, nn.functional.cross_entropy, 0.3, 4000)
    assert one.hits and many.hits  # both by counting, so that they can be told apart
    agree(one, plain)
    agree(many, plain)


def test_rows_of_zeros_are_not_moved() -> None:
    """F = 0: they are counted and do not matter; where nothing moves the mass is 1."""
    model, x, y = fitted()
    with torch.no_grad():
        model[0].weight[:3] = 0.0
        y = model(x).argmax(1)
    found = measure(model, x, y, threshold=1.0, sigma=0.2)
    assert (found.num_params, found.num_zero) == (59 - 9, 9) and found.hits
    agree(found, brute_force(model, x, y, 0.2, nn.functional.cross_entropy, 1.0, 3000))
    still = nn.Linear(3, 3, bias=False)
    nn.init.zeros_(still.weight)
    nothing = measure(still, x, y, threshold=2.0, sigma=0.2)
    assert nothing.log_mass == 0 and (nothing.num_params, nothing.num_zero) == (0, 9)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return 4 * self.b(self.drop(self.norm(self.a(x)).tanh()))


def test_batch_norm_dropout_and_tied_weights() -> None:
    """The general path, in evaluation mode whatever mode the model is in; the model and its buffers come back unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = Tied().train(), torch.randn(20, 3)
    for _ in range(3):
        model(x)
    y = model.eval()(x).argmax(1)
    model.train()
    before = copy.deepcopy(model.state_dict())
    found = measure(model, x, y, threshold=1.0, sigma=0.4)
    assert model.training and all(bool((before[k] == v).all()) for k, v in model.state_dict().items())
    assert found.num_params == 9 + 3 + 6 + 3 and found.hits
    agree(found, brute_force(model, x, y, 0.4, nn.functional.cross_entropy, 1.0, 2500))
    few = {"estimator": "splitting", "num_particles": 30, "num_moves": 3} | MANY
    agree(measure(model, x, y, threshold=1.0, sigma=0.4, **few), found)


def test_a_persons_own_loss_equals_the_built_in_one() -> None:
    """A callable runs the general path: another law of random numbers, the same mass."""
    model, x, y = fitted()

    def own(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    options = {"threshold": 0.8, "sigma": 0.25} | MANY
    agree(measure(model, x, y, own, **options), measure(model, x, y, **options))


def test_accuracy_is_undefined_for_a_regression() -> None:
    model, x, _ = fitted()
    with pytest.raises(ConfigError, match="accuracy is undefined for loss 'mse'"):
        measure(model, x, model(x).detach(), "mse", accuracy_threshold=0.9, sigma=0.1)


def test_accuracy_thresholds_against_counting() -> None:
    """At most w wrong answers: plain samples that are counted by accuracy, and splitting on margins."""
    model, x, y = fitted()
    count, random = 2000, torch.Generator().manual_seed(4)
    shares = []
    with torch.no_grad():
        for _ in range(count):
            other = copy.deepcopy(model)
            for p in other.parameters():
                p += 0.4 * (p.norm(dim=1, keepdim=True) if p.ndim > 1 else 1.0) * torch.randn(p.shape, generator=random)
            shares.append((other(x).argmax(1) == y).float().mean().item())
    for threshold in (0.9, 0.8):
        plain = plain_estimate(int(np.sum(np.array(shares) > threshold - 1e-6)), count)
        for estimator in ("auto", "splitting"):
            found = measure(model, x, y, accuracy_threshold=threshold, sigma=0.4, estimator=estimator, **MANY)
            agree(found, plain)
            assert found.start_loss == 1.0


def test_plain_sampling_that_finds_nothing() -> None:
    """estimator='monte_carlo' where the mass is e^-30: a limit from 100,000 samples, and what to use."""
    model = nn.Linear(10, 1, bias=False)
    x = torch.randn(12, 10, generator=torch.Generator().manual_seed(0))
    found = measure(model, x, model(x).detach(), "mse", threshold=1e-4, sigma=1.0, estimator="monte_carlo")
    assert found.verdict == "log mass < -10.2: none of 100,000 plain samples is inside; use splitting"
    assert found.interval == (None, pytest.approx(math.log(1 - 0.025**1e-5), rel=1e-4)) and found.hits == 0


SIGMA = "sigma .* is not allowed: it must be a number, or a sequence of numbers"
NUMBER = "sigma .* is not allowed: it must be a positive number"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[({"sigma": value}, NUMBER) for value in (0, -1, math.nan, math.inf, 1e300, [0.1, 0.0])],
        *[({"sigma": value}, SIGMA) for value in ("0.1", [0.1, "a"], [0.1, [0.2]], True, {"a": 1}, 10**400, [[0.1]])],
        ({"sigma": []}, "sigma is an empty sequence"),
        ({"sigma": None}, "measure 'gaussian' needs sigma"),
        ({"num_particles": 10}, "num_particles 10 is not allowed: it must be a whole number of at least 20"),
        ({"num_particles": 50.5}, "num_particles 50.5 is not allowed"),
        ({"num_particles": "a"}, "num_particles 'a' is not allowed"),
        ({"num_moves": 1.5}, "num_moves 1.5 is not allowed: it must be a whole number of at least 1"),
        ({"num_repeats": 2.5}, "num_repeats 2.5 is not allowed"),
        ({"num_repeats": 1}, "num_repeats 1 is not allowed"),
        ({"precision": 0.0}, "precision 0.0 is not allowed"),
        ({"precision": "x"}, "precision 'x' is not allowed"),
        ({"seed": -1}, "seed -1 is not allowed: it must be a whole number of at least 0"),
        ({"seed": 1.5}, "seed 1.5 is not allowed"),
        ({"memory_gib": 0.0}, "memory_gib 0.0 is not allowed: it must be positive"),
        ({"memory_gib": 1e-6}, "num_particles 60: one repeat needs [0-9.]+ MiB for particles of 59 numbers"),
        ({"estimator": "importance"}, "estimator 'importance' does not estimate measure 'gaussian'"),
        ({"threshold": 0.0}, "threshold 0.0 is not allowed"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    """Every message names the argument, its value and what is allowed."""
    model, x, y = fitted()
    with pytest.raises(ConfigError, match=message):
        measure(model, x, y, **{"threshold": 0.5, "sigma": 0.5, "estimator": "splitting"} | options)


def test_sigmas_of_any_numeric_type() -> None:
    """Python, numpy and torch numbers; one number gives one volume, a sequence a profile."""
    model, x, y = fitted()
    options = QUICK | {"threshold": 1.0}
    for one in (0.5, np.float64(0.5), np.array(0.5), torch.tensor(0.5)):
        found = mv.measure_volume(model, x, y, sigma=one, **options)  # type: ignore[arg-type]
        assert isinstance(found, LocalVolume) and found.sigma == 0.5
    for several in ([0.5], (0.5,), np.array([0.5]), torch.tensor([0.5])):
        profile = mv.measure_volume(model, x, y, sigma=several, **options)  # type: ignore[arg-type]
        assert isinstance(profile, mv.VolumeProfile) and profile.sigmas == (0.5,)
        assert profile.volumes[0].log_mass == found.log_mass


def test_a_profile_has_no_number_for_what_is_only_bounded() -> None:
    """Repeats that disagree have a log of their mean but no upper limit: NaN, as the docstring says."""
    model, x, y = fitted()
    one = measure(model, x, y, threshold=0.5, sigma=1e-3)
    bounded = replace(one, log_mass=-9.62, interval=(-13.3, None), sigma=0.2)
    profile = mv.VolumeProfile((1e-3, 0.2), (one, bounded))
    assert profile.log_mass[0] == one.log_mass and np.isnan(profile.log_mass[1])


def repeats(*logs: float) -> list[Repeat]:
    return [Repeat(i, log, (), 5, 100) for i, log in enumerate(logs)]


def test_interval_of_repeats() -> None:
    """Cox's interval of a lognormal mean around mean + s^2/2; it holds the log of the mean mass and is never above 0."""
    found = splitting_estimate(repeats(-10.0, -10.5, -9.5, -10.2))
    logs = np.array([-10.0, -10.5, -9.5, -10.2])
    s = logs.std(ddof=1)
    error = math.sqrt(s**2 / 4 + s**4 / 6)
    centre, half = logs.mean() + s**2 / 2, 3.182446 * error
    assert found.log_mass == pytest.approx(math.log(np.exp(logs).mean())) and found.degrees == 3
    assert found.standard_error == pytest.approx(error)
    assert found.interval == (pytest.approx(centre - half, rel=1e-6), pytest.approx(centre + half, rel=1e-6))
    assert splitting_estimate(repeats(-0.1, -0.5)).interval[1] == 0.0
    more = splitting_estimate(repeats(-10.0, -10.5, -9.5, -10.2), repeats(-10.1, -9.9, -10.0, -10.05))
    assert more.degrees == 3 and more.standard_error == pytest.approx(math.sqrt(s**2 / 8 + s**4 / 6))
    far = splitting_estimate(repeats(-10.0, -10.0), repeats(*[-11.2] * 3, *[-9.8] * 3))  # no spread, another mean
    assert far.log_mass is not None and far.interval[0] <= far.log_mass <= far.interval[1]


def test_repeats_that_disagree() -> None:
    """A standard deviation above 1: Markov's lower limit, no upper one, no error to compare with, and the verdict says so."""
    logs = (-10.0, -14.0, -9.0, -12.0)
    found = splitting_estimate(repeats(*logs))
    mean = math.log(np.exp(logs).mean())
    assert found.log_mass == pytest.approx(mean) and found.interval == (pytest.approx(mean - math.log(40)), None)
    assert found.verdict == (
        "log mass > -13.7: repeats disagree: the standard deviation of their logs is 2.2, the log of their mean -10.03; "
        "raise num_particles or num_moves"
    )
    assert found.estimate is None and compare_masses(found, found).probability is None
    # the first few disagree, all together do not: the spread is that of all, whose number is fixed
    more = splitting_estimate(repeats(-10.0, -12.0), repeats(*[-10.9, -11.1] * 3))
    s = np.std([-10.0, -12.0, *[-10.9, -11.1] * 3], ddof=1)
    assert more.degrees == 7 and more.standard_error == pytest.approx(math.sqrt(s**2 / 8 + s**4 / 14))
    # the first few agree by chance, all together do not
    assert splitting_estimate(repeats(-10.0, -10.2), repeats(-8.0, -13.0)).interval[1] is None


def test_one_lineage_is_said() -> None:
    """A repeat whose particles all descend from one first particle rests on it, however well repeats agree."""
    alone = [replace(repeat, lineages=1) for repeat in repeats(-10.0)]
    found = splitting_estimate([*repeats(-10.0, -10.5, -9.5), *alone])
    assert found.interval[1] is not None
    assert found.verdict.endswith("in 1 of 4 repeats all particles descend from one; raise num_particles")


@pytest.mark.parametrize("s", [0.3, 0.6, 0.9])
def test_intervals_of_lognormal_repeats_cover(s: float) -> None:
    """8 repeats with a known mean, 2,000 times: below 1,808 hits has a chance of 1e-5 where 93 % cover, as 94 to 95 % do."""
    logs = np.random.default_rng(7).normal(-10 - s**2 / 2, s, size=(2000, 8))
    limits = [splitting_estimate(repeats(*row)).interval for row in logs]
    covered = sum(low <= -10 and (high is None or high >= -10) for low, high in limits)  # type: ignore[operator]
    assert scipy.stats.binom.cdf(1807, 2000, 0.93) < 1e-5
    assert covered >= 1808


def test_comparisons() -> None:
    """Two Student errors; two minima that keep everything are no order; a bound cannot be compared."""
    a, b = splitting_estimate(repeats(-5.0, -5.2, -4.8, -5.0)), splitting_estimate(repeats(-8.0, -8.2, -7.8, -8.0))
    found = compare_masses(a, b)
    assert found.value == pytest.approx(3.0) and found.probability == pytest.approx(1, abs=1e-3)
    assert mass_verdict(["+0", "+9"], found).startswith("+0 is larger than +9 by 3.00 (2.")
    assert mass_verdict(["+0", "+9"], found).endswith("this comparison alone)")
    assert mass_verdict(["+9", "+0"], compare_masses(b, a)).startswith("+0 is larger than +9 by 3.00 (2.")
    for sure in (plain_estimate(200, 200), splitting_estimate(repeats(0.0, 0.0))):
        tie = compare_masses(sure, sure)
        assert tie.probability == 0.5
        assert "cannot be told apart: difference 0.00" in mass_verdict(["+0", "+9"], tie)
    bound = GaussianMass(None, (None, -5.0), "splitting", note="not reached")
    verdict = mass_verdict(["+0", "+9"], compare_masses(bound, b))
    assert verdict == "+0 and +9 cannot be compared: one of them is no estimate"


@pytest.mark.parametrize(("errors", "degrees"), [((0.1, 0.1), (7, 7)), ((0.3, 0.1), (3, None)), ((0.01, 0.2), (1, 7))])
def test_the_law_of_a_difference(errors: tuple[float, float], degrees: tuple[float | None, float | None]) -> None:
    """P[e1 T1 - e2 T2 <= x] by quadrature, at the limits and in between; the order of the two does not matter."""
    a, b = (
        GaussianMass(log, (log - 1, log + 1), "splitting", standard_error=error, degrees=number)
        for log, error, number in zip((-5.0, -5.15), errors, degrees, strict=True)
    )
    laws = [scipy.stats.norm if number is None else scipy.stats.t(number) for number in degrees]

    def below(x: float) -> float:
        at = x / errors[0]
        kink = [at - 5 * errors[1] / errors[0], at, at + 5 * errors[1] / errors[0]]
        parts = np.r_[-np.inf, kink, np.inf]
        density = lambda t: laws[0].pdf(t) * laws[1].cdf((x - errors[0] * t) / errors[1])  # noqa: E731
        return sum(scipy.integrate.quad(density, *pair, limit=200)[0] for pair in itertools.pairwise(parts))

    found, turned = compare_masses(a, b), compare_masses(b, a)
    assert found.probability == pytest.approx(below(0.15), abs=1e-3)
    assert turned.probability == pytest.approx(1 - below(0.15), abs=1e-3)
    low, high = found.lower, found.upper
    assert below(high - 0.15) == pytest.approx(0.975, abs=1e-3) and low + high == pytest.approx(0.3)
    assert [turned.lower, turned.upper] == pytest.approx([-high, -low])


def test_binomial_estimate() -> None:
    """Clopper-Pearson, and the error of a log frequency."""
    found = plain_estimate(50, 1000)
    assert found.log_mass == math.log(0.05) and found.standard_error == pytest.approx(math.sqrt(0.95 / 50))
    assert np.exp(found.interval) == pytest.approx([0.03733540, 0.06539050], rel=1e-5)
    sure = plain_estimate(300, 300)
    assert sure.interval == (pytest.approx(math.log(0.025) / 300), 0.0)
    assert sure.standard_error == pytest.approx(-sure.interval[0] / 1.959964)
