"""Does training under noise help? Noisy minus clean, paired by seed, draw and test image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minima_volume.confidence import CLEAR
from minima_volume.config.noise import HEADLINE
from minima_volume.errors import DataError
from minima_volume.robustness.evaluate import Sweep
from minima_volume.robustness.intervals import Estimate, crossed_mean
from minima_volume.volume.claims import clear, holm, p_text

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
    counts: Sequence[int]

    @property
    def words(self) -> str:
        """The verdict in a sentence, on this architecture alone."""
        return self.words_among(self.drop.p_value)

    def words_among(self, adjusted: float | None, count: int = 1) -> str:
        """The verdict in a sentence, with the p-value that Holm's procedure over `count` architectures leaves (None: not tested)."""
        seeds, draws, images = self.counts
        basis = f"{images:,} images, {draws} draws, {seeds} training seed{'s' * (seeds > 1)}"
        resolved, alone = resolved_by(adjusted), self.drop.p_value
        both = f"; {p_text(alone, adjusted, count)}" if count > 1 and alone is not None and self.drop.resolved else ""
        if resolved:
            found = f"training under noise {'lowers' if self.drop.mean < 0 else 'raises'} the drop ({basis}{both})"
        else:
            found = f"not resolved on {basis}{both}"
        if seeds == 1:
            found += "; the interval leaves out how networks of other training seeds differ"
        return f"{self.architecture}: drop at alpha {self.alpha:g}, noisy minus clean {self.drop}: {found}"


def resolved_by(p_value: float | None) -> bool:
    """Whether a p-value is small enough for a verdict; None, where nothing could be tested, is not."""
    return p_value is not None and bool(clear(p_value))


def judge_together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The verdicts of a results.json as one family of comparisons: resolved is what Holm's procedure over the architectures leaves.

    Args:
        rows: of the architectures, with `architecture`, `alphas` (each with `alpha`, `drop` and `accuracy` as of `Estimate`) and `counts`. Rows
            of earlier versions have no p-values: `resolved` alone then counts as p = 0.05 (no larger one was called resolved), not
            resolved as 1.

    Returns:
        The rows with `words`, `resolved`, `p_value` (of the architecture alone; None where nothing varies) and `p_adjusted`.
    """
    p_values = [_own_p_value(row) for row in rows]
    adjusted = holm(p_values).tolist()
    count = sum(p is not None for p in p_values)
    found = []
    for row, p_value, after in zip(rows, p_values, adjusted, strict=True):
        p_adjusted = None if p_value is None else after
        judged = {"p_value": p_value, "p_adjusted": p_adjusted, "resolved": resolved_by(p_adjusted)}
        found.append({**row, **judged, "words": _row_words(row, p_adjusted, count)})
    return found


def _own_p_value(row: Mapping[str, Any]) -> float | None:
    if "counts" in row:
        return _headline(row)["drop"]["p_value"]
    return row.get("p_value", CLEAR if row["resolved"] else 1.0)


def _row_words(row: Mapping[str, Any], adjusted: float | None, count: int) -> str:
    if "counts" in row:
        one = _headline(row)
        drop, accuracy = Estimate(**one["drop"]), Estimate(**one["accuracy"])
        return Verdict(row["architecture"], HEADLINE, drop, accuracy, row["counts"]).words_among(adjusted, count)
    lost = row["resolved"] and not resolved_by(adjusted)
    return row["words"] + f"; not resolved after Holm over {count} comparisons" * lost


def _headline(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(one for one in row["alphas"] if one["alpha"] == HEADLINE)


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
