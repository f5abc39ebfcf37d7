"""A sigma at which the Gaussian local volumes of a landscape can be compared: neither all near 1 nor out of reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minima_volume.errors import ConfigError
from minima_volume.layout import Run
from minima_volume.perturbation.work import make_engine
from minima_volume.provenance import threads
from minima_volume.training import Trained, load_models_and_data
from minima_volume.volume.crossings import Condition
from minima_volume.volume.mass import GaussianMass
from minima_volume.volume.mass_plan import MassSettings, gaussian_mass
from minima_volume.volume.splitting import Splitting
from minima_volume.volume.target import Target

NATIVE_LOG_MASS = -1.5
SAMPLES, STEPS = 400, 14
SMALLEST, LARGEST = 1e-4, 10.0


@dataclass(frozen=True)
class Suggestion:
    """A headline sigma for a run.

    Attributes:
        sigma: two significant digits.
        landscape, threshold: the smallest landscape, the headline threshold.
        masses: minimum -> a quick estimate at that sigma.
    """

    sigma: float
    landscape: int
    threshold: float
    masses: dict[int, GaussianMass]


def suggest_sigma(run: Run, trained: Trained | None = None) -> Suggestion:
    """The sigma at which the native minimum of the smallest landscape has a log mass of about -1.5; in a series its first minimum.

    Found by bisection with the same 400 particles at every sigma; the other minima are then estimated quickly
    (100 particles, 2 repeats), so that one sees how deep they lie.

    Raises:
        ConfigError: the native minimum is outside, or no sigma from 1e-4 to 10 does it.
    """
    trained = load_models_and_data(run) if trained is None else trained
    config = run.config
    landscape, threshold = config.data.levels[0], config.volume.headline
    condition, size = Condition("loss", threshold), config.data.base_size + landscape
    with threads(config.experiment.threads):
        engines = {minimum: make_engine(run, trained, minimum) for minimum in config.minima}

        starts = {m: Target(engine.particles(1.0, [size]), condition).outside() for m, engine in engines.items()}
        # a series by epoch begins with models that are no minima yet
        native = next((m for m in starts if starts[m] is None and config.variation != "level"), config.minima[0])

        def share(sigma: float) -> float:
            target = Target(engines[native].particles(sigma, [size]), condition)
            z = target.empty(SAMPLES).normal_(generator=target.generator(config.seeds.perturbation))
            return float(np.mean(target.scores(z) <= threshold))

        if (start := starts[native]) is not None:
            raise ConfigError(
                f"the smallest minimum is outside its own landscape: loss {start:.6g} is above the threshold {threshold:g}; "
                "train longer or choose another threshold"
            )
        sigma = round_sigma(bisect(share, math.exp(NATIVE_LOG_MASS)))
        quick = MassSettings(num_repeats=2, precision=math.inf, splitting=Splitting(num_particles=100, num_moves=10))
        masses = {
            minimum: gaussian_mass(Target(engine.particles(sigma, [size]), condition), config.seeds.perturbation, quick)
            for minimum, engine in engines.items()
        }
    return Suggestion(sigma, landscape, threshold, masses)


def bisect(share: Callable[[float], float], wanted: float) -> float:
    """The sigma at which a decreasing share of inside particles passes `wanted`, to 1 %, in log sigma."""
    low, high = SMALLEST, LARGEST
    if share(low) < wanted or share(high) > wanted:
        raise ConfigError(
            f"no sigma from {SMALLEST:g} to {LARGEST:g} leaves the smallest minimum with a log mass of {NATIVE_LOG_MASS}: "
            f"its share of inside particles goes from {share(low):.3f} to {share(high):.3f}"
        )
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if share(middle) > wanted else (low, middle)
    return math.sqrt(low * high)


def round_sigma(sigma: float) -> float:
    """Two significant digits.

    >>> round_sigma(0.06789)
    0.068
    """
    return float(f"{sigma:.2g}")
