"""Gaussian local volumes of trained networks (two spirals, five hidden layers, landscape of 20 samples): splitting against brute force.

Each minimum is measured at the sigma where it has about the log mass that is asked for, so that the tests hold for any minimum
that training ends with.
"""

from __future__ import annotations

import math

import pytest
from helpers import agree, make_run

import minima_volume as mv
from minima_volume.perturbation.particles import Particles
from minima_volume.stages.measured import make_engine
from minima_volume.stages.run import Run
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass
from minima_volume.volume.gaussian.splitting import Splitting

FULL_SIZE = {
    "data.source": "swiss_roll",
    "data.levels": [0, 780],
    "model.options": {"hidden": [32] * 5},
    "training.loss": "bce_with_logits",
    "training.epochs": 500,
    "training.learning_rate": 1e-3,
    "volume.loss_thresholds": [0.1],
    "volume.accuracy_thresholds": None,
}
LOSS, ACCURACY = Condition("loss", 0.1), Condition("accuracy", 0.95)
SPLITTING = MassSettings("splitting")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two minima at full size: trained with 20 and with 800 samples."""
    return make_run(tmp_path_factory.mktemp("spirals") / "model_0_data_10", FULL_SIZE, ("train",))


def target(run: Run, level: int, condition: Condition, log_mass: float) -> Target:
    """The minimum at a sigma of about this log mass, bisected by quick estimates."""
    engine = make_engine(run, mv.load_models_and_data(run), level)
    stages = math.ceil(log_mass / math.log(0.25)) + 1
    quick = MassSettings("splitting", 2, math.inf, Splitting(num_particles=50, num_moves=5, max_stages=stages))
    low, high = 0.0, 1.0
    for _ in range(8):
        sigma = (low + high) / 2
        found = gaussian_mass(Target(Particles(engine, sigma, [20]), condition), 3, quick).log_mass
        low, high = (low, sigma) if found is None or found < log_mass else (sigma, high)
    return Target(Particles(engine, (low + high) / 2, [20]), condition)


def show(splitting: GaussianMass, plain: GaussianMass) -> None:
    """What was found, for the record."""
    print(
        f"{splitting.verdict} ({len(splitting.repeats)} repeats, {splitting.num_moves} moves, {splitting.num_forward:,} passes); "
        f"brute force {plain.verdict} ({plain.hits} hits)"
    )


@pytest.mark.parametrize("condition", [LOSS, ACCURACY], ids=["loss", "accuracy"])
@pytest.mark.parametrize("level", [0, 780])
def test_splitting_agrees_with_brute_force(run: Run, level: int, condition: Condition) -> None:
    """At log masses of about -4, by loss and by accuracy: 16 repeats with 15 degrees of freedom; a false alarm in 500,000."""
    event = target(run, level, condition, -4.0)
    many = MassSettings(
        "splitting", num_repeats=16, precision=9.0, splitting=Splitting(num_particles=100, num_moves=10)
    )
    plain = gaussian_mass(event, 2, MassSettings("monte_carlo", num_samples=10_000))
    found, auto = gaussian_mass(event, 1, many), gaussian_mass(event, 1)
    show(found, plain)
    assert found.degrees == 15 and found.standard_error is not None and found.standard_error < 0.2  # it can fail
    assert plain.hits is not None and plain.hits > 20
    agree(found, plain)
    agree(auto, plain)


@pytest.mark.slow
@pytest.mark.parametrize("condition", [LOSS, ACCURACY], ids=["loss", "accuracy"])
@pytest.mark.parametrize("level", [0, 780])
def test_splitting_agrees_with_brute_force_at_minus_10(run: Run, level: int, condition: Condition) -> None:
    """The default settings, against millions of plain samples; a false alarm in a million."""
    event = target(run, level, condition, -10.0)
    found = gaussian_mass(event, 1, SPLITTING)
    plain = gaussian_mass(event, 2, MassSettings("monte_carlo", num_samples=3_000_000))
    show(found, plain)
    agree(found, plain)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 780])
@pytest.mark.parametrize("log_mass", [-20.0, -40.0])
def test_deep_minima_are_measured(run: Run, level: int, log_mass: float) -> None:
    """An estimate with a lower limit; also by accuracy, whose few values tie and do not stall."""
    for condition in (LOSS, ACCURACY):
        found = gaussian_mass(target(run, level, condition, log_mass), 1, SPLITTING)
        print(
            f"{condition.kind} {found.verdict} ({len(found.repeats)} repeats, {found.num_moves} moves, {found.num_forward:,} passes)"
        )
        assert found.log_mass is not None and found.log_mass < log_mass / 2  # a deep one indeed
        assert found.interval[0] is not None and not any(repeat.reason for repeat in found.repeats)
