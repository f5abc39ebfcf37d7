"""Per-element losses and margins, in forms that stay exact for small losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minima_volume.errors import ConfigError

PerSample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss that is the mean of per-sample values, and the margin by which a sample is right.

    Attributes:
        name: what config.yaml calls it.
        elements: (outputs, targets) -> losses without the feature dimension; leading dimensions of outputs that
            targets lack are batch dimensions.
        margins: (outputs, targets) -> margins, same shape; a sample is right exactly when its margin is > 0, so a tie
            between classes counts as wrong. None where accuracy means nothing.
        batched: whether `elements` takes leading batch dimensions; a user's own callable does not.
    """

    name: str
    elements: PerSample
    margins: PerSample | None
    batched: bool = True

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses of a plain forward pass, shape (samples,): the mean over tokens or outputs where there are several."""
        losses = self.elements(outputs, targets)
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def cross_entropy_elements(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as (max - z_y) + log sum exp(z - max): the textbook form loses a loss of 1e-5 to rounding.

    Args:
        logits: (..., samples, classes).
        labels: (samples,) integers (or (samples, tokens) with logits (..., samples, tokens, classes)).

    >>> bool(cross_entropy_elements(torch.tensor([[20.0, 0.0]]), torch.tensor([0])) > 0)
    True
    """
    top, index = logits.max(-1, keepdim=True)
    labels = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    rest = (logits - top).exp_()
    # the largest term is exactly 1: leave it out of the sum so that log1p keeps the small ones
    rest = rest.scatter(-1, index, 0.0).sum(-1)
    return (top - logits.gather(-1, labels)).squeeze(-1) + torch.log1p(rest)


def class_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y minus the largest other logit."""
    labels = labels.expand(logits.shape[:-1]).unsqueeze(-1)
    own = logits.gather(-1, labels).squeeze(-1)
    return own - logits.scatter(-1, labels, -torch.inf).amax(-1)


def _binary_elements(logits: Tensor, labels: Tensor) -> Tensor:
    logits = logits.squeeze(-1)
    return F.binary_cross_entropy_with_logits(logits, labels.expand(logits.shape), reduction="none")


def _binary_margins(logits: Tensor, labels: Tensor) -> Tensor:
    return (2 * labels - 1) * logits.squeeze(-1)


def _mse_elements(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(-1)


def _one_hot_margins(outputs: Tensor, targets: Tensor) -> Tensor:
    if not is_one_hot(targets):
        return torch.full(outputs.shape[:-1], torch.nan, dtype=outputs.dtype, device=outputs.device)
    return class_margins(outputs, targets.argmax(-1))


def is_one_hot(targets: Tensor) -> bool:
    """Whether targets name classes: zeros and a single 1 along the last of at least two entries."""
    binary = bool(((targets == 0) | (targets == 1)).all())
    return targets.shape[-1] > 1 and binary and bool((targets.sum(-1) == 1).all())


LOSSES = {
    "cross_entropy": Loss("cross_entropy", cross_entropy_elements, class_margins),
    "bce_with_logits": Loss("bce_with_logits", _binary_elements, _binary_margins),
    "mse": Loss("mse", _mse_elements, _one_hot_margins),
}


def get_loss(loss: str | PerSample) -> Loss:
    """A loss by name, or a callable (outputs, targets) -> per-sample losses of shape (samples,).

    Raises:
        ConfigError: no such loss.
    """
    if callable(loss):
        return Loss(getattr(loss, "__name__", "custom"), loss, None, batched=False)
    if loss not in LOSSES:
        raise ConfigError(
            f"loss {loss!r} is not known; allowed: {', '.join(LOSSES)}, or a callable (outputs, targets) -> losses"
        )
    return LOSSES[loss]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)


def prepare_targets(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets in the type and shape the loss needs, checked against one forward pass.

    Args:
        loss: the loss.
        outputs: (samples, ...) of the unperturbed model.
        targets: as the user gave them.

    Raises:
        ConfigError: the shapes do not belong together, or a label is out of range.
    """
    given, got = tuple(targets.shape), tuple(outputs.shape)
    if loss is LOSSES["cross_entropy"]:
        if given != got[:-1] or targets.is_floating_point():
            raise ConfigError(
                f"cross_entropy needs integer labels of shape {got[:-1]} for outputs of shape {got}, got {targets.dtype} {given}"
            )
        if targets.numel() and (int(targets.min()) < 0 or int(targets.max()) >= got[-1]):
            raise ConfigError(
                f"cross_entropy: labels go from {int(targets.min())} to {int(targets.max())}, the model has {got[-1]} outputs"
            )
        return targets.long()
    if loss is LOSSES["bce_with_logits"]:
        if len(got) != 2 or got[1] != 1 or targets.numel() != got[0]:
            raise ConfigError(
                f"bce_with_logits needs outputs of shape (samples, 1) and one label each: outputs {got}, labels {given}"
            )
        if targets.numel() and not 0 <= float(targets.min()) <= float(targets.max()) <= 1:
            raise ConfigError(
                f"bce_with_logits: labels go from {float(targets.min()):g} to {float(targets.max()):g}, allowed are 0 to 1"
            )
        return targets.reshape(got[0]).to(outputs.dtype)
    if loss is LOSSES["mse"]:
        flat = min(len(given), len(got)) <= 2 and targets.numel() == outputs.numel()
        if given[:1] != got[:1] or not (flat or _without_ones(given) == _without_ones(got)):
            raise ConfigError(f"mse needs targets of the outputs' shape {got}, got {given}")
        return targets.reshape(outputs.shape).to(outputs.dtype)
    return targets
