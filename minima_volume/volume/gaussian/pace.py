"""How often particles are moved between two stages, and how far: by a fixed number, or by a pace that a pilot has found.

The mean of estimates is the truth for any moves and steps that are fixed beforehand. So a pilot repeat, which is not counted, finds for each
stage the step that accepts 35 % of its proposals and the fewest moves after which scores have begun to forget what they were:
there the error per evaluation is smallest. More particles and more stages are better spent than more moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from minima_volume.volume.gaussian.moves import tuned

ENOUGH_JUMP = 0.05  # mean squared distance of a stage's moves, where independent particles have 1
MORE_MOVES = 4  # a stage that jumps less is moved up to this many times as often
FORGOTTEN = 0.75  # correlation of scores before and after the moves of a stage
ACCEPTED = 0.35
FEWEST, MOST = 3, 80  # moves of a stage of a pilot: b must have time to settle
LEAST, SLACK = 0.02, 0.25  # of a correlation that noise may make negative; of a move


@dataclass(frozen=True)
class SplittingStage:
    """One intermediate score, and the moves after it.

    Attributes:
        score: particles at or above it were dropped; None if it is infinite.
        fraction: of the particles below it.
        num_moves, acceptance: moves, and the mean fraction accepted.
        step: b of the last move.
        jump: mean squared distance of all moves, in units in which independent particles have 1.
        correlation: of the particles' scores before and after the moves; None if undefined.
    """

    score: float | None
    fraction: float
    num_moves: int
    acceptance: float
    step: float
    jump: float
    correlation: float | None


Correlation = Callable[[], float | None]


class Drive(Protocol):
    """Decides how the particles of one repeat are moved."""

    def first_step(self, stage: int, step: float) -> float:
        """b of the first move of a stage (0, 1, ...), after one that ended with `step`."""

    def next_step(self, stage: int, step: float, rate: float) -> float:
        """b after a move with `step` of which a share `rate` was accepted."""

    def enough(self, stage: int, so_far: SplittingStage, correlation: Correlation) -> bool:
        """Whether a stage's moves suffice; `correlation` is that of scores before the first of them and now."""


@dataclass(frozen=True)
class Counted:
    """A number of moves, more while particles have hardly moved; b follows 30 % acceptance."""

    num_moves: int

    def first_step(self, stage: int, step: float) -> float:
        return step

    def next_step(self, stage: int, step: float, rate: float) -> float:
        return tuned(step, rate)

    def enough(self, stage: int, so_far: SplittingStage, correlation: Correlation) -> bool:
        moves = so_far.num_moves
        return moves >= self.num_moves and (so_far.jump >= ENOUGH_JUMP or moves >= MORE_MOVES * self.num_moves)


@dataclass(frozen=True)
class Pilot:
    """Moves until scores have begun to forget what they were; b follows 35 % acceptance."""

    def first_step(self, stage: int, step: float) -> float:
        return step

    def next_step(self, stage: int, step: float, rate: float) -> float:
        return tuned(step, rate, ACCEPTED)

    def enough(self, stage: int, so_far: SplittingStage, correlation: Correlation) -> bool:
        if so_far.num_moves < FEWEST or so_far.num_moves >= MOST:
            return so_far.num_moves >= MOST
        found = correlation()
        return so_far.jump >= ENOUGH_JUMP if found is None else found <= FORGOTTEN


@dataclass(frozen=True)
class Pace:
    """Moves and steps that were fixed beforehand.

    Attributes:
        moves, steps: of each stage; the last ones hold for further stages.
        settled: False where the pilot did not reach the threshold: b of further stages then follows the acceptance.
    """

    moves: tuple[int, ...]
    steps: tuple[float, ...]
    settled: bool = True

    def times(self, factor: int) -> Pace:
        """The same steps, more moves."""
        return replace(self, moves=tuple(factor * moves for moves in self.moves))

    def first_step(self, stage: int, step: float) -> float:
        return self.steps[min(stage, len(self.steps) - 1)] if self._known(stage) else step

    def next_step(self, stage: int, step: float, rate: float) -> float:
        return step if self._known(stage) else tuned(step, rate, ACCEPTED)

    def enough(self, stage: int, so_far: SplittingStage, correlation: Correlation) -> bool:
        return so_far.num_moves >= self.moves[min(stage, len(self.moves) - 1)]

    def _known(self, stage: int) -> bool:
        return self.settled or stage < len(self.steps)


def pace_of(pilot: Sequence[SplittingStage], reached: bool) -> Pace:
    """The pace of repeats: the pilot's steps, and the moves after which scores correlate by `FORGOTTEN`.

    Correlations fall like r^moves; the moves that take them there are averaged over three stages.

    Args:
        pilot: stages of the pilot.
        reached: whether it came to the threshold.
    """
    if not pilot:
        return Pace((FEWEST,), (), False)
    wanted = np.array([_memory(stage) for stage in pilot])
    near = [float(wanted[max(0, i - 1) : i + 2].mean()) for i in range(len(wanted))]
    moves = [min(MOST, max(1, math.ceil(mean - SLACK))) for mean in near]
    return Pace(tuple(moves), tuple(stage.step for stage in pilot), reached)


def _memory(stage: SplittingStage) -> float:
    """Moves after which the correlation is `FORGOTTEN`."""
    if stage.correlation is None:
        return stage.num_moves
    return stage.num_moves * math.log(FORGOTTEN) / math.log(min(max(stage.correlation, LEAST), 1 - LEAST))
