"""The thresholds of a run: what they ask for, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from minima_volume.stages.run import Run, minimum_name
from minima_volume.volume.condition import Condition
from minima_volume.volume.trivial import threshold_verdict, trivial_loss


def conditions_of(run: Run, threshold: float) -> list[Condition]:
    """The loss condition of a threshold, and the accuracy condition paired with it."""
    accuracy = run.config.volume.accuracy_for(threshold)
    pair = [Condition("loss", threshold)]
    return pair if accuracy is None else [*pair, Condition("accuracy", accuracy)]


def threshold_keys(
    run: Run, threshold: float, targets: Tensor, levels: Sequence[int], starts: Sequence[float | None]
) -> dict[str, Any]:
    """`trivial_loss` (None if the loss does not know it) and `threshold_verdict` of one results.json.

    Args:
        run: the run.
        threshold: of the loss.
        targets: of the landscape.
        levels, starts: of its minima: values of the variation, and losses at coefficient 0.
    """
    trivial = None if run.loss.trivial is None else trivial_loss(run.loss, targets)
    names = [minimum_name(level, run.config.variation) for level in levels]
    verdict = threshold_verdict(threshold, trivial, dict(zip(names, starts, strict=True)))
    return {"trivial_loss": trivial, "threshold_verdict": verdict or None}
