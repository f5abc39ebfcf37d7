"""Preconditioned Crank-Nicolson moves, which leave the standard normal law unchanged, and a chain of them from the minimum itself.

Source: Cotter, Roberts, Stuart and White 2013, "MCMC methods for functions".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minima_volume.volume.gaussian.event import Event, draw_into

ACCEPTANCE = 0.3
FIRST_STEP, SMALLEST_STEP = 0.7, 1e-15  # the last is of use in a few dimensions, where a rare event is tiny
SHARING, SHARED_FROM = 4, 4096  # particles with one xi, in so many dimensions or more
CHAIN_MOVES, CHAIN_SEED = 200, 0x5DEECE66D


def propose(event: Event, z: Tensor, step: float, generator: torch.Generator, out: Tensor) -> None:
    """Write sqrt(1 - b^2) z + b xi into `out`, b the step and xi standard normal.

    Drawing xi of a large network takes as long as evaluating it. There four particles share one xi, each with its coordinates moved on by another
    quarter. Each moves by the law that it has with a xi of its own, and the expectation of a mass rests on these laws alone. What
    particles then have in common falls with the share of directions that matter to the loss: the spread of repeats, from
    which intervals come, is the same where that is a few per cent.
    """
    groups, kept, dim = SHARING if z.shape[1] >= SHARED_FROM else 1, math.sqrt(1 - step**2), z.shape[1]
    rows = -(-len(z) // groups)
    noise = draw_into(event, out[:rows], generator).mul_(step)
    for j, part in enumerate(z.split(rows)[1:], 1):
        to, shift = out[j * rows : j * rows + len(part)], j * dim // groups
        torch.add(noise[: len(part), dim - shift :], part[:, :shift], alpha=kept, out=to[:, :shift])
        torch.add(noise[: len(part), : dim - shift], part[:, shift:], alpha=kept, out=to[:, shift:])
    noise.add_(z[:rows], alpha=kept)


def tuned(step: float, rate: float, wanted: float = ACCEPTANCE) -> float:
    """The next step: larger where more than the wanted share of the proposals, 30 %, was accepted.

    >>> tuned(0.5, 0.3), tuned(0.5, 0.0) < 0.5, tuned(0.9, 1.0)
    (0.5, True, 1.0)
    """
    return min(1.0, max(SMALLEST_STEP, step * math.exp(rate - wanted)))


def stays_below(event: Event, lowest: float, limit: float, seed: int) -> bool:
    """Whether a chain from the minimum itself, z = 0, lives at lower scores than a stuck cloud has: the cloud has lost the minimum.

    This is a diagnosis only. The chain starts inside, so it is never counted in a mass. Its random numbers are its own.

    Args:
        event: scores particles.
        lowest: score of the cloud.
        limit: the cloud's last stage; the chain moves below it.
        seed: of the cloud.
    """
    z, proposal, generator = event.empty(1).zero_(), event.empty(1), event.generator(seed ^ CHAIN_SEED)
    score, step, below = math.inf, FIRST_STEP, 0
    for move in range(CHAIN_MOVES):
        propose(event, z, step, generator, proposal)
        (proposed,) = event.scores(proposal)
        accepted = bool(proposed < limit)
        if accepted:
            z.copy_(proposal)
            score = float(proposed)
        step = tuned(step, accepted)
        below += move >= CHAIN_MOVES // 2 and score < lowest
    return below > CHAIN_MOVES // 4  # most of the second half
