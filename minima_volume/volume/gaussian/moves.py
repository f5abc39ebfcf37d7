"""Preconditioned Crank-Nicolson moves, which leave the standard normal law unchanged, and a chain of them from the minimum itself.

Source: Cotter, Roberts, Stuart and White 2013, "MCMC methods for functions".
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from minima_volume.volume.gaussian.event import Event, draw_into

ACCEPTANCE = 0.3
FIRST_STEP, SMALLEST_STEP = 0.7, 1e-15  # the last is of use in a few dimensions, where a rare event is tiny
SHARING, SHARED_FROM = 4, 4096  # particles with one direction of xi, in so many dimensions or more
SIGNED = 64  # coordinates with one sign
CHAIN_MOVES, CHAIN_SEED = 200, 0x5DEECE66D


def propose(
    event: Event,
    z: Tensor,
    step: float,
    generator: torch.Generator,
    out: Tensor,
    random: np.random.Generator | None = None,
) -> None:
    """Write sqrt(1 - b^2) z + b xi into `out`, b the step and xi standard normal.

    Drawing xi of a large network takes as long as evaluating it. There four particles share the direction of one xi, each with its coordinates
    moved on by a random number of places, with random signs of blocks of 64 coordinates and with a length of its own: each xi is
    standard normal, sums of coordinates of two are uncorrelated, and so are their squares on average over the places, whichever
    coordinates matter to the loss.

    Args:
        event: draws xi.
        z: particles (B, dim).
        step: b.
        generator: of xi.
        out: (B, dim).
        random: of the places, signs and lengths; None: nothing is shared.
    """
    kept, dim = math.sqrt(1 - step**2), z.shape[1]
    if random is None or dim < SHARED_FROM:
        draw_into(event, out, generator).mul_(step).add_(z, alpha=kept)
        return
    rows = -(-len(z) // SHARING)
    shared = draw_into(event, out[:rows], generator)
    lengths = torch.from_numpy(step * np.sqrt(random.chisquare(dim, len(z)))).to(z.device, z.dtype)
    shared.div_(torch.linalg.vector_norm(shared, dim=1, keepdim=True))
    places = [0, *random.integers(dim, size=SHARING - 1).tolist()]
    # the first rows last: the others are made from them
    for j, place in reversed(list(enumerate(places[: -(-len(z) // rows)]))):
        mine = slice(j * rows, min((j + 1) * rows, len(z)))
        direction, length, to = shared[: mine.stop - mine.start], lengths[mine, None], out[mine]
        torch.mul(direction[:, dim - place :], length, out=to[:, :place])
        torch.mul(direction[:, : dim - place], length, out=to[:, place:])
        if j:
            _flip(to, random)
        to.add_(z[mine], alpha=kept)


def _flip(xi: Tensor, random: np.random.Generator) -> None:
    """Give each block of coordinates of each row (B, dim) a random sign."""
    count, dim = xi.shape
    blocks = dim // SIGNED
    signs = torch.from_numpy(random.integers(2, size=(count, blocks + 1, 1)) * 2.0 - 1).to(xi.device, xi.dtype)
    xi[:, : blocks * SIGNED].view(count, blocks, SIGNED).mul_(signs[:, :blocks])
    xi[:, blocks * SIGNED :].mul_(signs[:, blocks])


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
