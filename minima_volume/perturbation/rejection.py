"""Particles that are given up where a limit is certainly passed: tile by tile, the hardest samples first.

Losses that are not negative only add up: where the sum so far is above limit x samples, the mean loss is above the limit whatever the other
samples say. With w wrong answers allowed, w + 1 margins below minus the limit say as much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from minima_volume.perturbation.curves import finite_or_inf
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.perturbation.tiles import Tile, tiles_for
from minima_volume.perturbation.values import per_sample, row_sums
from minima_volume.samples import part

FEWEST_TILES = 4  # below that there is little to leave out
# a sum in double precision of numbers that are not negative never falls; this is for the product of the limit and the samples
ROUNDING = 1e-9


@torch.inference_mode()
def hardest_first(engine: LossEngine, size: int) -> Tensor:
    """The order of a landscape's samples by their loss at the minimum, the largest first; equal ones stay as they are."""
    losses = []
    with engine.at_work():
        tiles = tiles_for(engine.general.tiles, size)
        for tile, given in zip(tiles, engine.general.outputs_here(tiles), strict=True):
            outputs = engine.loss.read(given, 1)
            losses.append(per_sample(engine.loss, outputs, part(engine.y, tile.start, tile.stop))[0])
    found = torch.cat(losses)[:size].nan_to_num(nan=torch.inf)
    return torch.argsort(found, descending=True, stable=True)


def ordered(engine: LossEngine, size: int) -> LossEngine:
    """An engine of one landscape whose hardest samples come first, where that can save anything; else the same engine.

    The order is found once for each engine and landscape, so sums are always taken in it.
    """
    if engine.apart or not engine.loss.non_negative or _tiles(engine, size) < FEWEST_TILES:
        return engine
    if size not in engine.reordered:
        engine.reordered[size] = engine.in_order(hardest_first(engine, size))
    return engine.reordered[size]


def can_stop(particles: Particles) -> bool:
    """Whether a particle may be given up before its last tile: with several tiles of samples that do not depend on each other."""
    engine = particles.engine
    return len(particles.sizes) == 1 and not engine.apart and _tiles(engine, particles.sizes[0]) >= FEWEST_TILES


def _tiles(engine: LossEngine, size: int) -> int:
    return len(tiles_for(engine.path.tiles, size))


class Rejection:
    """Scores of particles of one landscape, exact below a limit; a particle that is certainly not below it need not be finished.

    Args:
        particles: of one landscape.
        wrong_allowed: w, for scores that are minus the (w + 1)-th smallest margin; None: scores are losses.
    """

    def __init__(self, particles: Particles, wrong_allowed: int | None = None) -> None:
        self.particles, self.wrong, self.engine = particles, wrong_allowed, particles.engine
        (self.size,) = particles.sizes
        self.tiles = tiles_for(self.engine.path.tiles, self.size)

    @torch.inference_mode()
    def scores(self, z: Tensor, limits: np.ndarray) -> np.ndarray:
        """Losses, or minus margins, (B,) of z (B, dim); infinity for particles that are certainly above their limit (B,)."""
        chunk, found = self.particles.chunk, []
        with self.engine.at_work():
            for start in range(0, len(z), chunk):
                some = slice(start, start + chunk)
                found.append(self._chunk(z[some], torch.as_tensor(limits[some], device=z.device)))
        return np.concatenate(found)

    def _chunk(self, z: Tensor, limits: Tensor) -> np.ndarray:
        runner = self.particles.runner
        stacked = runner.stack(z, self.particles.sigma)
        alive, state = torch.arange(len(z), device=z.device), self._empty(len(z), z)
        scores = torch.full((len(z),), torch.inf, dtype=torch.float64, device=z.device)
        for tile in self.tiles:
            (outputs,) = runner.outputs(stacked, [tile])
            state = self._add(state, outputs, tile)
            keep = torch.nonzero(~self._outside(state, limits[alive], tile)).flatten()
            if len(keep) < len(alive):
                alive, state = alive[keep], state[keep]
                if not len(keep):
                    break
                stacked = runner.take(stacked, keep)
        if len(alive):
            scores[alive] = self._finished(state)
        return finite_or_inf(scores.cpu().numpy()) if self.wrong is None else scores.cpu().numpy()

    def _empty(self, count: int, z: Tensor) -> Tensor:
        """Sums of losses (B,), or margins (B, answers), infinite where they are not known yet."""
        if self.wrong is None:
            return torch.zeros(count, dtype=torch.float64, device=z.device)
        return torch.full((count, self.size * self.engine.answers), torch.inf, dtype=z.dtype, device=z.device)

    def _add(self, state: Tensor, outputs: Any, tile: Tile) -> Tensor:
        loss, y = self.engine.loss, part(self.engine.path_targets, tile.start, tile.stop)
        read = loss.read(outputs, 1)
        if self.wrong is None:
            return state + row_sums(per_sample(loss, read, y).double())
        _, margins = loss.with_margins(read, y)
        answers = self.engine.answers
        state[:, tile.start * answers : tile.stop * answers] = margins.flatten(1)
        return state

    def _outside(self, state: Tensor, limits: Tensor, tile: Tile) -> Tensor:
        """Which particles are certainly above their limits after this tile; a sum that is NaN is none of them."""
        if self.wrong is None:
            return state > limits * self.size * (1 + ROUNDING)
        known = state[:, : tile.stop * self.engine.answers]
        return (known < -limits.unsqueeze(1)).sum(1) > self.wrong

    def _finished(self, state: Tensor) -> Tensor:
        if self.wrong is None:
            return state / self.size
        margin = state.nan_to_num(nan=-torch.inf).kthvalue(self.wrong + 1, 1).values.double()
        return -margin
