"""Per-element losses and margins, in forms that stay exact for small losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.samples import copied, count, each, part

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
        arrange: (outputs, number of batch dimensions) -> outputs as `elements` and `margins` take them; None: as they are.
    """

    name: str
    elements: PerSample
    margins: PerSample | None
    batched: bool = True
    both: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    whole: bool = False
    arrange: Callable[[Tensor, int], Tensor] | None = None

    def read(self, outputs: Any, batch_dims: int = 0) -> Any:
        """A model's outputs as `elements` and `margins` take them."""
        return outputs if self.arrange is None else self.arrange(outputs, batch_dims)

    def with_margins(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Elements and margins of outputs that have been read."""
        if self.both is not None:
            return self.both(outputs, targets)
        assert self.margins is not None
        return self.elements(outputs, targets), self.margins(outputs, targets)

    def per_sample(self, outputs: Any, targets: Any) -> Tensor:
        """Losses of a plain forward pass, shape (samples,): the mean over tokens or outputs where there are several.

        Raises:
            ConfigError: a user's loss returned something else than one value a sample.
        """
        if not self.batched:
            return self._own(outputs, targets)
        losses = self.elements(self.read(outputs), targets)
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def _own(self, outputs: Any, targets: Any) -> Tensor:
        """A user's loss, which may work on its arguments in place; one of all samples stands for each of them."""
        samples, losses = count(targets), self._returned(outputs, targets)
        if losses.ndim == 0:
            return losses.expand(samples)
        if losses.shape not in ((samples,), (samples, 1)):
            advice = "; average over the other axes, for example losses.flatten(1).mean(1)" if losses.ndim > 1 else ""
            raise ConfigError(
                f"loss {self.name!r} must return one value a sample, shape ({samples},), got {tuple(losses.shape)}{advice}"
            )
        return losses.reshape(samples)

    def _returned(self, outputs: Any, targets: Any) -> Tensor:
        losses = self.elements(outputs, copied(targets))
        if not isinstance(losses, Tensor):
            raise ConfigError(
                f"loss {self.name!r} returns a {type(losses).__name__}; it must return a tensor: one loss a sample, or one of all"
            )
        return losses

    def returns_one(self, outputs: Any, targets: Any) -> bool:
        """Whether a user's loss gives one number for all samples.

        Raises:
            ConfigError: it gives no tensor, or another number for the same outputs and targets.
        """
        first, second = (self._returned(each(outputs, torch.clone), targets) for _ in range(2))
        if first.shape != second.shape or not torch.allclose(first, second, rtol=1e-4, atol=1e-8, equal_nan=True):
            raise ConfigError(
                f"loss {self.name!r} gives other values for the same outputs and targets: a volume needs a loss without randomness "
                "that keeps nothing between calls"
            )
        return first.ndim == 0


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


def is_one_hot(targets: Tensor) -> bool:
    """Whether targets (samples, classes) name classes: zeros and a single 1 in each row of at least two entries."""
    if targets.ndim != 2 or targets.shape[1] < 2:
        return False
    binary = bool(((targets == 0) | (targets == 1)).all())
    return binary and bool((targets.sum(-1) == 1).all())


LOSSES = {
    "cross_entropy": Loss("cross_entropy", cross_entropy_elements, class_margins, both=cross_entropy_and_margins),
    "bce_with_logits": Loss("bce_with_logits", _binary_elements, _binary_margins),
    "mse": Loss("mse", _mse_elements, None),  # margins where the targets are one-hot, see `fit`
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


@dataclass(frozen=True)
class Fit:
    """A loss that belongs to a model's outputs and to targets.

    Attributes:
        loss: reads these outputs, and has margins where accuracy means something.
        targets: in the type and shape it needs.
        note: what a reader must know about how they were read, or None.
        apart: whether a landscape must be evaluated in one piece.
    """

    loss: Loss
    targets: Any
    note: str | None = None
    apart: bool = False


def fit(loss: Loss, some: Any, rows: int, targets: Any, class_axis: int | None = None) -> Fit:
    """Check a loss, a model's outputs and targets against each other, and say how the outputs are read.

    Outputs may be (N, C) or PyTorch's (N, C, d1, ...) for `cross_entropy`, with labels (N,) or (N, d1, ...); classes last, (N, d1,
    ..., C), where only that fits. `bce_with_logits` and `mse` take targets of the outputs' shape, up to extents of 1.

    Args:
        loss: the loss; a user's own takes outputs and targets as they are.
        some: outputs of the model for a few samples.
        rows: how many samples these were.
        targets: as the user gave them, (N, ...).
        class_axis: which axis of the outputs counts the classes; by default axis 1, else the last.

    Raises:
        ConfigError: the model gives no tensor with one row a sample, the shapes do not belong together, or a label is out of range.
    """
    if not loss.batched:
        loss.per_sample(each(some, torch.clone), part(targets, 0, rows))
        whole = loss.returns_one(some, part(targets, 0, rows))
        return Fit(replace(loss, whole=whole), targets, apart=whole)
    if not isinstance(some, Tensor):
        raise ConfigError(
            f"the model returns a {type(some).__name__}; loss {loss.name!r} takes one tensor: give a loss of your own that takes "
            f"what the model returns, for example lambda outputs, targets: F.{_FUNCTIONS[loss.name]}({_first(some)}, targets, reduction='none')"
        )
    samples = count(targets)
    if not isinstance(targets, Tensor):
        raise ConfigError(f"loss {loss.name!r} takes one tensor of targets, got a {type(targets).__name__}")
    if samples < rows:
        raise ConfigError(f"{loss.name}: there are outputs for {rows} samples, but {samples} targets")
    if (some.ndim == 0 and rows > 1) or (some.ndim and len(some) != rows):
        raise ConfigError(
            f"the model must return one row a sample: for {rows} samples it gives outputs of shape {tuple(some.shape)}"
        )
    shape = (samples, *some.shape[1:])
    if class_axis is not None and loss.name != "cross_entropy":
        raise ConfigError(f"class_axis {class_axis} applies only to cross_entropy, not to loss {loss.name!r}")
    if loss.name == "cross_entropy":
        return _fit_classes(loss, shape, targets, class_axis)
    if loss.name == "bce_with_logits":
        return _fit_binary(loss, shape, targets, some.dtype)
    return _fit_squares(loss, shape, targets, some.dtype)


_FUNCTIONS = {
    "cross_entropy": "cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "mse": "mse_loss",
}


def _first(outputs: Any) -> str:
    """How to take the first output, as code."""
    if isinstance(outputs, tuple | list):
        return "outputs[0]"
    names = list(outputs) if isinstance(outputs, dict) else [name for name in vars(outputs) if name[0] != "_"]
    return (
        f"outputs[{names[0]!r}]" if isinstance(outputs, dict) and names else f"outputs.{names[0] if names else '...'}"
    )


def _fit_classes(loss: Loss, shape: tuple[int, ...], labels: Tensor, class_axis: int | None) -> Fit:
    given = tuple(labels.shape)
    if class_axis is not None and not (-len(shape) < class_axis < len(shape) and class_axis % len(shape)):
        raise ConfigError(f"class_axis {class_axis} is not an axis of outputs of shape {shape} (axis 0 counts samples)")
    if len(shape) < 2:
        raise ConfigError(f"cross_entropy needs outputs of shape (samples, classes, ...), got {shape}")
    axes = list(dict.fromkeys([1, len(shape) - 1] if class_axis is None else [class_axis % len(shape)]))
    fitting = [axis for axis in axes if shape[:axis] + shape[axis + 1 :] == given]
    if not fitting or labels.is_floating_point():
        wanted = " or ".join(str(shape[:axis] + shape[axis + 1 :]) for axis in axes)
        raise ConfigError(
            f"cross_entropy needs integer labels of shape {wanted} for outputs of shape {shape}, got {labels.dtype} {given}"
        )
    axis = fitting[0]
    if int(labels.min()) < 0 or int(labels.max()) >= shape[axis]:
        raise ConfigError(
            f"cross_entropy: labels go from {int(labels.min())} to {int(labels.max())}, the model has {shape[axis]} outputs"
        )
    note = None
    if len(fitting) > 1:
        note = f"outputs of shape {shape} were read as PyTorch has them, classes along axis 1 (class_axis=-1 takes the last axis)"
    if axis != len(shape) - 1:
        loss = replace(loss, arrange=partial(_classes_last, axis))
    return Fit(loss, labels.long(), note)


def _classes_last(axis: int, outputs: Tensor, batch_dims: int) -> Tensor:
    return outputs.movedim(axis + batch_dims, -1)


def _one_row(outputs: Tensor, batch_dims: int) -> Tensor:
    """(..., samples, entries); a model that squeezes its outputs drops the dimension of a single sample, too."""
    if outputs.ndim <= batch_dims + 1:
        return outputs.reshape(*outputs.shape[:batch_dims], -1, 1)
    return outputs.flatten(batch_dims + 1)


def _fit_binary(loss: Loss, shape: tuple[int, ...], labels: Tensor, dtype: torch.dtype) -> Fit:
    given = tuple(labels.shape)
    if _without_ones(given) != _without_ones(shape) or given[:1] != shape[:1]:
        raise ConfigError(f"bce_with_logits needs one label for each output: outputs {shape}, labels {given}")
    if not 0 <= float(labels.min()) <= float(labels.max()) <= 1:
        raise ConfigError(
            f"bce_with_logits: labels go from {float(labels.min()):g} to {float(labels.max()):g}, allowed are 0 to 1"
        )
    if len(shape) != 2:
        loss = replace(loss, arrange=_one_row)
    rows = labels.reshape(shape[0], -1).to(dtype)
    return Fit(loss, rows.squeeze(1) if rows.shape[1] == 1 else rows)


def _fit_squares(loss: Loss, shape: tuple[int, ...], targets: Tensor, dtype: torch.dtype) -> Fit:
    given = tuple(targets.shape)
    flat = min(len(given), len(shape)) <= 2 and targets.numel() == math.prod(shape)
    if given[:1] != shape[:1] or not (flat or _without_ones(given) == _without_ones(shape)):
        raise ConfigError(f"mse needs targets of the outputs' shape {shape}, got {given}")
    if len(shape) == 1:
        loss, shape = replace(loss, arrange=_one_row), (*shape, 1)
    ready = targets.reshape(shape).to(dtype)
    return Fit(replace(loss, margins=one_hot_margins if is_one_hot(ready) else None), ready)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent for extent in shape if extent != 1)
