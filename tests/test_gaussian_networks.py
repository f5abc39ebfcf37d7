"""Gaussian local volumes of trained networks (two spirals, five hidden layers, landscape of 20 samples): splitting against brute force."""

from __future__ import annotations

import math

import pytest
from helpers import make_run

import minima_volume as mv
from minima_volume.layout import Run
from minima_volume.perturbation.shards import make_engine
from minima_volume.volume.crossings import Condition
from minima_volume.volume.mass import GaussianMass
from minima_volume.volume.mass_plan import MassSettings, gaussian_mass
from minima_volume.volume.target import Target

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two minima at full size: trained with 20 and with 800 samples."""
    return make_run(tmp_path_factory.mktemp("spirals") / "model_0_data_10", FULL_SIZE, ("train",))


def target(run: Run, level: int, sigma: float, condition: Condition) -> Target:
    return Target(make_engine(run, mv.load_models_and_data(run), level).particles(sigma, [20]), condition)


def agree(splitting: GaussianMass, plain: GaussianMass) -> None:
    """Within three errors of both; what was found is printed, for the record."""
    print(
        f"{splitting.verdict} ({len(splitting.repeats)} repeats, {splitting.num_moves} moves, {splitting.num_forward:,} passes); "
        f"brute force {plain.verdict} ({plain.hits} hits)"
    )
    assert plain.hits is not None and plain.hits >= 90
    assert splitting.log_mass is not None and plain.log_mass is not None
    assert splitting.standard_error is not None and plain.standard_error is not None
    error = math.hypot(splitting.standard_error, plain.standard_error)
    assert abs(splitting.log_mass - plain.log_mass) < 3 * error


SPLITTING = MassSettings("splitting")


@pytest.mark.parametrize("condition", [LOSS, ACCURACY], ids=["loss", "accuracy"])
@pytest.mark.parametrize("level", [0, 780])
def test_splitting_agrees_with_brute_force(run: Run, level: int, condition: Condition) -> None:
    """At log masses of about -4, by loss and by accuracy, with few particles."""
    event = target(run, level, 0.06, condition)
    few = MassSettings("splitting", num_repeats=4, precision=0.6)
    plain = gaussian_mass(event, 2, MassSettings("monte_carlo", num_samples=10_000))
    agree(gaussian_mass(event, 1, few), plain)
    auto = gaussian_mass(event, 1)
    assert auto.method == "monte_carlo" and abs(auto.log_mass - plain.log_mass) < 0.3  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "sigma", "condition", "samples"),
    [
        (0, 0.11, LOSS, 3_000_000),
        (780, 0.145, LOSS, 3_000_000),
        (0, 0.145, ACCURACY, 3_000_000),
        (780, 0.19, ACCURACY, 3_000_000),
    ],
    ids=["0 loss", "780 loss", "0 accuracy", "780 accuracy"],
)
def test_splitting_agrees_with_brute_force_at_minus_10(
    run: Run, level: int, sigma: float, condition: Condition, samples: int
) -> None:
    """The default settings, against millions of plain samples; half-width below 0.5."""
    event = target(run, level, sigma, condition)
    found = gaussian_mass(event, 1, SPLITTING)
    assert found.interval[0] is not None and found.log_mass is not None and found.log_mass - found.interval[0] < 0.5
    agree(found, gaussian_mass(event, 2, MassSettings("monte_carlo", num_samples=samples)))


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 780])
@pytest.mark.parametrize("sigma", [0.2, 0.35])
def test_intervals_of_deep_minima(run: Run, level: int, sigma: float) -> None:
    """Half-width below 0.5 nats down to -20 and below 3 % beyond; accuracies tie on few values and do not stall."""
    for condition in (LOSS, ACCURACY):
        found = gaussian_mass(target(run, level, sigma, condition), 1, SPLITTING)
        print(
            f"{condition.kind} {found.verdict} ({len(found.repeats)} repeats, {found.num_moves} moves, {found.num_forward:,} passes)"
        )
        assert found.log_mass is not None and found.interval[0] is not None
        assert found.log_mass - found.interval[0] < max(0.5, 0.03 * abs(found.log_mass))
