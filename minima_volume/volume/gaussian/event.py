"""What makes a perturbed model a member of the minimum, as one continuous score a particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from minima_volume.perturbation.curves import finite_or_inf
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.perturbation.rejection import Rejection, can_stop, ordered
from minima_volume.volume.condition import Condition


class Event(Protocol):
    """score(z) <= threshold, z standard normal: what splitting needs to know about it."""

    @property
    def dim(self) -> int:
        """Numbers that make one particle."""

    @property
    def chunk(self) -> int:
        """Particles that are best scored together."""

    @property
    def bytes_per_particle(self) -> int: ...

    @property
    def threshold(self) -> float: ...

    def outside(self) -> float | None:
        """The loss or accuracy at z = 0 where that is not inside, else None."""

    def empty(self, count: int) -> Tensor:
        """Room for `count` particles, (count, dim)."""

    def generator(self, seed: int) -> torch.Generator:
        """Where the particles of one repeat come from."""

    def scores(self, z: Tensor) -> np.ndarray:
        """Scores (B,), float64 and never NaN, of particles z (B, dim)."""


@runtime_checkable
class Rejecting(Protocol):
    """An event that need not finish a particle which is certainly above a limit."""

    def scores_below(self, z: Tensor, limits: np.ndarray) -> np.ndarray:
        """Scores (B,) of particles z (B, dim): as they are up to their limits (B,); above, any number above the limit."""


@runtime_checkable
class Modelled(Protocol):
    """An event of a network, which draws its particles itself."""

    @property
    def bytes_beside(self) -> int:
        """What the network and its samples take beside particles."""

    def draw_into(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normals into `out` (B, dim)."""


def draw_into(event: Event, out: Tensor, generator: torch.Generator) -> Tensor:
    """Fill `out` (B, dim) with standard normals."""
    return event.draw_into(out, generator) if isinstance(event, Modelled) else out.normal_(generator=generator)


def bytes_beside(event: Event, count: int) -> int:
    """What splitting takes beside the particles: the network, and three copies of a chunk, where proposals are made, run and accepted."""
    chunk = min(event.chunk, count)
    return 3 * chunk * event.bytes_per_particle + (event.bytes_beside if isinstance(event, Modelled) else 0)


def scores_below(event: Event, z: Tensor, limits: np.ndarray) -> np.ndarray:
    """Scores that need to be right only where they are at most the limits (B,)."""
    return event.scores_below(z, limits) if isinstance(event, Rejecting) else event.scores(z)


@dataclass(frozen=True)
class Target:
    """The event that a perturbed model is still inside: score <= threshold.

    The score is the loss; for an accuracy threshold it is minus the (w + 1)-th smallest margin, w the answers that may be wrong,
    since the accuracy itself is a step function whose quantiles tie. NaN counts as infinity, that is as outside.

    Attributes:
        particles: of one landscape.
        condition: loss <= threshold, or accuracy >= threshold.
    """

    particles: Particles
    condition: Condition

    @property
    def threshold(self) -> float:
        return self.condition.threshold if self.condition.kind == "loss" else 0.0

    @property
    def dim(self) -> int:
        return self.particles.dim

    @property
    def chunk(self) -> int:
        return self.particles.chunk

    @property
    def bytes_per_particle(self) -> int:
        return self.dim * torch.finfo(self.particles.dtype).bits // 8

    def outside(self) -> float | None:
        engine, size = self.particles.engine, self.particles.sizes[0]
        k = engine.sizes.index(size)
        loss, accuracy = engine.start.loss[k], engine.start.accuracy[k]
        if self.condition.inside(loss, accuracy, size * engine.answers)[0]:
            return None
        return float((loss if self.condition.kind == "loss" else accuracy)[0])

    def empty(self, count: int) -> Tensor:
        return torch.empty(count, self.dim, dtype=self.particles.dtype, device=self.particles.device)

    def generator(self, seed: int) -> torch.Generator:
        return self.particles.generator(seed)

    @property
    def bytes_beside(self) -> int:
        return self.particles.engine.bytes_beside

    def draw_into(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return self.particles.draw_into(out, generator)

    @classmethod
    def of(cls, engine: LossEngine, sigma: float, size: int, condition: Condition) -> Target:
        """The event in one landscape; where that can save evaluations, with the hardest samples first."""
        return cls(Particles(ordered(engine, size), sigma, [size]), condition)

    @property
    def wrong_allowed(self) -> int | None:
        """Answers that may be wrong; None for a loss threshold."""
        if self.condition.kind == "loss":
            return None
        return self.condition.wrong_allowed(self.particles.sizes[0] * self.particles.engine.answers)

    def scores(self, z: Tensor) -> np.ndarray:
        if (wrong := self.wrong_allowed) is None:
            return finite_or_inf(self.particles.evaluate(z, accuracy=False).loss[0])
        score = self.particles.evaluate(z, [wrong]).score
        assert score is not None
        return _positive_if_zero(-score[0])

    def scores_below(self, z: Tensor, limits: np.ndarray) -> np.ndarray:
        """As `scores`, but infinity for particles of several tiles that are certainly above their limits."""
        loss, wrong = self.particles.engine.loss, self.wrong_allowed
        if not can_stop(self.particles) or (wrong is None and not loss.non_negative):
            return self.scores(z)
        found = Rejection(self.particles, wrong).scores(z, limits)
        return found if wrong is None else _positive_if_zero(found)


def _positive_if_zero(scores: np.ndarray) -> np.ndarray:
    """A margin of 0 is wrong."""
    return np.where(scores == 0, np.finfo(float).tiny, scores)
