"""What makes a perturbed model a member of the minimum, as one continuous score a particle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from minima_volume.perturbation.curves import finite_or_inf
from minima_volume.perturbation.particles import Particles
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

    def scores(self, z: Tensor) -> np.ndarray:
        if self.condition.kind == "loss":
            return finite_or_inf(self.particles.evaluate(z, accuracy=False).loss[0])
        answers = self.particles.sizes[0] * self.particles.engine.answers
        score = self.particles.evaluate(z, [self.condition.wrong_allowed(answers)]).score
        assert score is not None
        # a margin of 0 is wrong
        return np.where(score[0] > 0, -score[0], np.maximum(-score[0], np.finfo(float).tiny))
