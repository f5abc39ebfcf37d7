"""How a Gaussian local volume is estimated: plain samples where the probability allows, else repeats of splitting."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from minima_volume.arguments import check_count, check_seed, is_number
from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.event import Event, draw_into, scores_below
from minima_volume.volume.gaussian.mass import (
    LARGEST_SPREAD,
    NORMAL,
    GaussianMass,
    half_width,
    moves_effect,
    outside,
    plain_estimate,
    splitting_estimate,
    spread,
)
from minima_volume.volume.gaussian.pace import Pace, pace_of
from minima_volume.volume.gaussian.splitting import Repeat, Splitting, splitting

METHODS = ("auto", "monte_carlo", "splitting")
PILOT, PILOT_HITS = 2000, 5  # plain sampling where the pilot has this many hits, that is above a probability of 1/400
# the pilot decides and is not counted: an estimate that counts it only where it has many hits is too large
HITS, MAX_SAMPLES, BLOCK = 100, 100_000, 2000  # so many hits leave +-0.2 nats, as repeats of splitting do
SUSPICIOUS = 0.05  # p-value of the difference between few and many moves
MAX_DOUBLINGS = 3
MORE_REPEATS = 4  # times num_repeats at the most, or
MANY_REPEATS = 32  # where that is less, and twice num_repeats at the least
USUAL_MOVES = 1.5  # of a stage, where a pilot finds how many; its own and those of the check among them
SCOUTS = 20  # particles of the pilot of splitting, half of num_particles where that is more


@dataclass(frozen=True)
class MassSettings:
    """How a Gaussian local volume is estimated.

    Attributes:
        method: `monte_carlo` (plain samples), `splitting`, or `auto`: plain samples where the probability allows.
        num_repeats: R, independent repeats of splitting; half of them with twice the moves. 4 R where they disagree.
        precision: half-width of the interval, in nats, that more repeats (up to 4 R) or plain samples (up to 100,000) are spent on; of splitting 3 % of
            the log mass where that is more.
        splitting: how particles are driven.
        num_samples: of plain Monte Carlo; None: enough for 100 hits and for the precision, at most 100,000.

    Raises:
        ConfigError: a value is not allowed.
    """

    method: str = "auto"
    num_repeats: int = 16
    precision: float = 0.3
    splitting: Splitting = field(default_factory=Splitting)
    num_samples: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"estimator {self.method!r} is not known; allowed: {', '.join(METHODS)}")
        check_count("num_repeats", self.num_repeats, 2)  # fewer have no interval
        if not is_number(self.precision) or not self.precision > 0:
            raise ConfigError(f"precision {self.precision!r} is not allowed: it must be a positive number of nats")
        if self.num_samples is not None:
            check_count("num_samples", self.num_samples, 1)

    def samples(self, share: float) -> int:
        """Plain samples for an event of about this probability: a frequency with so many hits has a half-width of NORMAL / sqrt(hits) at most."""
        hits = max(HITS, min(MAX_SAMPLES, NORMAL / self.precision) ** 2)
        return max(PILOT, math.ceil(min(MAX_SAMPLES, hits / share)))

    def passes(self, log_mass: float) -> float:
        """About how many parameter vectors an estimate of a log mass by splitting evaluates."""
        how = self.splitting
        moves = USUAL_MOVES if how.num_moves is None else 1.5 * how.num_moves
        return PILOT + self.num_repeats * how.num_particles * (1 + how.stages_to(log_mass) * moves)


@dataclass(frozen=True)
class Start:
    """Work: look at the minimum itself; None if it is inside, else its loss or accuracy."""


@dataclass(frozen=True)
class Plain:
    """Work: count the hits among plain samples."""

    seed: int
    count: int


@dataclass(frozen=True)
class Split:
    """Work: repeats of splitting, at a pace if one is known."""

    seeds: tuple[int, ...]
    how: Splitting
    pace: Pace | None = None


Job = Start | Plain | Split
Result = float | None | int | list[Repeat]
Plan = Generator[list[Job], Sequence[Result], GaussianMass]
OnProgress = Callable[[float, str], None]  # the share that is done, 0 to 1, and a few words on what is being done


def _silent(share: float, text: str) -> None:
    """Progress is not shown."""


def gaussian_mass(
    event: Event, seed: int, settings: MassSettings | None = None, on_progress: OnProgress = _silent
) -> GaussianMass:
    """Estimate log P[score(z) <= threshold], z standard normal.

    Args:
        event: a minimum in one landscape, at one sigma and one threshold.
        seed: of all that is drawn.
        settings: how.
        on_progress: called as it goes on; the share may fall when repeats are added.
    """
    plan, planned, finished = mass_plan(seed, settings or MassSettings()), 0, 0
    jobs = next(plan)
    while True:
        planned += sum(map(repeats_of, jobs))
        results = []
        for i, job in enumerate(jobs):
            if isinstance(job, Plain):
                on_progress(i / len(jobs), f"plain samples, {i + 1} of {len(jobs)} blocks")
            results.append(do_job(event, job, _numbered(on_progress, finished, planned)))
            finished += repeats_of(job)
        try:
            jobs = plan.send(results)
        except StopIteration as stop:
            return stop.value


def repeats_of(job: Job) -> int:
    """How many repeats of splitting a piece of work is."""
    return len(job.seeds) if isinstance(job, Split) else 0


def _numbered(on_progress: OnProgress, finished: int, planned: int) -> Callable[[int, float], None]:
    """What splitting tells, with the number of the repeat among all."""

    def told(done: int, reached: float) -> None:
        number = min(finished + done + 1, planned)
        on_progress((number - 1) / planned, f"repeat {number} of {planned}, log mass {reached:.1f}")

    return told


def do_job(event: Event, job: Job, on_stage: Callable[[int, float], None] = lambda done, reached: None) -> Result:
    """Do one piece of work; the result depends on the event and the job alone. `on_stage` as of `splitting`."""
    if isinstance(job, Start):
        return event.outside()
    if isinstance(job, Split):
        return splitting(event, job.seeds, job.how, on_stage, job.pace)
    generator, hits = event.generator(job.seed), 0
    z = event.empty(min(event.chunk, job.count))
    for start in range(0, job.count, len(z)):
        part = draw_into(event, z[: min(len(z), job.count - start)], generator)
        limits = np.full(len(part), event.threshold)
        hits += int((scores_below(event, part, limits) <= event.threshold).sum())
    return hits


def mass_plan(seed: int, settings: MassSettings) -> Plan:
    """The estimate as a conversation: yields jobs, which may be done anywhere, and is sent their results in order."""
    seeds = seeds_from(seed)
    (start,) = yield [Start()]
    if start is not None:
        assert isinstance(start, float)
        return outside(start)
    pilot = (0, 0)
    if settings.method != "splitting":
        samples = settings.num_samples
        if samples is None:
            (inside,) = yield [Plain(next(seeds), PILOT)]
            assert isinstance(inside, int)
            pilot = inside, PILOT
            if inside >= PILOT_HITS or settings.method == "monte_carlo":
                samples = settings.samples(max(inside, 1) / PILOT)
        if samples is not None:
            counts = [min(BLOCK, samples - start) for start in range(0, samples, BLOCK)]
            found = yield [Plain(next(seeds), count) for count in counts]
            hits = sum(part for part in found if isinstance(part, int))
            return replace(plain_estimate(hits, samples), num_forward=pilot[1] + samples)
    mass = yield from _splitting_plan(seeds, settings, pilot)
    return replace(mass, num_forward=pilot[1] + mass.num_forward)


@dataclass(frozen=True)
class _Driven:
    """How the repeats of one estimate are driven: by a stated number of moves, or at the pace that a pilot found."""

    how: Splitting
    pace: Pace | None

    def job(self, seeds: Iterator[int], count: int, factor: int) -> Split:
        """Repeats with so many times the moves."""
        how, few = self.how, self.how.num_moves
        if few is not None:
            how = replace(how, num_moves=factor * few)
        return Split(tuple(islice(seeds, count)), how, None if self.pace is None else self.pace.times(factor))

    @property
    def most(self) -> int:
        """The most moves between two stages."""
        return max(self.pace.moves) if self.pace is not None else self.how.num_moves or 0


def _splitting_plan(seeds: Iterator[int], settings: MassSettings, pilot: tuple[int, int]) -> Plan:
    """A part of the repeats with twice the moves; where that changes the answer, more moves; then as many repeats as it takes."""
    how, spent, paced = settings.splitting, list[Repeat](), settings.splitting.num_moves is None
    driven = _Driven(how, None)
    if paced:
        small = replace(how, num_particles=max(SCOUTS, how.num_particles // 2))
        (spent,) = _repeats((yield [Split((next(seeds),), small)]))
        driven = _Driven(how, pace_of(spent[0].stages, spent[0].reason is None))
    check, factor = checked(settings), 2
    most = settings.num_repeats - check
    short, long = _repeats((yield [driven.job(seeds, most, 1), driven.job(seeds, check, factor)]))
    spent += [*short, *long]
    effect = moves_effect(short, long)
    for _ in range(MAX_DOUBLINGS):
        if not suspicious(effect):
            break
        if paced:  # a few may differ by chance: as many with twice the moves tell
            (more,) = _repeats((yield [driven.job(seeds, most, factor)]))
            long, spent = [*long, *more], [*spent, *more]
            effect = moves_effect(short, long)
            if not suspicious(effect):
                break
        factor *= 2
        short, (long,) = long, _repeats((yield [driven.job(seeds, check, factor)]))
        spent += long
        effect = moves_effect(short, long)
    added: list[Repeat] = []
    if count := more_repeats([*short, *long], settings):
        (added,) = _repeats((yield [driven.job(seeds, count, factor // 2 if paced else factor)]))
        spent += added
    mass = splitting_estimate([*short, *long], added, pilot)
    moves, notes = factor * driven.most, [mass.note]
    if effect is not None and suspicious(effect):
        notes.append(f"more moves still change it, by {effect[0]:+.2f} with {moves} moves a stage: raise num_moves")
    return replace(
        mass,
        num_forward=sum(repeat.num_forward for repeat in spent),
        num_moves=moves,
        moves_effect=effect,
        note="; ".join(filter(None, notes)) or None,
    )


def checked(settings: MassSettings) -> int:
    """How many repeats make twice the moves: half of them where a number of moves was given, a fifth where a pilot found it."""
    count = settings.num_repeats
    return count - count // 2 if settings.splitting.num_moves is not None else min(count // 2, max(2, count // 5))


def suspicious(effect: tuple[float, float] | None) -> bool:
    """Whether more moves change the answer."""
    return effect is not None and effect[1] <= SUSPICIOUS


def seeds_from(seed: int) -> Iterator[int]:
    """As many seeds as are needed, of 63 bits.

    Raises:
        ConfigError: the seed is not allowed.
    """
    stream = np.random.PCG64(check_seed(seed))
    while True:
        yield int(stream.random_raw()) >> 1


def _repeats(results: Sequence[Result]) -> list[list[Repeat]]:
    return [result for result in results if isinstance(result, list)]


def more_repeats(repeats: Sequence[Repeat], settings: MassSettings) -> int:
    """Repeats to add so that the interval has the half-width asked for (Stein 1945, two-stage sampling); the most where they disagree."""
    estimate, first = splitting_estimate(repeats), len(repeats)
    most = max(2 * settings.num_repeats, min(MORE_REPEATS * settings.num_repeats, MANY_REPEATS))
    if estimate.log_mass is None:
        return 0
    if disagreeing(repeats):
        return max(0, most - first)
    wanted, s = max(settings.precision, 0.03 * abs(estimate.log_mass)), spread(repeats)
    enough = (count for count in range(first, most) if half_width(s, count, first - 1) <= wanted)
    return next(enough, max(first, most)) - first


def disagreeing(repeats: Sequence[Repeat]) -> bool:
    """Whether repeats agree too little to be believed without more of them, or one of them rests on a single first particle."""
    return spread(repeats) > LARGEST_SPREAD or any(repeat.lineages == 1 for repeat in repeats)
