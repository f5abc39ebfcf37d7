"""Is a threshold one of a minimum? Not where the minimum starts at it, nor where a network that predicts nothing reaches it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Loss
from minima_volume.losses.registry import LOSSES
from minima_volume.samples import check
from minima_volume.volume.condition import Condition

NEAR = 0.9  # a threshold above this share of a loss is near it, a start loss above this share of a threshold too
PLATEAU = (
    "the region inside is then no minimum any more, but the plateau of a network that answers the same for every input"
)


def trivial_loss(loss: str | Loss, targets: Tensor) -> float:
    """Loss of the trivial predictor: the constant output that is best for these targets.

    Cross-entropy: the entropy of the class frequencies, -sum_k p_k log p_k. Binary cross-entropy: the same of the mean label of each output, averaged.
    Mean squared error: the mean over outputs of their variance; targets one-hot over K balanced classes have (1 - 1/K) / K.

    Args:
        loss: `cross_entropy`, `bce_with_logits`, `mse`, or a `Loss` that knows its trivial predictor.
        targets: (samples, ...) of one landscape, as the loss takes them; with tokens, every one counts.

    Raises:
        ConfigError: no such loss, or no targets, or some that are no targets of this loss.

    >>> import torch
    >>> round(trivial_loss("cross_entropy", torch.arange(10)), 4)  # log 10
    2.3026
    >>> round(trivial_loss("mse", torch.eye(97)), 4)  # the published threshold 0.01 lies here
    0.0102
    """
    if not isinstance(targets, Tensor):
        raise ConfigError(f"targets is a {type(targets).__name__}; the trivial predictor's loss needs a tensor")
    if targets.ndim == 0 or targets.numel() == 0:
        raise ConfigError("the trivial predictor's loss needs at least one target along the first dimension")
    check("targets", targets)
    found = loss if isinstance(loss, Loss) else LOSSES.get(loss) if isinstance(loss, str) else None
    if found is None or found.trivial is None:
        name = loss.name if isinstance(loss, Loss) else loss
        raise ConfigError(f"loss {name!r} has no trivial predictor; allowed: {', '.join(LOSSES)}")
    return found.trivial(targets)


def threshold_verdict(threshold: float, trivial: float | None, starts: Mapping[str, float | None]) -> str:
    """What is wrong with a threshold in one landscape, in words; "" where nothing is.

    Args:
        threshold: of the loss.
        trivial: loss of the trivial predictor; None if the loss does not know it.
        starts: name of each minimum -> its loss at coefficient 0; None if it is not finite.

    >>> threshold_verdict(0.1, 2.3, {"+0": 1e-4, "+540": 0.2})
    'at or above it starts +540 (0.2), which is outside and has no volume'
    """
    parts = []
    if trivial is not None and threshold >= NEAR * trivial:
        where = "at or above" if threshold >= trivial else "within 10 % of"
        parts.append(f"it is {where} the loss of the trivial predictor ({trivial:.3g}): {PLATEAU}")
    outside = [f"{name} ({_loss(start)})" for name, start in starts.items() if start is None or start >= threshold]
    if outside:
        verb, rest = ("starts", "is outside and has") if len(outside) == 1 else ("start", "are outside and have")
        parts.append(f"at or above it {verb} {', '.join(outside)}, which {rest} no volume")
    close = [
        f"{name} ({_loss(start)})"
        for name, start in starts.items()
        if start is not None and NEAR * threshold <= start < threshold
    ]
    if close:
        verb, its = ("starts", "its volume says") if len(close) == 1 else ("start", "their volumes say")
        parts.append(
            f"within 10 % below it {verb} {', '.join(close)}: {its} how long the training was, and little else"
        )
    return "; ".join(parts)


def _loss(start: float | None) -> str:
    return "not finite" if start is None else f"{start:.3g}"


def plateau_note(loss: Loss, targets: Tensor, condition: Condition) -> str | None:
    """What is wrong with a loss threshold near or above the trivial predictor's loss, in words; None if nothing is.

    Args:
        loss: of the model's training; many have no trivial predictor.
        targets: of the landscape, as `trivial_loss` takes them.
        condition: accuracy thresholds are not judged.
    """
    if condition.kind != "loss" or loss.trivial is None:
        return None
    trivial = loss.trivial(targets)
    text = threshold_verdict(condition.threshold, trivial, {}) if trivial > 0 else ""  # 0: all targets are equal
    return f"threshold {condition.threshold:g}: {text}" if text else None
