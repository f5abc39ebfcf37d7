"""The Gaussian local volume: how likely a random perturbation of size sigma leaves a model in its minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import scipy

from minima_volume.confidence import CONFIDENCE
from minima_volume.numerals import fixed
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.splitting import Repeat

NORMAL = float(scipy.special.ndtri((1 + CONFIDENCE) / 2))  # half-width of an interval, standard errors
MARKOV = math.log(2 / (1 - CONFIDENCE))  # a mean exceeds 40 times its expectation with probability 1/40 at most
LARGEST_SPREAD = 1.0  # standard deviation of the logs of repeats, above which no interval can be built on them


@dataclass(frozen=True)
class GaussianMass:
    """log P[L(theta* + sigma F z) <= threshold], z standard normal, with what is needed to judge it.

    Attributes:
        log_mass: the estimate, nats; None if undefined or only bounded, see `note`. Without an upper limit it is no estimate.
        interval: 95 % interval; a side is None if nothing bounds it.
        method: monte_carlo or splitting; None if nothing was measured.
        standard_error, degrees: of the log mass, with the degrees of freedom of its t law (None: normal).
        num_forward: parameter vectors evaluated.
        hits, num_samples: plain samples inside, and all of them; of splitting: those of the pilot and the first particles.
        repeats: of splitting, all with at least half the moves of the last ones.
        num_moves: the most moves between two stages that were asked for.
        moves_effect: mean log mass with that many moves minus that with half, and the p-value of no difference.
        note: what a reader must know, or None.
    """

    log_mass: float | None
    interval: tuple[float | None, float | None]
    method: str | None
    standard_error: float | None = None
    degrees: float | None = None
    num_forward: int = 0
    hits: int | None = None
    num_samples: int | None = None
    repeats: tuple[Repeat, ...] = field(default=(), repr=False)
    num_moves: int | None = None
    moves_effect: tuple[float, float] | None = None
    note: str | None = None

    @property
    def num_stages(self) -> float | None:
        """Stages of a repeat, mean."""
        return float(np.mean([len(repeat.stages) for repeat in self.repeats])) if self.repeats else None

    @property
    def acceptance(self) -> float | None:
        """Accepted moves, mean over stages and repeats."""
        rates = [stage.acceptance for repeat in self.repeats for stage in repeat.stages]
        return float(np.mean(rates)) if rates else None

    @property
    def lineages(self) -> int | None:
        """The fewest first particles from which the last ones of a repeat descend."""
        return min((repeat.lineages for repeat in self.repeats), default=None)

    @property
    def estimate(self) -> float | None:
        """The log mass where it can be put in order, averaged and drawn: None without an upper limit."""
        return None if self.interval[1] is None else self.log_mass

    @property
    def verdict(self) -> str:
        """How far to trust it, in words."""
        low, high = self.interval
        if self.log_mass is not None and low is not None and high is not None:
            text = f"measured: {fixed(self.log_mass)}, 95 % interval {fixed(low)} to {fixed(high)}"
            return f"{text}; {self.note}" if self.note else text
        if low is not None and high is not None:
            text = f"log mass between {low:.1f} and {high:.1f}"
        elif low is not None:
            text = f"log mass > {low:.1f}"
        elif high is not None:
            text = f"log mass < {high:.1f}"
        else:
            text = "undefined" if self.method is None else "not measured"
        return f"{text}: {self.note}"


Mass = TypeVar("Mass", bound=GaussianMass)


def noted(mass: Mass, text: str | None) -> Mass:
    """Append a note."""
    return replace(mass, note="; ".join(filter(None, (mass.note, text)))) if text else mass


def outside(start: float) -> GaussianMass:
    """Result for a model outside the region."""
    return GaussianMass(None, (None, None), None, note=Condition.outside_note(start))


def plain_estimate(hits: int, samples: int) -> GaussianMass:
    """log of a frequency with its Clopper-Pearson interval.

    >>> plain_estimate(100, 100).log_mass, plain_estimate(0, 1000).interval[1] < -5
    (0.0, True)
    """
    low, high = binomial_limits(hits, samples)
    counted = GaussianMass(None, (None, high), "monte_carlo", num_forward=samples, hits=hits, num_samples=samples)
    if low is None:
        note = f"none of {samples:,} plain samples is inside; use splitting"
        return replace(counted, note=note)
    # where all are inside, the error is as large as the interval says
    error = math.sqrt((1 - hits / samples) / hits) or -low / NORMAL
    return replace(counted, log_mass=math.log(hits / samples), interval=(low, high), standard_error=error)


def binomial_limits(hits: int, samples: int) -> tuple[float | None, float]:
    """Logs of the exact 95 % limits of a probability (Clopper and Pearson 1934); no lower one without hits."""
    if samples == 0:
        return None, 0.0
    limits = scipy.stats.binomtest(hits, samples).proportion_ci(CONFIDENCE, method="exact")
    return (math.log(limits.low) if hits else None), math.log(limits.high)


def splitting_estimate(
    repeats: Sequence[Repeat], added: Sequence[Repeat] = (), pilot: tuple[int, int] = (0, 0)
) -> GaussianMass:
    """log of the mean mass of the repeats, with Cox's interval for the mean of a lognormal law.

    The estimate of each repeat is unbiased and close to lognormal. With the mean m and the standard deviation s of R logs, the log
    of their expectation is m + s^2/2 with the standard error sqrt(s^2/R + s^4/(2 (R - 1))), of Student's law with R - 1 degrees
    (Zhou and Gao 1997, who credit Cox). Above s = 1 the largest of few logs decides and this fails: what is left is
    Markov's inequality, a lower limit. What repeats that did not reach the threshold have come to bounds nothing, since their
    particles may have lost the minimum: an upper limit then comes from plain counts, a lower one from Markov's inequality.

    Args:
        repeats: a number of them chosen beforehand; their spread is the error's.
        added: repeats whose number was chosen by that spread. They narrow the interval, but have no say in the spread: pooled, the spread
            would be too small where chance had made it small and nothing was added, and intervals would cover less than they state
            (Stein 1945, two-stage sampling). Where the first ones disagree, the number is always the same, and the spread that of all.
        pilot: hits among plain samples drawn before, and their number.
    """
    together = (*repeats, *added)
    mass = GaussianMass(
        None,
        (None, None),
        "splitting",
        num_forward=sum(repeat.num_forward for repeat in together),
        hits=pilot[0] + sum(repeat.first_hits for repeat in together),
        num_samples=pilot[1] + sum(repeat.num_particles for repeat in together),
        repeats=together,
    )
    masses = [repeat.log_mass for repeat in together if repeat.reason is None]
    log_mean = float(scipy.special.logsumexp(masses)) - math.log(len(together)) if masses else None
    lowest = None if log_mean is None else log_mean - MARKOV
    if len(masses) < len(together):
        return _stuck(mass, lowest)
    assert log_mean is not None
    if (s := spread(together)) > LARGEST_SPREAD:
        note = (
            f"repeats disagree: the standard deviation of their logs is {s:.1f}, the log of their mean "
            f"{log_mean:.2f}; raise num_particles or num_moves"
        )
        return replace(mass, log_mass=log_mean, interval=(lowest, None), note=note)
    counted = repeats if spread(repeats) <= LARGEST_SPREAD else together
    s, degrees = spread(counted), len(counted) - 1
    centre = float(np.mean(masses)) + s**2 / 2
    half = half_width(s, len(together), degrees)
    single = sum(repeat.lineages == 1 for repeat in together)
    note = f"in {single} of {len(together)} repeats all particles descend from one; raise num_particles"
    return replace(
        mass,
        log_mass=log_mean,
        interval=(min(centre - half, log_mean), min(0.0, max(centre + half, log_mean))),
        standard_error=_error(s, len(together), degrees),
        degrees=degrees,
        note=note if single else None,
    )


def spread(repeats: Sequence[Repeat]) -> float:
    """Standard deviation of the logs of repeats."""
    return float(np.std([repeat.log_mass for repeat in repeats], ddof=1))


def half_width(s: float, count: int, degrees: float) -> float:
    """Of Cox's 95 % interval, s the standard deviation with its degrees of freedom, for `count` logs."""
    return _error(s, count, degrees) * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def _error(s: float, count: int, degrees: float) -> float:
    return math.sqrt(s**2 / count + s**4 / (2 * degrees))


def _stuck(mass: GaussianMass, lowest: float | None) -> GaussianMass:
    """What is known where some repeats did not reach the threshold, as an estimate of 0 each."""
    stuck = [repeat for repeat in mass.repeats if repeat.reason is not None]
    note = f"{stuck[0].reason} ({len(stuck)} of {len(mass.repeats)} repeats)"
    if any(repeat.lost for repeat in stuck):
        note += (
            "; the particles have lost the minimum: a chain that starts at the minimum stays below all of them; "
            "raise num_particles, or take a smaller sigma"
        )
        return replace(mass, interval=(lowest, None), note=note)
    assert mass.hits is not None and mass.num_samples is not None
    return replace(mass, interval=(lowest, binomial_limits(mass.hits, mass.num_samples)[1]), note=note)


def moves_effect(short: Sequence[Repeat], long: Sequence[Repeat]) -> tuple[float, float] | None:
    """Difference of the mean log mass with twice the moves, and the p-value of no difference (Welch); None if unknown.

    Repeats that share slow mixing agree with each other; only more moves show it.
    """
    if any(repeat.reason is not None for repeat in (*short, *long)) or min(len(short), len(long)) < 2:
        return None
    few, many = (np.array([repeat.log_mass for repeat in part]) for part in (short, long))
    stated = [(part.mean(), max(part.std(ddof=1), 1e-6), len(part)) for part in (many, few)]  # counts may be equal
    test = scipy.stats.ttest_ind_from_stats(*stated[0], *stated[1], equal_var=False)
    return float(many.mean() - few.mean()), float(test.pvalue)
