"""Multilevel splitting: the probability of a rare event, as a product of conditional probabilities that are not rare.

Sources: Au and Beck 2001, "Estimation of small failure probabilities in high dimensions by subset simulation"; Cotter, Roberts,
Stuart and White 2013, "MCMC methods for functions" (pCN moves); Cerou and Guyader 2007, "Adaptive multilevel splitting for rare
event analysis" (the particle that sets a stage is not counted as inside, which makes the estimate of the probability unbiased).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from minima_volume.arguments import check_count
from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.event import Event, bytes_beside, scores_below
from minima_volume.volume.gaussian.moves import CHAIN_MOVES, FIRST_STEP, propose, stays_below
from minima_volume.volume.gaussian.pace import Counted, Drive, Pilot, SplittingStage

KEEP_PACED, KEEP_STATED = 0.5, 0.25
DEEPEST = -200 * math.log(4)  # log mass


@dataclass(frozen=True)
class Splitting:
    """How the particles are driven.

    Attributes:
        num_particles: of one repeat.
        keep: p0, the fraction of particles that a stage keeps; None: a half at the pace of a pilot, a quarter with a stated number of moves.
        num_moves: pCN moves between two stages, up to four times as many while particles have hardly moved; None: as many as a
            pilot finds, see `pace`.
        max_stages: where a repeat gives up; None: at a log mass of about -277.
        memory: bytes for the particles.

    Raises:
        ConfigError: a value is not allowed.
    """

    num_particles: int = 250
    keep: float | None = None
    num_moves: int | None = None
    max_stages: int | None = None
    memory: float = 2.0 * 2**30

    def __post_init__(self) -> None:
        if not 0.05 <= self.kept <= 0.9:
            raise ConfigError(f"keep {self.keep} is not allowed: it must be 0.05 to 0.9")
        for name, value, smallest in (
            ("num_particles", self.num_particles, 20),
            ("num_moves", 1 if self.num_moves is None else self.num_moves, 1),
            ("max_stages", self.stages, 1),
        ):
            check_count(name, value, smallest)

    @property
    def kept(self) -> float:
        """`keep`, or what stands for None: of halves, one move between two stages is often enough, of quarters two to four."""
        return self.keep if self.keep is not None else KEEP_PACED if self.num_moves is None else KEEP_STATED

    @property
    def stages(self) -> int:
        """`max_stages`, or what stands for None."""
        return self.max_stages if self.max_stages is not None else round(self.stages_to(DEEPEST))

    def stages_to(self, log_mass: float) -> float:
        """About how many stages it takes."""
        return log_mass / math.log(self.kept)

    @property
    def drive(self) -> Drive:
        """How particles are moved where no pace is given."""
        return Pilot() if self.num_moves is None else Counted(self.num_moves)


@dataclass(frozen=True)
class Repeat:
    """One independent run of splitting.

    Attributes:
        seed: of its particles.
        log_mass: log of the estimated probability; where a `reason` is given, how far the particles came, which bounds nothing.
        stages: in order.
        lineages: particles of the start from which those of the end descend.
        num_forward: parameter vectors evaluated.
        reason: why the threshold was not reached, or None.
        num_particles, first_hits: particles, and how many were inside when they were drawn, as plain samples.
        lost: the threshold was not reached although a chain from the minimum itself stays below the particles, see `stays_below`.
    """

    seed: int
    log_mass: float
    stages: tuple[SplittingStage, ...]
    lineages: int
    num_forward: int
    reason: str | None = None
    num_particles: int = 0
    first_hits: int = 0
    lost: bool = False


class _Cloud:
    """The particles of one repeat, moved in place."""

    def __init__(self, event: Event, z: Tensor, seed: int) -> None:
        self.event, self.seed, self.z = event, seed, z
        self.generator, self.random = event.generator(seed), np.random.default_rng(seed)
        self.scores = np.full(len(z), np.inf)
        self.ancestors = np.arange(len(z))
        self.step, self.log_mass, self.num_forward, self.first_hits = FIRST_STEP, 0.0, 0, 0
        self.stages: list[SplittingStage] = []
        self.result: Repeat | None = None
        self.limit = np.inf

    def propose(self, part: slice, out: Tensor) -> None:
        # the first particles are counted as plain samples, so they share nothing
        random = self.random if self.stages else None
        propose(self.event, self.z[part], self.step, self.generator, out, random)

    def accept(self, part: slice, proposals: Tensor, scores: np.ndarray) -> int:
        """Take over the proposals that stay below the stage."""
        taken = np.flatnonzero(scores < self.limit)
        self.num_forward += len(scores)
        if len(taken):
            rows = torch.from_numpy(taken).to(proposals.device)
            self.z[part].index_copy_(0, rows, proposals.index_select(0, rows))
            self.scores[part.start + taken] = scores[taken]
        return len(taken)

    def select(self, keep: float) -> bool:
        """Start the next stage: replace the particles that are not below it by copies of those that are."""
        score = next_stage(self.scores, keep)
        if score is None:
            return False
        below = self.scores < score
        survivors, dropped = np.flatnonzero(below), np.flatnonzero(~below)
        self.log_mass += math.log(len(survivors) / len(below))
        # each survivor gets as many copies as any other, give or take one
        order = self.random.permutation(survivors)
        parents = np.resize(order, len(dropped))
        for child, parent in zip(dropped.tolist(), parents.tolist(), strict=True):
            self.z[child] = self.z[parent]
        self.scores[dropped], self.ancestors[dropped] = self.scores[parents], self.ancestors[parents]
        self.limit = score
        self.stages.append(
            SplittingStage(
                score if math.isfinite(score) else None, len(survivors) / len(below), 0, 0.0, self.step, 0.0, None
            )
        )
        return True

    def finish(self, hits: int, reason: str | None) -> None:
        count = len(self.scores)
        log_mass = self.log_mass + (math.log(hits / count) if hits else 0.0)
        self.result = Repeat(
            self.seed,
            log_mass,
            tuple(self.stages),
            len(np.unique(self.ancestors)),
            self.num_forward,
            None if hits else reason,
            count,
            self.first_hits,
        )


def next_stage(scores: np.ndarray, keep: float) -> float | None:
    """The score that a fraction `keep` of the particles is below; None if all are equal.

    >>> next_stage(np.arange(8.0), 0.25), next_stage(np.array([1.0, 1.0, 1.0, 2.0]), 0.25), next_stage(np.ones(4), 0.25)
    (2.0, 2.0, None)
    """
    ordered = np.sort(scores)
    score = ordered[round(keep * len(ordered))]
    if score > ordered[0]:
        return float(score)
    above = ordered[ordered > score]  # many tie at the smallest: keep all of these
    return float(above[0]) if len(above) else None


def splitting(
    event: Event,
    seeds: Sequence[int],
    how: Splitting,
    on_stage: Callable[[int, float], None] = lambda done, log_mass: None,
    drive: Drive | None = None,
) -> list[Repeat]:
    """Estimate log P[score(z) <= threshold], z standard normal, once for each seed.

    Repeats run side by side where that fills a chunk of the event; what a repeat finds depends on its own seed alone.

    Args:
        event: scores particles.
        seeds: of the repeats.
        how: settings.
        on_stage: called after each stage with the repeats that are finished and the log mass that the deepest of the others has reached.
        drive: how particles are moved; by default as `how` says.

    Raises:
        ConfigError: the particles of one repeat need more than the memory budget.
    """
    drive = drive or how.drive
    beside = require_room(event, how)
    count, each = how.num_particles, event.bytes_per_particle
    together = int(max(1, min(event.chunk // count, (how.memory - beside) // (count * each))))
    repeats: list[Repeat] = []
    for start in range(0, len(seeds), together):
        group = seeds[start : start + together]
        z = event.empty(len(group) * count).zero_()
        scratch = event.empty(min(event.chunk, len(z)))
        clouds = [_Cloud(event, part, seed) for part, seed in zip(z.split(count), group, strict=True)]
        for cloud in clouds:
            cloud.step = 1.0  # independent of where they are: the first particles
        _move(event, clouds, scratch)
        for cloud in clouds:
            cloud.step, cloud.first_hits = FIRST_STEP, int((cloud.scores <= event.threshold).sum())
        while active := [cloud for cloud in clouds if not _finished(event, cloud, how)]:
            _stage(event, active, drive, scratch)
            finished = len(repeats) + len(clouds) - len(active)
            on_stage(finished, min(cloud.log_mass for cloud in active))
        repeats += [_diagnosed(event, cloud, cloud.result) for cloud in clouds if cloud.result is not None]
    return repeats


def require_room(event: Event, how: Splitting) -> int:
    """Bytes that splitting takes beside its particles, if one repeat fits into the budget.

    Raises:
        ConfigError: it does not.
    """
    count, each = how.num_particles, event.bytes_per_particle
    beside = bytes_beside(event, count)
    if (needed := count * each + beside) > how.memory:
        unit, name = (2**30, "GiB") if needed >= 2**29 else (2**20, "MiB")
        raise ConfigError(
            f"num_particles {count}: one repeat needs {needed / unit:.2f} {name} for particles of {event.dim:,} numbers and the network, the "
            f"budget is {how.memory / unit:.2f} {name}; lower num_particles or raise memory_gib"
        )
    return beside


def _diagnosed(event: Event, cloud: _Cloud, repeat: Repeat) -> Repeat:
    """Where the particles are stuck below some stage: whether they lost the minimum."""
    if repeat.reason is None or not repeat.stages:
        return repeat
    lost = stays_below(event, float(cloud.scores.min()), cloud.limit, cloud.seed)
    return replace(repeat, lost=lost, num_forward=repeat.num_forward + CHAIN_MOVES)


def _finished(event: Event, cloud: _Cloud, how: Splitting) -> bool:
    """Close the repeat where the threshold is reached or cannot be, else start its next stage."""
    if cloud.result is not None:
        return True
    hits = int((cloud.scores <= event.threshold).sum())
    if hits >= how.kept * len(cloud.scores):
        cloud.finish(hits, None)
    elif len(cloud.stages) >= how.stages:
        cloud.finish(hits, f"not reached in {how.stages} stages")
    elif not cloud.select(how.kept):
        cloud.finish(hits, f"all particles have the score {cloud.scores[0]:.6g}, so there is no next stage")
    return cloud.result is not None


def _stage(event: Event, clouds: Sequence[_Cloud], drive: Drive, scratch: Tensor) -> None:
    """Move the particles of each cloud below its stage until that is enough."""
    before = {cloud: cloud.scores.copy() for cloud in clouds}
    for cloud in clouds:
        cloud.step = drive.first_step(len(cloud.stages) - 1, cloud.step)
    moving = list(clouds)
    while moving:
        rates = _move(event, moving, scratch)
        for cloud, rate in zip(moving, rates, strict=True):
            stage, moves = cloud.stages[-1], cloud.stages[-1].num_moves + 1
            cloud.stages[-1] = replace(
                stage,
                num_moves=moves,
                acceptance=stage.acceptance + (rate - stage.acceptance) / moves,
                step=cloud.step,
                jump=stage.jump + rate * (1 - math.sqrt(1 - cloud.step**2)),
            )
            cloud.step = drive.next_step(len(cloud.stages) - 1, cloud.step, rate)
        moving = [
            cloud
            for cloud in moving
            if not drive.enough(
                len(cloud.stages) - 1, cloud.stages[-1], partial(_correlation, before[cloud], cloud.scores)
            )
        ]
    for cloud in clouds:
        cloud.stages[-1] = replace(cloud.stages[-1], correlation=_correlation(before[cloud], cloud.scores))


def _move(event: Event, clouds: Sequence[_Cloud], scratch: Tensor) -> list[float]:
    """Propose and accept once for every particle; the fraction accepted in each cloud."""
    accepted = dict.fromkeys(clouds, 0)
    for batch in _batches(clouds, len(scratch)):
        for cloud, part, place in batch:
            cloud.propose(part, scratch[place])
        limits = np.concatenate([np.full(place.stop - place.start, cloud.limit) for cloud, _, place in batch])
        scores = scores_below(event, scratch[: len(limits)], limits)
        for cloud, part, place in batch:
            accepted[cloud] += cloud.accept(part, scratch[place], scores[place])
    return [accepted[cloud] / len(cloud.scores) for cloud in clouds]


def _batches(clouds: Sequence[_Cloud], room: int) -> Iterator[list[tuple[_Cloud, slice, slice]]]:
    """Parts of clouds, and their places in a scratch of `room` rows; how a cloud is cut does not depend on the others."""
    batch: list[tuple[_Cloud, slice, slice]] = []
    used = 0
    for cloud in clouds:
        for start in range(0, len(cloud.scores), room):
            part = slice(start, min(start + room, len(cloud.scores)))
            rows = part.stop - part.start
            if used + rows > room:
                yield batch
                batch, used = [], 0
            batch.append((cloud, part, slice(used, used + rows)))
            used += rows
    yield batch


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    largest = max(np.abs(a).max(), np.abs(b).max(), np.finfo(float).tiny)
    a, b = a / largest, b / largest  # squares of losses far out may overflow
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
