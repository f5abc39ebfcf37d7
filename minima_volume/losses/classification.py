"""Cross-entropy of classes and of binary labels, in forms that stay exact for small losses."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minima_volume.arguments import is_whole
from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Fit, Given, Loss, Root, one_row, rival, without_ones

SMALLEST_NORMAL = torch.finfo(torch.float32).smallest_normal
SMALLEST = -87.0  # its exponential is just above the smallest normal number


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
    rest = _exp_in_place(logits - top.unsqueeze(-1)).mul(~mask).sum(-1)
    return (top - own) + torch.log1p(rest + torch.expm1(own - top)), own - rival


def _exp_in_place(x: Tensor) -> Tensor:
    """exp(x) of x at most about 0; where nothing is derived, what is below the smallest normal number is 0.

    Numbers below that cost a processor a hundred times as long, and networks far from a minimum have many.
    """
    if x.dtype != torch.float32 or not torch.is_inference_mode_enabled():
        return x.exp_()
    return torch.threshold_(x.clamp_(min=SMALLEST).exp_(), 2 * SMALLEST_NORMAL, 0.0)


def _own_and_rival(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The label's logit, the largest other, and where the label is."""
    labels = labels.long()  # PyTorch gathers by no other type
    classes = torch.arange(logits.shape[-1], device=labels.device)
    if logits.stride(-1) == 1:
        mask = labels.unsqueeze(-1) == classes
    else:  # samples follow each other in memory, not classes
        mask = (labels.unsqueeze(-2) == classes.unsqueeze(-1)).transpose(-1, -2)
    own = logits.gather(-1, labels.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return own, rival(logits, mask), mask


def _fit_classes(loss: Loss, given: Given) -> Fit:
    shape, labels, class_axis = given.shape, given.targets, given.class_axis
    if class_axis is not None and not (
        is_whole(class_axis) and -len(shape) < class_axis < len(shape) and class_axis % len(shape)
    ):
        raise ConfigError(
            f"class_axis {class_axis!r} is not an axis of outputs of shape {shape} (a whole number; axis 0 counts samples)"
        )
    if len(shape) < 2:
        raise ConfigError(f"cross_entropy needs outputs of shape (samples, classes, ...), got {shape}")
    axes = list(dict.fromkeys([1, len(shape) - 1] if class_axis is None else [class_axis % len(shape)]))
    fitting = [axis for axis in axes if shape[:axis] + shape[axis + 1 :] == tuple(labels.shape)]
    if not fitting or not _are_integers(labels):
        wanted = " or ".join(str(shape[:axis] + shape[axis + 1 :]) for axis in axes)
        raise ConfigError(
            f"cross_entropy needs integer labels of shape {wanted} for outputs of shape {shape}, got {labels.dtype} {tuple(labels.shape)}"
        )
    axis, labels = fitting[0], labels.long()  # unsigned ones have no minimum in PyTorch
    if int(labels.min()) < 0 or int(labels.max()) >= shape[axis]:
        raise ConfigError(
            f"cross_entropy: labels go from {int(labels.min())} to {int(labels.max())}, the model has {shape[axis]} outputs"
        )
    note = None
    if len(fitting) > 1:
        note = f"outputs of shape {shape} were read as PyTorch has them, classes along axis 1 (class_axis=-1 takes the last axis)"
    if axis != len(shape) - 1:
        loss = replace(loss, arrange=partial(_classes_last, axis))
    return Fit(loss, labels, note)


def _classes_last(axis: int, outputs: Tensor, batch_dims: int) -> Tensor:
    return outputs.movedim(axis + batch_dims, -1)


def _class_entropy(labels: Tensor) -> float:
    """Entropy of the class frequencies, -sum_k p_k log p_k; with tokens, every one counts."""
    if not _are_integers(labels) or int(labels.long().min()) < 0:
        raise ConfigError(f"cross_entropy needs integer labels of at least 0, got {_described(labels)}")
    return _entropy(labels.long().flatten().bincount().double() / labels.numel())


def _are_integers(labels: Tensor) -> bool:
    return not labels.is_floating_point() and not labels.is_complex()


def _described(labels: Tensor) -> str:
    if labels.is_complex():
        return str(labels.dtype)
    wide = labels.long() if _are_integers(labels) else labels.double()
    return f"{labels.dtype} from {wide.min().item():g} to {wide.max().item():g}"


def _entropy(shares: Tensor) -> float:
    return float(torch.special.entr(shares).sum())


def _softmax_root(logits: Tensor) -> Root:
    p = logits.softmax(-1)
    root = p.sqrt()
    tokens = math.sqrt(logits[0].numel() // logits.shape[-1])
    return lambda e: (root * e - p * (root * e).sum(-1, keepdim=True)) / tokens


def _binary_elements(logits: Tensor, labels: Tensor) -> Tensor:
    """-y log s(z) - (1 - y) log s(-z), s the sigmoid; torch's (1 - y) z - log s(z) loses a loss of 1e-5 with label 0 to rounding."""
    logits = logits.squeeze(-1)
    if not _quickly(logits):
        return F.binary_cross_entropy_with_logits(logits, labels.expand(logits.shape), reduction="none")
    return -labels * _log_sigmoid(logits) - (1 - labels) * _log_sigmoid(-logits)


def _hard_elements(logits: Tensor, labels: Tensor) -> Tensor:
    """The same for labels that are 0 or 1: -log s(z) or -log s(-z)."""
    if not _quickly(logits):
        return _binary_elements(logits, labels)
    return _log_sigmoid(_binary_margins(logits, labels)).neg_()


def _quickly(logits: Tensor) -> bool:
    """Whether nothing is to be differentiated, in single precision."""
    return logits.dtype == torch.float32 and torch.is_inference_mode_enabled()


def _log_sigmoid(x: Tensor) -> Tensor:
    """As torch has it, but quick where exp(-|x|) is below the smallest normal number: x below zero, 0 above."""
    inner = F.logsigmoid(x.clamp(SMALLEST, -SMALLEST))
    return torch.minimum(x, F.hardshrink(inner, 2 * SMALLEST_NORMAL))


def _binary_margins(logits: Tensor, labels: Tensor) -> Tensor:
    return (2 * labels - 1) * logits.squeeze(-1)


def _fit_binary(loss: Loss, given: Given) -> Fit:
    given.refuse_class_axis(loss)
    shape, labels = given.shape, given.targets
    own = tuple(labels.shape)
    if without_ones(own) != without_ones(shape) or own[:1] != shape[:1]:
        raise ConfigError(f"bce_with_logits needs one label for each output: outputs {shape}, labels {own}")
    _check_binary(labels)
    if len(shape) != 2:
        loss = replace(loss, arrange=one_row)
    rows = labels.reshape(shape[0], -1).to(given.dtype)
    if bool(((rows == 0) | (rows == 1)).all()):
        loss = replace(loss, elements=_hard_elements)
    return Fit(loss, rows.squeeze(1) if rows.shape[1] == 1 else rows)


def _check_binary(labels: Tensor) -> None:
    if labels.is_complex() or not bool(((labels.double() >= 0) & (labels.double() <= 1)).all()):
        raise ConfigError(f"bce_with_logits: labels are {_described(labels)}, allowed are real numbers from 0 to 1")


def _binary_entropy(labels: Tensor) -> float:
    """Entropy of the mean label of each output, averaged over outputs."""
    _check_binary(labels)
    share = labels.double().reshape(len(labels), -1).mean(0)
    return _entropy(torch.stack([share, 1 - share])) / len(share)


def _sigmoid_root(logits: Tensor) -> Root:
    root = (logits.sigmoid() * (-logits).sigmoid() / logits[0].numel()).sqrt()
    return lambda e: root * e


CROSS_ENTROPY = Loss(
    "cross_entropy",
    cross_entropy_elements,
    class_margins,
    _fit_classes,
    _class_entropy,
    _softmax_root,
    both=cross_entropy_and_margins,
    non_negative=True,
    torch_name="cross_entropy",
    trial_threshold=2.0,
)
BINARY = Loss(
    "bce_with_logits",
    _binary_elements,
    _binary_margins,
    _fit_binary,
    _binary_entropy,
    _sigmoid_root,
    non_negative=True,
    torch_name="binary_cross_entropy_with_logits",
    trial_threshold=0.68,
)
