"""A sigma at which the Gaussian local volumes of a run can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from minima_volume.execution.device import threads
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.particles import Particles
from minima_volume.stages.measured import make_engine
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass
from minima_volume.volume.gaussian.sigma import fitting_sigma, median_sigma
from minima_volume.volume.gaussian.splitting import Splitting, splitting

REACH = 12  # stages, each a factor of four


QUICK = MassSettings(
    num_repeats=2, precision=math.inf, splitting=Splitting(num_particles=100, num_moves=10, max_stages=REACH)
)


PROBE = Splitting(num_particles=40, num_moves=5, max_stages=REACH)


@dataclass(frozen=True)
class Suggestion:
    """A headline sigma for a run.

    Attributes:
        sigma: two significant digits; three or four where two would miss by more than 0.3 nats.
        landscape, threshold: the smallest landscape, the headline threshold.
        masses: minimum -> a quick estimate at that sigma.
        sigmas: minimum -> the sigma at which it has a log mass of about -1.5; empty where all can be measured at the native one's.
    """

    sigma: float
    landscape: int
    threshold: float
    masses: dict[int, GaussianMass]
    sigmas: dict[int, float]


@own_defaults()
def suggest_run_sigma(run: Run, trained: Trained | None = None, *, progress: bool = False) -> Suggestion:
    """A sigma at which the minima of the smallest landscape can be measured and compared.

    It is the one at which the landscape's native minimum has a log mass of about -1.5 (in a series its first minimum). Where some
    minimum is out of reach there (deeper than about -16, which takes long to measure), it is the median of the sigmas at which each
    has -1.5. At that sigma all are estimated quickly (100 particles, 2 repeats), so that one sees how deep they lie.

    Args:
        run: a run whose models are trained.
        trained: its models and samples; loaded when None.
        progress: show a progress bar.

    Raises:
        ConfigError: the native minimum is outside, or no sigma that its weights can resolve reaches that log mass.
    """
    trained = load_models_and_data(run) if trained is None else trained
    config = run.config
    landscape, threshold = config.data.levels[0], config.volume.headline
    condition, size = Condition("loss", threshold), config.data.base_size + landscape
    with (
        threads(config.experiment.threads),
        tqdm(total=len(config.minima), unit="minimum", disable=not progress) as bar,
    ):
        engines = {minimum: make_engine(run, trained, minimum) for minimum in config.minima}
        outside = {m: Target(Particles(engine, 1.0, [size]), condition).outside() for m, engine in engines.items()}
        # a series by epoch begins with models that are no minima yet
        inside = [minimum for minimum in config.minima if outside[minimum] is None]
        native = inside[0] if inside and config.variation != "level" else config.minima[0]
        seed, sigmas = config.seeds.perturbation, {}

        def each(minima: Sequence[int], what: str) -> Iterator[int]:
            bar.reset(len(minima))
            bar.set_description(what)
            for minimum in minima:
                yield minimum
                bar.update()

        def event(minimum: int) -> Target:
            return Target(Particles(engines[minimum], sigma, [size]), condition)

        for minimum in each([native], "sigma of the native minimum"):
            sigma = fitting_sigma(engines[minimum], condition, size, seed)
        # the deepest is usually the last
        if not all(_in_reach(event(minimum), seed) for minimum in each(inside[::-1], f"reach at sigma {sigma:g}")):
            sigmas = {m: fitting_sigma(engines[m], condition, size, seed) for m in each(inside, "a sigma for each")}
            sigma = median_sigma(sigmas.values())
        masses = {m: gaussian_mass(event(m), seed, QUICK) for m in each(config.minima, f"masses at sigma {sigma:g}")}
    return Suggestion(sigma, landscape, threshold, masses, sigmas)


def _in_reach(event: Target, seed: int) -> bool:
    """Whether a few particles come to the threshold within a few stages."""
    return splitting(event, [seed], PROBE)[0].reason is None
