"""Losses by name, and the check of a loss, a model's outputs and targets against each other."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.files.user_code import load_object
from minima_volume.losses.classification import BINARY, CROSS_ENTROPY
from minima_volume.losses.loss import Fit, Given, Loss, LossLike
from minima_volume.losses.regression import MSE
from minima_volume.samples import count, each, part

# what config.yaml may name is listed in `config.sections.BUILT_IN_LOSSES`
LOSSES = {loss.name: loss for loss in (CROSS_ENTROPY, BINARY, MSE)}
TORCH_MODULES: dict[type[nn.Module], Loss] = {
    nn.CrossEntropyLoss: CROSS_ENTROPY,
    nn.BCEWithLogitsLoss: BINARY,
    nn.MSELoss: MSE,
}


def get_loss(loss: LossLike, folder: Path | None = None) -> Loss:
    """A loss by name, or a callable (outputs, targets) -> per-sample losses of shape (samples,), or one loss of all samples.

    Args:
        loss: a built-in name; `<module>:<function>`, the path of such a callable; the callable; or a `Loss`, which stays as it is. A
            callable with the attribute `nonnegative = True` says that it gives no value below 0.
        folder: the run folder that the module's .py file lies in or below, see `files.user_code`.

    Raises:
        ConfigError: no such loss.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and ":" in loss:
        found = load_object(loss, folder, "training.loss")
        if not callable(found) and not isinstance(found, Loss):
            raise ConfigError(f"training.loss: {loss!r} is {found!r}; name a function (outputs, targets) -> losses")
        return replace(get_loss(found), name=loss)
    if isinstance(loss, type):
        raise ConfigError(
            f"loss is the class {loss.__name__}; pass a function, or an instance that is called with (outputs, targets)"
        )
    if callable(loss):
        never_negative = bool(getattr(loss, "nonnegative", False))
        return Loss(getattr(loss, "__name__", type(loss).__name__), loss, batched=False, non_negative=never_negative)
    if loss not in LOSSES:
        raise ConfigError(
            f"loss {loss!r} is not known; allowed: {', '.join(LOSSES)}, or a callable (outputs, targets) -> losses"
        )
    return LOSSES[loss]


def fit(loss: Loss, some: Any, rows: int, targets: Any, class_axis: int | None = None) -> Fit:
    """Check a loss, a model's outputs and targets against each other, and say how the outputs are read.

    PyTorch's own cross-entropy, `BCEWithLogits` and MSE, as a module or function with its default settings, are the built-in losses of
    the same meaning, unless only PyTorch's takes these targets (probabilities of classes, ignored labels) or takes them otherwise (its MSE
    broadcasts outputs (N, 1) against targets (N,)).

    Outputs may be (N, C) or PyTorch's (N, C, d1, ...) for `cross_entropy`, with labels (N,) or (N, d1, ...); classes last, (N, d1,
    ..., C), if only that fits. `bce_with_logits` and `mse` take targets of the outputs' shape, up to extents of 1.

    Args:
        loss: the loss; a user's function takes outputs and targets as they are.
        some: outputs of the model for a few samples.
        rows: how many samples these were.
        targets: as the user gave them, (N, ...).
        class_axis: which axis of the outputs counts the classes; by default axis 1, else the last.

    Raises:
        ConfigError: the model gives no tensor with one row per sample, the shapes do not belong together, or a label is out of range.
    """
    note = None
    if same := built_in(loss):
        note = _broadcast(same, some, rows, targets)
    if same and not note:
        with contextlib.suppress(ConfigError):  # PyTorch's classes are axis 1
            return fit(same, some, rows, targets, 1 if same is CROSS_ENTROPY else None)
    if loss.prepare is None:
        loss.per_sample(each(some, torch.clone), part(targets, 0, rows))
        whole = loss.returns_one(some, part(targets, 0, rows))
        return Fit(replace(loss, whole=whole), targets, note, apart=whole)
    if not isinstance(some, Tensor):
        raise ConfigError(
            f"the model returns a {type(some).__name__}; loss {loss.name!r} takes one tensor: give a loss of your own that takes "
            f"what the model returns, for example lambda outputs, targets: F.{loss.torch_name}({_first(some)}, targets, reduction='none')"
        )
    samples = count(targets)
    if not isinstance(targets, Tensor):
        raise ConfigError(f"loss {loss.name!r} takes one tensor of targets, got a {type(targets).__name__}")
    if samples < rows:
        raise ConfigError(f"{loss.name}: there are outputs for {rows} samples, but {samples} targets")
    if (some.ndim == 0 and rows > 1) or (some.ndim and len(some) != rows):
        raise ConfigError(
            f"the model must return one row per sample: for {rows} samples it gives outputs of shape {tuple(some.shape)}"
        )
    return loss.prepare(loss, Given((samples, *some.shape[1:]), some.dtype, targets, class_axis))


def _broadcast(same: Loss, some: Any, rows: int, targets: Any) -> str | None:
    """What to say where PyTorch's loss would broadcast outputs and targets, and the built-in one pairs them; None where both are the same."""
    if same is not MSE or not isinstance(some, Tensor) or not isinstance(targets, Tensor):
        return None
    outputs, given = tuple(some.shape), (rows, *targets.shape[1:])
    if outputs == given:
        return None
    return (
        f"outputs of shape {outputs} were compared with targets of shape {given} as PyTorch's MSE broadcasts them; loss='mse' pairs each output "
        "with its own target"
    )


def reads_outputs_alone(loss: Loss) -> bool:
    """Whether a loss is known to depend on outputs and targets alone; a user's own function may read a model, too."""
    return loss.batched or built_in(loss) is not None


def built_in(loss: Loss) -> Loss | None:
    """The built-in loss that a module or function of PyTorch is, if it is one."""
    own: Any = loss.elements
    for kind, same in TORCH_MODULES.items():
        if own is getattr(F, str(same.torch_name)):
            return same
        if type(own) is kind:
            plain = {**_settings(kind()), "reduction": own.reduction}
            if own.reduction in ("mean", "none") and _settings(own) == plain and not own.state_dict():
                return same
    return None


def _settings(module: nn.Module) -> dict[str, Any]:
    """What was set on a module of PyTorch, hooks too."""
    return {name: value for name, value in vars(module).items() if name not in ("training", "_buffers")}


def _first(outputs: Any) -> str:
    """How to take the first output, as code."""
    if isinstance(outputs, tuple | list):
        return "outputs[0]"
    names = list(outputs) if isinstance(outputs, dict) else [name for name in vars(outputs) if name[0] != "_"]
    return (
        f"outputs[{names[0]!r}]" if isinstance(outputs, dict) and names else f"outputs.{names[0] if names else '...'}"
    )
