"""What keeps a perturbed model inside its minimum: a loss or an accuracy threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minima_volume.arguments import check_finite, check_positive
from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Loss

POSITIVE = "it must be a positive loss (Gaussian local volumes take any sign, if the loss may be negative)"


@dataclass(frozen=True)
class Condition:
    """What keeps a perturbed model inside the minimum: loss <= threshold, or accuracy >= threshold.

    Attributes:
        kind: "loss" or "accuracy".
        threshold: the loss, or the fraction of samples that must be right.
    """

    kind: str
    threshold: float

    def check_loss(self, loss: Loss) -> None:
        """Raise ConfigError if no value of this loss can be below the threshold."""
        if self.kind == "loss" and self.threshold <= 0 and loss.non_negative:
            raise ConfigError(
                f"threshold {self.threshold!r} is not allowed: it must be a positive loss, since {loss.name} is never negative"
            )

    def wrong_allowed(self, size: int) -> int:
        """For accuracy: answers of `size` (samples, or their tokens) that may be wrong.

        >>> Condition("accuracy", 0.9).wrong_allowed(60)
        6
        """
        return min(int(np.floor((1 - self.threshold) * size + 1e-9)), size - 1)

    @staticmethod
    def outside_note(start: float) -> str:
        """What to tell about a model outside its own minimum, from its loss or accuracy."""
        note = f"the minimum itself is outside: its value is {start:.6g} before any perturbation; "
        return note + (
            "train longer or choose another threshold" if np.isfinite(start) else "look at its weights and samples"
        )

    def inside(self, loss: np.ndarray, accs: np.ndarray, size: int) -> np.ndarray:
        """Where values on a curve are inside; NaN counts as outside."""
        if self.kind == "loss":
            return loss <= self.threshold
        return np.rint((1 - accs) * size) <= self.wrong_allowed(size)


def condition_of(threshold: float | None, accuracy_threshold: float | None, *, signed: bool = False) -> Condition:
    """What keeps a perturbed model inside, from the one of the two that was given.

    Args:
        threshold: a loss.
        accuracy_threshold: a fraction of samples.
        signed: whether a threshold of any sign is allowed, as where losses are only put in order; `Condition.check_loss` then has the last word.

    Raises:
        ConfigError: none or both are given, or the one is not allowed.
    """
    if (threshold is None) == (accuracy_threshold is None):
        raise ConfigError("give exactly one of threshold (a loss) and accuracy_threshold (a fraction)")
    if threshold is not None and signed:
        return Condition("loss", check_finite("threshold", threshold, "it must be a finite loss"))
    if threshold is not None:
        return Condition("loss", check_positive("threshold", threshold, POSITIVE))
    allowed, most = "it must be above 0 and at most 1", float(np.nextafter(1, 2))
    return Condition("accuracy", check_positive("accuracy_threshold", accuracy_threshold, allowed, most))
