"""Does training under noise help? Noisy minus clean, paired by seed, draw and test image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minima_volume.config.noise import HEADLINE
from minima_volume.errors import DataError
from minima_volume.robustness.evaluate import Sweep
from minima_volume.robustness.intervals import Estimate, crossed_mean

Sweeps = Mapping[int, Sweep]  # training seed -> what the network does


@dataclass(frozen=True)
class Verdict:
    """Noisy minus clean of one architecture at one alpha.

    Attributes:
        architecture, alpha: of what.
        drop: drop(noisy) - drop(clean), where drop = accuracy(0) - accuracy(alpha); negative if training under noise helps.
        accuracy: accuracy(noisy) - accuracy(clean) at this alpha.
        counts: seeds, draws and images.
    """

    architecture: str
    alpha: float
    drop: Estimate
    accuracy: Estimate
    counts: tuple[int, int, int]

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        seeds, draws, images = self.counts
        basis = f"{images:,} images, {draws} draws, {seeds} training seed{'s' * (seeds > 1)}"
        if not self.drop.resolved:
            found = f"not resolved on {basis}"
        else:
            found = f"training under noise {'lowers' if self.drop.high < 0 else 'raises'} the drop ({basis})"
        if seeds == 1:
            found += "; the interval leaves out how networks of other training seeds differ"
        return f"{self.architecture}: drop at alpha {self.alpha:g}, noisy minus clean {self.drop}: {found}"


def compare(architecture: str, clean: Sweeps, noisy: Sweeps, alpha: float = HEADLINE) -> Verdict:
    """The verdict on one architecture.

    Args:
        architecture: its name.
        clean, noisy: networks by training seed; seeds that both have are compared.
        alpha: of the test noise.

    Raises:
        DataError: no seed has both networks, or they were measured under different draws.
    """
    seeds = sorted(set(clean) & set(noisy))
    if not seeds:
        raise DataError(f"{architecture}: no training seed has a clean and a noisy network")
    first = clean[seeds[0]]
    for sweep in (*(clean[s] for s in seeds), *(noisy[s] for s in seeds)):
        if not np.array_equal(sweep.seeds, first.seeds) or sweep.correct.shape[2] != first.correct.shape[2]:
            raise DataError(f"{architecture}: the networks were measured under different draws or on different images")
    start = _difference(clean, noisy, seeds, 0.0)
    end = _difference(clean, noisy, seeds, alpha)
    return Verdict(architecture, alpha, crossed_mean(start - end), crossed_mean(end), end.shape)


def mean_drop(sweeps: Sweeps, alpha: float = HEADLINE, recalibrated: bool = False) -> Estimate:
    """Mean drop of the networks of one architecture and regime, with an interval over seeds, draws and images."""
    return crossed_mean(
        np.stack(
            [
                sweep.at(0.0, recalibrated).astype(np.int8) - sweep.at(alpha, recalibrated).astype(np.int8)
                for sweep in sweeps.values()
            ]
        )
    )


def _difference(clean: Sweeps, noisy: Sweeps, seeds: Sequence[int], alpha: float) -> np.ndarray:
    """(S, D, N) right answers of the noisy network minus those of the clean one."""
    pairs = [(noisy[seed].at(alpha).astype(np.int8), clean[seed].at(alpha).astype(np.int8)) for seed in seeds]
    return np.stack([a - b for a, b in pairs])
