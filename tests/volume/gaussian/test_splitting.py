"""Multilevel splitting on events with a known probability: unbiased, whatever ties, whatever runs beside it.

Tolerances are six standard errors of the normal law, or at least as much where the law has a tail, for a false alarm in 100,000 at most.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy
import torch
from chi_square import ChiSquare
from helpers import agree, fewest
from scipy.stats import chi2
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.event import bytes_beside
from minima_volume.volume.gaussian.mass import splitting_estimate
from minima_volume.volume.gaussian.moves import stays_below
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass
from minima_volume.volume.gaussian.splitting import Repeat, Splitting, next_stage, splitting

SMALL = Splitting(num_particles=32, num_moves=6)


def test_the_estimate_is_unbiased() -> None:
    """The mean mass of 1,000 repeats of 32 particles is the truth within 12 %; counting the particle that sets a stage gives 40 % more."""
    log_mass = -4.5
    repeats = splitting(ChiSquare.of(log_mass), range(1000), SMALL)
    ratio = np.exp([repeat.log_mass - log_mass for repeat in repeats])
    assert ratio.mean() == pytest.approx(1, abs=0.12)  # the standard error is 0.019
    counted = [
        repeat.log_mass + sum(math.log1p(1 / (32 * stage.fraction)) for stage in repeat.stages) for repeat in repeats
    ]
    assert np.exp(np.array(counted) - log_mass).mean() > 1.2


def test_stages_fall_to_the_threshold() -> None:
    """Each keeps a quarter, the acceptance is near 0.3 once tuned, and the last fraction is the rest of the mass."""
    event = ChiSquare.of(-12.0, k=20, dim=20)
    (repeat,) = splitting(event, [3], Splitting(num_particles=200, num_moves=20))
    scores = [stage.score for stage in repeat.stages]
    assert all(a is not None and b is not None and a > b > event.threshold for a, b in itertools.pairwise(scores))
    assert [stage.fraction for stage in repeat.stages] == [0.25] * len(scores)
    rest = repeat.log_mass - len(scores) * math.log(0.25)
    assert math.log(0.25) <= rest <= 0
    assert all(0.2 < stage.acceptance < 0.45 for stage in repeat.stages[1:])
    assert all(20 <= stage.num_moves <= 80 and stage.jump > 0.05 for stage in repeat.stages)
    assert repeat.num_forward == 200 * (1 + sum(stage.num_moves for stage in repeat.stages))
    assert 1 <= repeat.lineages < 200 and repeat.reason is None
    assert repeat.log_mass == pytest.approx(-12, abs=2.5)


def test_particles_keep_the_conditional_law() -> None:
    """After many moves below the last stage the particles are a sample of z given |z|^2 < stage, also where b was tuned."""
    event = ChiSquare.of(-4.0, k=3, dim=4)
    seen: list[np.ndarray] = []

    class Watched(ChiSquare):
        def empty(self, count: int) -> Tensor:
            made = super().empty(count)
            seen.append(made.numpy())
            return made

    watched = Watched(event.threshold, 3, 4)
    repeats = splitting(watched, range(20), Splitting(num_particles=100, num_moves=40))
    particles = seen[0]
    last = np.array([repeat.stages[-1].score for repeat in repeats], dtype=float).repeat(100)
    inside = (particles[:, :3] ** 2).sum(1)
    assert (inside < last).all()
    uniform = chi2.cdf(inside, 3) / chi2.cdf(last, 3)
    assert uniform.mean() == pytest.approx(0.5, abs=0.03) and uniform.var() == pytest.approx(1 / 12, abs=0.01)
    assert particles[:, 3].var() == pytest.approx(1, abs=0.12)  # what the score does not see stays standard normal
    assert abs(particles.mean()) < 0.05


def test_scores_that_tie() -> None:
    """Plateaus: stages still fall strictly, and the mass is that of the steps."""
    event = ChiSquare(2.0, k=6, through=np.floor)
    repeats = splitting(event, range(400), SMALL)
    truth = chi2.logcdf(3, 6)
    ratio = np.exp([repeat.log_mass - truth for repeat in repeats])
    assert ratio.mean() == pytest.approx(1, abs=6 * ratio.std() / math.sqrt(400))
    for repeat in repeats:
        scores = [stage.score for stage in repeat.stages]
        assert scores == sorted(set(scores), reverse=True) and repeat.reason is None


def test_a_tiny_region_in_few_dimensions() -> None:
    """Radii of 1e-10 and 1e-6: the step must follow them down, or the particles stand still and tie."""
    for k, log_mass in ((1, -22.0), (3, -40.0)):
        repeats = splitting(ChiSquare.of(log_mass, k=k, dim=k), range(4), Splitting(num_particles=100))
        assert all(repeat.reason is None for repeat in repeats)
        assert np.mean([repeat.log_mass for repeat in repeats]) == pytest.approx(log_mass, abs=3.5)


def test_a_plateau_above_the_threshold_ends_with_a_reason() -> None:
    """No particle can be below 4. What the particles came to bounds nothing; 16 x 200 of them were outside as plain samples."""
    event = ChiSquare(1.0, k=5, through=lambda score: np.maximum(score, 4.0))
    how = Splitting(num_particles=200, num_moves=20)
    (repeat,) = splitting(event, [1], how)
    assert repeat.reason == "all particles have the score 4, so there is no next stage" and not repeat.lost
    kept = math.exp(repeat.log_mass) * 200
    assert fewest(200, chi2.cdf(4, 5)) <= kept <= 200 - fewest(200, chi2.sf(4, 5))
    mass = gaussian_mass(event, 1, MassSettings("splitting", splitting=how))
    assert mass.log_mass is None and (mass.hits, mass.num_samples) == (0, 3200)
    assert mass.interval == (None, pytest.approx(math.log(1 - 0.025 ** (1 / 3200))))
    assert mass.note == "all particles have the score 4, so there is no next stage (16 of 16 repeats)"
    assert mass.verdict == f"log mass < -6.8: {mass.note}"


def test_infinite_scores() -> None:
    """Where all are infinite nothing can be said but that no particle was inside; where some are, they are dropped."""
    nowhere = ChiSquare(1.0, through=lambda score: np.full_like(score, np.inf))
    mass = gaussian_mass(nowhere, 1, MassSettings(splitting=Splitting(num_particles=100)))  # after 2,000 plain samples
    assert mass.log_mass is None and mass.moves_effect is None
    assert "all particles have the score inf" in str(mass.note)
    # the pilot and 16 x 100 independent particles were all outside: the probability is below 3.69 / 3600 (97.5 %)
    assert mass.interval[1] == pytest.approx(math.log(1 - 0.025 ** (1 / 3600)))
    assert mass.verdict.startswith("log mass < -6.9")
    steep = ChiSquare.of(-8.0, through=lambda score: np.where(score > 1.5, np.inf, score))
    found = gaussian_mass(steep, 1)
    agree(found, -8.0)
    assert found.repeats[0].stages[0].score is None  # infinity is no number of a results file
    kept = found.repeats[0].stages[0].fraction * 250
    assert fewest(250, chi2.cdf(1.5, 5)) <= kept <= 250 - fewest(250, chi2.sf(1.5, 5))


def test_max_stages() -> None:
    """Particles that ran out of stages bound nothing: the upper limit is that of plain samples, and no more repeats are spent."""
    how = Splitting(num_particles=100, max_stages=3)
    mass = gaussian_mass(ChiSquare.of(-40.0), 1, MassSettings(splitting=how))
    assert mass.log_mass is None and mass.interval == (None, pytest.approx(math.log(1 - 0.025 ** (1 / 3600))))
    assert mass.verdict == "log mass < -6.9: not reached in 3 stages (16 of 16 repeats)"
    assert len(mass.repeats) == 16 and not any(repeat.lost for repeat in mass.repeats)


@dataclass(frozen=True)
class BallBesideBowl(ChiSquare):
    """A ball around z = 0, and a wide bowl whose bottom stays above the threshold: max score 0.1 at the ball's `radius`."""

    threshold: float = 0.1
    k: int = 10
    dim: int = 10
    radius: float = 0.2

    def scores(self, z: Tensor) -> np.ndarray:
        bowl = z - 3.0 * torch.eye(1, self.dim, dtype=z.dtype)
        ball = self.threshold * z.square().sum(1) / self.radius**2
        return torch.minimum(ball, 0.15 + 0.02 * bowl.square().sum(1)).numpy()


def test_particles_that_lost_the_minimum() -> None:
    """They come far below the ball's mass and are stuck in the bowl: neither that nor anything else is an upper limit.

    A repeat keeps the ball where one of some 100 particles meets a ball of mass e^-14 or less: 1e-5 for both together.
    """
    event, how = BallBesideBowl(radius=0.2), Splitting(num_particles=30, num_moves=5)
    truth = chi2.logcdf(0.2**2, 10)
    mass = gaussian_mass(event, 1, MassSettings(num_repeats=2, splitting=how))
    assert truth < -22 and mass.log_mass is None and mass.interval == (None, None)
    assert all(repeat.lost for repeat in mass.repeats)
    assert mass.verdict.startswith("not measured: all particles have the score 0.15")
    assert "the particles have lost the minimum" in mass.verdict and mass.verdict.endswith("or take a smaller sigma")


def test_repeats_that_reach_the_threshold_beside_some_that_are_stuck() -> None:
    """A stuck repeat is an estimate of 0: the mean is unbiased, and Markov's inequality makes it a lower limit."""
    reached, stuck = Repeat(0, -12.0, (), 5, 100, None, 50, 1), Repeat(1, -30.0, (), 5, 100, "stuck", 50, 0)
    mass = splitting_estimate([reached, stuck], pilot=(2, 2000))
    low, high = math.log(math.exp(-12.0) / 2 / 40), math.log(scipy.stats.beta.ppf(0.975, 4, 2097))
    assert mass.interval == (pytest.approx(low), pytest.approx(high))
    assert mass.verdict == "log mass between -16.4 and -5.5: stuck (1 of 2 repeats)"
    lost = splitting_estimate([reached, replace(stuck, lost=True)], pilot=(2, 2000))
    assert lost.log_mass is None and lost.interval == (pytest.approx(low), None)
    assert lost.verdict.startswith("log mass > -16.4: stuck (1 of 2 repeats); the particles have lost the minimum")


def test_the_chain_from_the_minimum() -> None:
    """It stays in a ball that the cloud has left; where there is but one region it rises to the cloud's scores; it must move."""
    assert stays_below(BallBesideBowl(), lowest=0.15, limit=0.1500001, seed=1)
    for log_mass in (-3.0, -30.0):
        event = ChiSquare.of(log_mass, k=8)
        lowest = event.threshold * 300 ** (-1 / 4)  # about the lowest of 300 particles below the stage
        assert not stays_below(event, lowest, event.threshold, seed=1)
    still = ChiSquare(1.0, through=lambda score: np.where(score > 0, 4.0, 0.0))
    assert not stays_below(still, lowest=4.0, limit=4.0, seed=1)


def test_the_chain_changes_no_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat that reaches the threshold does not need it; a stuck one keeps its particles."""
    event, how = ChiSquare.of(-8.0), Splitting(num_particles=40, num_moves=4)
    short = replace(how, max_stages=2)
    found, stuck = splitting(event, [3, 4], how), splitting(event, [3, 4], short)
    monkeypatch.setattr("minima_volume.volume.gaussian.splitting.stays_below", lambda *args: True)
    assert splitting(event, [3, 4], how) == found
    assert splitting(event, [3, 4], short) == [replace(repeat, lost=True) for repeat in stuck]


@pytest.mark.parametrize("chunk", [40, 150, 100_000])
def test_a_repeat_depends_on_its_own_seed_alone(chunk: int) -> None:
    """Alone, beside others, in another order, and with room for a few repeats only: the same numbers."""
    event, how = ChiSquare.of(-6.0, chunk=chunk), Splitting(num_particles=50, num_moves=5)
    together = splitting(event, [5, 6, 7, 8, 9], how)
    assert [repeat.seed for repeat in together] == [5, 6, 7, 8, 9]
    assert [splitting(event, [seed], how)[0] for seed in (5, 6, 7, 8, 9)] == together
    assert splitting(event, [9, 8, 7, 6, 5], how) == together[::-1]
    tight = replace(how, memory=bytes_beside(event, 50) + 2 * 50 * event.bytes_per_particle)
    assert splitting(event, [5, 6, 7, 8, 9], tight) == together
    if chunk >= 50:
        assert splitting(replace(event, chunk=50), [5, 6], how) == together[:2]
    assert len({repeat.log_mass for repeat in together}) == 5


def test_estimates_are_reproducible_by_seed() -> None:
    event = ChiSquare.of(-8.0)
    settings = MassSettings(precision=3.0, splitting=Splitting(num_particles=50, num_moves=5))
    first = gaussian_mass(event, 4, settings)
    assert gaussian_mass(event, 4, settings) == first
    assert gaussian_mass(event, 5, settings).log_mass != first.log_mass
    with pytest.raises(ConfigError, match="seed -1 is not allowed: it must be a whole number of at least 0"):
        gaussian_mass(event, -1, settings)


@pytest.mark.parametrize(
    ("scores", "keep", "expected"),
    [
        ([3, 1, 2, 0], 0.25, 1),
        ([3, 1, 2, 0], 0.5, 2),
        ([1, 1, 1, 2, 3], 0.25, 2),
        ([1, 1, 1, np.inf], 0.25, np.inf),
        ([1, 1], 0.5, None),
        ([np.inf] * 4, 0.25, None),
    ],
)
def test_next_stage(scores: list[float], keep: float, expected: float | None) -> None:
    """Something is kept and something dropped at every stage, or there is none."""
    assert next_stage(np.array(scores, dtype=float), keep) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 19}, "num_particles 19 is not allowed: it must be a whole number of at least 20"),
        ({"num_particles": 50.5}, "num_particles 50.5 is not allowed: it must be a whole number of at least 20"),
        ({"num_moves": 0}, "num_moves 0 is not allowed: it must be a whole number of at least 1"),
        ({"max_stages": 0}, "max_stages 0 is not allowed: it must be a whole number of at least 1"),
        ({"keep": 1.0}, "keep 1.0 is not allowed: it must be 0.05 to 0.9"),
        ({"keep": math.nan}, "keep nan is not allowed"),
    ],
)
def test_settings_of_splitting(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Splitting(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "importance"}, "estimator 'importance' is not known; allowed: auto, monte_carlo, splitting"),
        (
            {"num_repeats": 1},
            "num_repeats 1 is not allowed: it must be a whole number of at least 2",
        ),
        ({"precision": 0.0}, "precision 0.0 is not allowed: it must be a positive number of nats"),
        ({"precision": math.nan}, "precision nan is not allowed"),
        ({"num_samples": 0}, "num_samples 0 is not allowed: it must be a whole number of at least 1"),
    ],
)
def test_settings_of_an_estimate(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MassSettings(**options)  # type: ignore[arg-type]


def test_particles_beyond_the_memory_budget() -> None:
    event = ChiSquare.of(-8.0, dim=1000)
    with pytest.raises(ConfigError) as error:
        splitting(event, [1], Splitting(num_particles=100, memory=1e5))
    assert "num_particles 100: one repeat needs 3.05 MiB for particles of 1,000 numbers" in str(error.value)
    assert "the budget is 0.10 MiB; lower num_particles or raise memory_gib" in str(error.value)
