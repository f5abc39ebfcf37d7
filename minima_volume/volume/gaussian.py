"""The Gaussian local volume: how likely a random perturbation of size sigma leaves a model in its minimum."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from minima_volume.errors import ConfigError
from minima_volume.volume.splitting import Repeat, Splitting, splitting
from minima_volume.volume.target import Event

METHODS = ("auto", "monte_carlo", "splitting")
CONFIDENCE = 0.95
PILOT, PILOT_HITS = 2000, 5  # plain sampling where the pilot has this many hits, that is above a probability of 1/400
HITS, MAX_SAMPLES, BLOCK = 200, 100_000, 2000
SUSPICIOUS = 0.05  # p-value of the difference between few and many moves
MAX_DOUBLINGS = 3
MORE_REPEATS = 4


@dataclass(frozen=True)
class MassSettings:
    """How a Gaussian local volume is estimated.

    Attributes:
        method: `monte_carlo` (plain samples), `splitting`, or `auto`: plain samples where the probability allows.
        num_repeats: R, independent repeats of splitting; half of them with twice the moves.
        precision: half-width of the interval, in nats, that more repeats (up to 4 R) are spent on; 3 % of the log mass where that is more.
        splitting: how particles are driven.
        num_samples: of plain Monte Carlo; None: enough for 200 hits, at most 100,000.

    Raises:
        ConfigError: a value is not allowed.
    """

    method: str = "auto"
    num_repeats: int = 8
    precision: float = 0.3
    splitting: Splitting = field(default_factory=Splitting)
    num_samples: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"estimator {self.method!r} is not known; allowed: {', '.join(METHODS)}")
        if self.num_repeats < 2:
            raise ConfigError(f"num_repeats {self.num_repeats} is not allowed: an interval needs at least 2")
        if not self.precision > 0:
            raise ConfigError(f"precision {self.precision} is not allowed: it must be a positive number of nats")
        if self.num_samples is not None and self.num_samples < 1:
            raise ConfigError(f"num_samples {self.num_samples} is not allowed: it must be at least 1")


@dataclass(frozen=True)
class Plain:
    """Work: count the hits among plain samples."""

    seed: int
    count: int


@dataclass(frozen=True)
class Split:
    """Work: repeats of splitting."""

    seeds: tuple[int, ...]
    how: Splitting


Job = Plain | Split
Result = int | list[Repeat]


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
        margin = f"{low:.2f}" if low is not None else "-inf"
        text = f"measured: {self.log_mass:.2f}, 95 % interval {margin} to {high:.2f}"
        return f"{text}; {self.note}" if self.note else text


def outside(start: float) -> GaussianMass:
    """The answer for a model that is no member of the minimum itself."""
    note = f"the minimum itself is outside: its value at coefficient 0 is {start:.6g}; train longer or choose another threshold"
    return GaussianMass(None, (None, None), None, note=note)


def gaussian_mass(
    event: Event,
    seed: int,
    settings: MassSettings | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> GaussianMass:
    """Estimate log P[score(z) <= threshold], z standard normal.

    Args:
        event: a minimum in one landscape, at one sigma and one threshold.
        seed: of all that is drawn.
        settings: how.
        on_progress: called with a few words on how far it has come.
    """
    plan = mass_plan(seed, settings or MassSettings())
    jobs = next(plan)
    while True:
        try:
            jobs = plan.send([do_job(event, job, on_progress) for job in jobs])
        except StopIteration as stop:
            return stop.value


def do_job(event: Event, job: Job, on_progress: Callable[[str], None] = lambda text: None) -> Result:
    """Do one piece of work; the result depends on the event and the job alone."""
    if isinstance(job, Split):
        return splitting(
            event, job.seeds, job.how, lambda log_mass: on_progress(f"splitting, log mass < {log_mass:.1f}")
        )
    generator, hits = event.generator(job.seed), 0
    z = event.empty(min(event.chunk, job.count))
    for start in range(0, job.count, len(z)):
        part = z[: min(len(z), job.count - start)].normal_(generator=generator)
        hits += int((event.scores(part) <= event.threshold).sum())
    on_progress("plain samples")
    return hits


def mass_plan(seed: int, settings: MassSettings) -> Generator[list[Job], list[Result], GaussianMass]:
    """The estimate as a conversation: yields jobs, which may be done anywhere, and is sent their results in order."""
    seeds = iter(np.random.SeedSequence(seed).generate_state(4096, np.uint64) >> np.uint64(1))

    def fresh() -> int:
        return int(next(seeds))

    spent = 0
    if settings.method != "splitting":
        samples = settings.num_samples
        if samples is None:
            (pilot,) = yield [Plain(fresh(), PILOT)]
            assert isinstance(pilot, int)
            spent = PILOT
            if pilot >= PILOT_HITS or settings.method == "monte_carlo":
                samples = min(MAX_SAMPLES, math.ceil(HITS * PILOT / max(pilot, 1)))
        if samples is not None:
            counts = [min(BLOCK, samples - start) for start in range(0, samples, BLOCK)]
            found = yield [Plain(fresh(), count) for count in counts]
            hits = sum(part for part in found if isinstance(part, int))
            return replace(plain_estimate(hits, samples), num_forward=spent + samples)
    few = settings.num_repeats // 2
    how = settings.splitting
    twice = replace(how, num_moves=2 * how.num_moves)
    short = _repeats((yield [Split((fresh(),), how) for _ in range(few)]))
    long = _repeats((yield [Split((fresh(),), twice) for _ in range(settings.num_repeats - few)]))
    spent += sum(repeat.num_forward for repeat in (*short, *long))
    for _ in range(MAX_DOUBLINGS):
        effect = moves_effect(short, long)
        if effect is None or effect[1] > SUSPICIOUS:
            break
        short, twice = long, replace(twice, num_moves=2 * twice.num_moves)
        long = _repeats((yield [Split((fresh(),), twice) for _ in range(len(long))]))
        spent += sum(repeat.num_forward for repeat in long)
    effect = moves_effect(short, long)
    more = more_repeats([*short, *long], settings)
    if more:
        long += _repeats((yield [Split((fresh(),), twice) for _ in range(more)]))
        spent += sum(repeat.num_forward for repeat in long[-more:])
    found_mass = splitting_estimate([*short, *long])
    note = found_mass.note
    if note is None and effect is not None and effect[1] <= SUSPICIOUS:
        note = f"more moves still change it, by {effect[0]:+.2f} at {twice.num_moves} moves a stage: raise num_moves"
    return replace(found_mass, num_forward=spent, num_moves=twice.num_moves, moves_effect=effect, note=note)


def _repeats(results: Sequence[Result]) -> list[Repeat]:
    return [repeat for result in results if isinstance(result, list) for repeat in result]


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
    return replace(
        counted,
        log_mass=log_mass,
        interval=(low, high),
        standard_error=math.sqrt((1 - hits / samples) / hits),
    )


def splitting_estimate(repeats: Sequence[Repeat]) -> GaussianMass:
    """log of the mean mass of the repeats, with Student's t interval over their logs."""
    logs = np.array([repeat.log_mass for repeat in repeats])
    mean = float(scipy.special.logsumexp(logs) - math.log(len(logs)))
    forward = sum(repeat.num_forward for repeat in repeats)
    reasons = [repeat.reason for repeat in repeats if repeat.reason is not None]
    if reasons:
        note = f"{reasons[0]} ({len(reasons)} of {len(repeats)} repeats)"
        return GaussianMass(
            None, (None, float(logs.max())), "splitting", num_forward=forward, repeats=tuple(repeats), note=note
        )
    error, degrees = float(logs.std(ddof=1)) / math.sqrt(len(logs)), len(logs) - 1
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
    if few.std() == 0 and many.std() == 0:
        return float(many.mean() - few.mean()), 1.0
    test = scipy.stats.ttest_ind(many, few, equal_var=False)
    return float(many.mean() - few.mean()), float(test.pvalue)


def more_repeats(repeats: Sequence[Repeat], settings: MassSettings) -> int:
    """Repeats to add so that the interval has the half-width asked for (Stein 1945, two-stage sampling)."""
    estimate = splitting_estimate(repeats)
    if estimate.log_mass is None or estimate.interval[0] is None:
        return 0
    wanted = max(settings.precision, 0.03 * abs(estimate.log_mass))
    half = estimate.log_mass - estimate.interval[0]
    needed = math.ceil(len(repeats) * (half / wanted) ** 2)
    return max(0, min(needed, MORE_REPEATS * settings.num_repeats) - len(repeats))


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
        return {"difference": difference, "interval": [difference, difference], "probability": float(difference > 0)}
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
