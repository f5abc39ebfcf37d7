"""The Gaussian local volume: how likely a random perturbation of size sigma leaves a model in its minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import scipy

from minima_volume.volume.crossings import Condition
from minima_volume.volume.splitting import Repeat

CONFIDENCE = 0.95


@dataclass(frozen=True)
class GaussianMass:
    """log P[L(theta* + sigma F z) <= threshold], z standard normal, with what is needed to judge it.

    Attributes:
        log_mass: the estimate, nats; None where undefined or only bounded, see `note`.
        interval: 95 % interval; a side is None where nothing bounds it.
        method: monte_carlo or splitting; None where nothing was measured.
        standard_error, degrees: of the log mass, with the degrees of freedom of its t law (None: normal).
        num_forward: parameter vectors evaluated.
        hits, num_samples: of plain Monte Carlo.
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
    def verdict(self) -> str:
        """How far to trust it, in words."""
        low, high = self.interval
        if self.log_mass is None:
            return f"log mass < {high:.1f}: {self.note}" if high is not None else f"undefined: {self.note}"
        mean, low, high = (
            None if value is None else round(value, 2) + 0.0 for value in (self.log_mass, low, high)
        )  # no -0.00
        margin = f"{low:.2f}" if low is not None else "-inf"
        text = f"measured: {mean:.2f}, 95 % interval {margin} to {high:.2f}"
        return f"{text}; {self.note}" if self.note else text


Mass = TypeVar("Mass", bound=GaussianMass)


def noted(mass: Mass, text: str | None) -> Mass:
    """The same with one more thing that a reader must know."""
    return replace(mass, note="; ".join(filter(None, (mass.note, text)))) if text else mass


def outside(start: float) -> GaussianMass:
    """The answer for a model that is no member of the minimum itself."""
    return GaussianMass(None, (None, None), None, note=Condition.outside_note(start))


def plain_estimate(hits: int, samples: int) -> GaussianMass:
    """log of a frequency with its Clopper-Pearson interval.

    >>> plain_estimate(100, 100).log_mass, plain_estimate(0, 1000).interval[1] < -5
    (0.0, True)
    """
    limits = scipy.stats.binomtest(hits, samples).proportion_ci(CONFIDENCE, method="exact")
    high = math.log(limits.high)
    counted = GaussianMass(None, (None, high), "monte_carlo", num_forward=samples, hits=hits, num_samples=samples)
    if hits == 0:
        note = f"none of {samples:,} plain samples is inside; use splitting"
        return replace(counted, note=note)
    log_mass, low = math.log(hits / samples), math.log(limits.low)
    # where all are inside, the error is as large as the interval says
    error = math.sqrt((1 - hits / samples) / hits) or -low / float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2))
    return replace(counted, log_mass=log_mass, interval=(low, high), standard_error=error)


def splitting_estimate(repeats: Sequence[Repeat], added: Sequence[Repeat] = ()) -> GaussianMass:
    """log of the mean mass of the repeats, with Student's t interval over their logs.

    Args:
        repeats: a number of them chosen beforehand; their spread is the error's.
        added: repeats whose number was chosen by that spread. They narrow the interval, but have no say in the spread: pooled, the spread
            would be too small where chance had made it small and nothing was added, and intervals would cover less than they state
            (Stein 1945, two-stage sampling).
    """
    first, repeats = len(repeats), [*repeats, *added]
    logs = np.array([repeat.log_mass for repeat in repeats])
    mean = float(scipy.special.logsumexp(logs) - math.log(len(logs)))
    forward = sum(repeat.num_forward for repeat in repeats)
    reasons = [repeat.reason for repeat in repeats if repeat.reason is not None]
    if reasons:
        note = f"{reasons[0]} ({len(reasons)} of {len(repeats)} repeats)"
        high: float | None = float(logs.max())
        if len(reasons) == len(repeats) and not any(
            repeat.stages for repeat in repeats
        ):  # plain samples, none of them inside
            high = plain_estimate(0, forward).interval[1]
        return GaussianMass(None, (None, high), "splitting", num_forward=forward, repeats=tuple(repeats), note=note)
    error, degrees = float(logs[:first].std(ddof=1)) / math.sqrt(len(logs)), first - 1
    half = error * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
    return GaussianMass(
        mean,
        (mean - half, min(0.0, mean + half)),
        "splitting",
        standard_error=error,
        degrees=degrees,
        num_forward=forward,
        repeats=tuple(repeats),
    )


def moves_effect(short: Sequence[Repeat], long: Sequence[Repeat]) -> tuple[float, float] | None:
    """Difference of the mean log mass with twice the moves, and the p-value of no difference (Welch); None where unknown.

    Repeats that share slow mixing agree with each other; only more moves show it.
    """
    if any(repeat.reason is not None for repeat in (*short, *long)) or min(len(short), len(long)) < 2:
        return None
    few, many = (np.array([repeat.log_mass for repeat in part]) for part in (short, long))
    stated = [(part.mean(), max(part.std(ddof=1), 1e-6), len(part)) for part in (many, few)]  # counts may be equal
    test = scipy.stats.ttest_ind_from_stats(*stated[0], *stated[1], equal_var=False)
    return float(many.mean() - few.mean()), float(test.pvalue)


def compare_masses(a: GaussianMass, b: GaussianMass) -> dict[str, float | list[float] | None]:
    """log mass of a minus that of b: difference, 95 % interval, probability that a is larger (Welch's t).

    Estimates of different minima are independent apart from shared random numbers, which only make this cautious.
    """
    if a.log_mass is None or b.log_mass is None or a.standard_error is None or b.standard_error is None:
        return {"difference": None, "interval": None, "probability": None}
    difference = a.log_mass - b.log_mass
    parts = [(part.standard_error or 0.0) ** 2 for part in (a, b)]
    total = sum(parts)
    if total == 0:
        probability = 0.5 + 0.5 * float(np.sign(difference))
        return {"difference": difference, "interval": [difference, difference], "probability": probability}
    weights = sum(
        part**2 / (math.inf if estimate.degrees is None else estimate.degrees)
        for part, estimate in zip(parts, (a, b), strict=True)
    )
    law = scipy.stats.t(total**2 / weights) if weights > 0 else scipy.stats.norm()
    half = math.sqrt(total) * float(law.ppf((1 + CONFIDENCE) / 2))
    return {
        "difference": difference,
        "interval": [difference - half, difference + half],
        "probability": float(law.cdf(difference / math.sqrt(total))),
    }
