"""Moves and steps that a pilot finds: what they are, that they are fixed beforehand, and that few of them leave the mean mass unbiased."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from chi_square import ChiSquare
from scipy.stats import chi2

from minima_volume.volume.gaussian.moves import FIRST_STEP
from minima_volume.volume.gaussian.pace import FEWEST, FORGOTTEN, MOST, Counted, Pace, Pilot, SplittingStage, pace_of
from minima_volume.volume.gaussian.plan import MassSettings, Split, checked, gaussian_mass, mass_plan
from minima_volume.volume.gaussian.splitting import Splitting, splitting

STAGE = SplittingStage(1.0, 0.25, 4, 0.5, 0.3, 0.2, FORGOTTEN**2)


def test_moves_after_which_scores_begin_to_be_forgotten() -> None:
    """r^4 is FORGOTTEN squared: two moves. An average of three stages, so that one of them alone decides nothing."""
    assert pace_of([STAGE] * 3, True) == Pace((2, 2, 2), (0.3, 0.3, 0.3))
    slow = replace(STAGE, num_moves=40, correlation=FORGOTTEN, step=0.1)
    found = pace_of([STAGE, STAGE, slow, slow, slow], False)
    assert found.moves == (2, 15, 28, 40, 40) and found.steps == (0.3, 0.3, 0.1, 0.1, 0.1) and not found.settled
    assert pace_of([replace(STAGE, correlation=-0.3)], True).moves == (1,)
    assert pace_of([replace(STAGE, num_moves=MOST, correlation=1.0)], True).moves == (MOST,)
    assert pace_of([replace(STAGE, num_moves=7, correlation=None)], True).moves == (7,)
    nothing = pace_of([], True)  # the pilot began inside
    assert nothing.moves == (FEWEST,) and nothing.first_step(0, FIRST_STEP) == FIRST_STEP


def test_a_pace_is_kept() -> None:
    """Moves and steps are the pace's, whatever the particles do; b follows them only where the pilot had not come."""
    event, how = ChiSquare.of(-12.0, k=20, dim=20), Splitting(num_particles=100)
    pace = Pace((3, 1, 2), (0.6, 0.5, 0.4))
    (repeat,) = splitting(event, [3], how, drive=pace)
    assert [stage.num_moves for stage in repeat.stages][:4] == [3, 1, 2, 2]
    assert [stage.step for stage in repeat.stages] == [0.6, 0.5, *[0.4] * (len(repeat.stages) - 2)]
    assert repeat.num_forward == 100 * (1 + sum(stage.num_moves for stage in repeat.stages))
    (other,) = splitting(event, [3], how, drive=replace(pace, settled=False))
    assert [stage.step for stage in other.stages][:3] == [0.6, 0.5, 0.4]
    assert all(stage.step != 0.4 for stage in other.stages[4:])
    assert pace.times(2).moves == (6, 2, 4) and pace.times(2).steps == pace.steps


def test_a_pilot_moves_until_scores_begin_to_be_forgotten() -> None:
    """At least three times, so that b settles, and at most 80 times where scores do not forget."""
    event = ChiSquare.of(-12.0, k=20, dim=20)
    (repeat,) = splitting(event, [3], Splitting(num_particles=200))
    assert Splitting().drive == Pilot() and Splitting(num_moves=3).drive == Counted(3)
    for stage in repeat.stages:
        assert FEWEST <= stage.num_moves <= MOST and (stage.correlation or 0) <= FORGOTTEN
    assert all(0.2 < stage.acceptance < 0.6 for stage in repeat.stages[2:])
    (still,) = splitting(event, [3], Splitting(num_particles=50, max_stages=1), drive=_Still())
    assert still.stages[0].num_moves == MOST


class _Still(Pilot):
    """Steps that go nowhere."""

    def first_step(self, stage: int, step: float) -> float:
        return 1e-15

    def next_step(self, stage: int, step: float, rate: float) -> float:
        return 1e-15


@pytest.mark.parametrize("moves", [1, 2])
def test_few_moves_leave_the_mean_mass_unbiased(moves: int) -> None:
    """2,000 repeats of 40 particles: the mean is the truth within six standard errors, of at most .05. The mean log is far below it."""
    event, log_mass = ChiSquare.of(-6.0, k=10, dim=10), -6.0
    pace = Pace((moves,), (0.5,))
    ratio = np.exp(
        [found.log_mass - log_mass for found in splitting(event, range(2000), Splitting(num_particles=40), drive=pace)]
    )
    error = ratio.std() / math.sqrt(len(ratio))
    assert error < 0.05 and abs(ratio.mean() - 1) < 6 * error
    assert np.log(ratio).mean() < -0.1


def test_the_pilot_is_not_counted_and_a_fifth_makes_twice_the_moves() -> None:
    """What is drawn, in order: one pilot of half as many particles, then 13 repeats and 3; a stated number has no pilot."""
    plan = mass_plan(1, MassSettings("splitting"))
    next(plan)
    (pilot,) = plan.send([None])
    assert isinstance(pilot, Split) and len(pilot.seeds) == 1 and pilot.pace is None and pilot.how.num_particles == 125
    event = ChiSquare.of(-8.0)
    few, many = plan.send([splitting(event, pilot.seeds, pilot.how)])
    assert isinstance(few, Split) and isinstance(many, Split) and few.pace is not None
    assert (len(few.seeds), len(many.seeds)) == (13, 3) and many.pace == few.pace.times(2)
    assert len({*pilot.seeds, *few.seeds, *many.seeds}) == 17
    counts = [checked(MassSettings(num_repeats=count)) for count in (2, 3, 4, 8, 16, 40)]
    assert counts == [1, 1, 2, 2, 3, 8]
    given = Splitting(num_moves=5)
    assert [checked(MassSettings(num_repeats=count, splitting=given)) for count in (2, 3, 8)] == [1, 2, 4]


def test_evaluations_that_an_interval_costs() -> None:
    """|z|^2 in 100 dimensions at -10: about 28,000 evaluations for +-0.3 nats, where always 20 moves took 120,000.

    30 seeds: the mean has an error of 1,800, so that 35,000 is far beyond chance.
    """
    event = ChiSquare.of(-10.0, k=100, dim=100)
    found = [gaussian_mass(event, seed, MassSettings("splitting")) for seed in range(30)]
    spent = [mass.num_forward * ((mass.interval[1] - mass.interval[0]) / 0.6) ** 2 for mass in found]  # type: ignore[operator]
    assert np.mean(spent) < 35_000
    assert chi2.logcdf(event.threshold, 100) == pytest.approx(-10)
    errors = np.exp([mass.log_mass + 10 for mass in found])  # type: ignore[operator]
    assert abs(errors.mean() - 1) < 6 * errors.std(ddof=1) / math.sqrt(30) < 0.2
