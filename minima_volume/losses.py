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
        both: (outputs, targets) -> elements and margins, where that is cheaper than one after the other.
        whole: `elements` returns one number for all samples, which need not be a mean over them; a user's own callable may.
    """

    name: str
    elements: PerSample
    margins: PerSample | None
    batched: bool = True
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    whole: bool = False

    def with_margins(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Elements and margins."""
        if self.both is not None:
            return self.both(outputs, targets)
        assert self.margins is not None
        return self.elements(outputs, targets), self.margins(outputs, targets)

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses of a plain forward pass, shape (samples,): the mean over tokens or outputs where there are several."""
        losses = self.elements(outputs, targets)
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def cross_entropy_elements(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as (max - z_y) + log1p(...): the textbook form loses a loss of 1e-5 to rounding.

    Args:
        logits: (..., samples, classes).
        labels: (samples,) integers (or (samples, tokens) with logits (..., samples, tokens, classes)).

    >>> bool(cross_entropy_elements(torch.tensor([[20.0, 0.0]]), torch.tensor([0])) > 0)
    True
    """
    return cross_entropy_and_margins(logits, labels)[0]


def class_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y minus the largest other logit."""
    own, rival, _ = _own_and_rival(logits, labels)
    return own - rival


def cross_entropy_and_margins(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both at once, for little more than either: what they need most is the largest other logit.

    With a the label's logit, o the largest other and m = max(a, o) the loss is (m - a) + log1p(sum_others exp(z - m) +
    expm1(a - m)); where a is the largest, the last term is 0 and small losses keep all their digits.
    """
    own, rival, mask = _own_and_rival(logits, labels)
    top = torch.maximum(own, rival)
    # zeros afterwards rather than -infinity before: exp is slow there
    rest = (logits - top.unsqueeze(-1)).exp_().mul(~mask).sum(-1)
    return (top - own) + torch.log1p(rest + torch.expm1(own - top)), own - rival


def _own_and_rival(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The label's logit, the largest other, and where the label is."""
    classes = torch.arange(logits.shape[-1], device=labels.device)
    if logits.stride(-1) == 1:
        mask = labels.unsqueeze(-1) == classes
    else:  # samples follow each other in memory, not classes
        mask = (labels.unsqueeze(-2) == classes.unsqueeze(-1)).transpose(-1, -2)
    own = logits.gather(-1, labels.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return own, _rival(logits, mask), mask


def _rival(outputs: Tensor, mask: Tensor) -> Tensor:
    """The largest output where the mask is not; an addition keeps the memory layout, which filling does not."""
    excluded = torch.zeros_like(mask, dtype=outputs.dtype).masked_fill_(mask, -torch.inf)
    return (outputs + excluded).amax(-1)


def _binary_elements(logits: Tensor, labels: Tensor) -> Tensor:
    logits = logits.squeeze(-1)
    return F.binary_cross_entropy_with_logits(logits, labels.expand(logits.shape), reduction="none")


def _binary_margins(logits: Tensor, labels: Tensor) -> Tensor:
    return (2 * labels - 1) * logits.squeeze(-1)


def _mse_elements(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean(-1)


def one_hot_margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """The output of the class that a one-hot target names, minus the largest other output."""
    return (outputs * targets).sum(-1) - _rival(outputs, targets > 0)


def _margins_where_one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    if not is_one_hot(targets):
        return torch.full(outputs.shape[:-1], torch.nan, dtype=outputs.dtype, device=outputs.device)
    return one_hot_margins(outputs, targets)


def is_one_hot(targets: Tensor) -> bool:
    """Whether targets name classes: zeros and a single 1 along the last of at least two entries."""
    binary = bool(((targets == 0) | (targets == 1)).all())
    return targets.shape[-1] > 1 and binary and bool((targets.sum(-1) == 1).all())


LOSSES = {
    "cross_entropy": Loss("cross_entropy", cross_entropy_elements, class_margins, both=cross_entropy_and_margins),
    "bce_with_logits": Loss("bce_with_logits", _binary_elements, _binary_margins),
    "mse": Loss("mse", _mse_elements, _margins_where_one_hot),
}


def get_loss(loss: str | PerSample) -> Loss:
    """A loss by name, or a callable (outputs, targets) -> per-sample losses of shape (samples,), or one loss of all samples.

    Raises:
        ConfigError: no such loss.
    """
    if isinstance(loss, type):
        raise ConfigError(
            f"loss is the class {loss.__name__}; pass a function, or an instance that is called with (outputs, targets)"
        )
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
