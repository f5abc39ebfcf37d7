"""Mean squared error, with accuracy if the targets are one-hot."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.losses.loss import Fit, Given, Loss, Root, one_row, rival, without_ones


def squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the last dimension of (outputs - targets)^2."""
    return (outputs - targets).square().mean(-1)


def one_hot_margins(outputs: Tensor, targets: Tensor) -> Tensor:
    """The output of the class that a one-hot target names, minus the largest other output."""
    return (outputs * targets).sum(-1) - rival(outputs, targets > 0)


def is_one_hot(targets: Tensor) -> bool:
    """Whether targets (samples, classes) name classes: zeros and a single 1 in each row of at least two entries."""
    if targets.ndim != 2 or targets.shape[1] < 2:
        return False
    binary = bool(((targets == 0) | (targets == 1)).all())
    return binary and bool((targets.sum(-1) == 1).all())


def _prepare(loss: Loss, given: Given) -> Fit:
    given.refuse_class_axis(loss)
    shape, targets = given.shape, given.targets
    own = tuple(targets.shape)
    flat = min(len(own), len(shape)) <= 2 and targets.numel() == math.prod(shape)
    if own[:1] != shape[:1] or not (flat or without_ones(own) == without_ones(shape)):
        raise ConfigError(f"mse needs targets of the outputs' shape {shape}, got {own}")
    _refuse_complex(targets)
    if len(shape) == 1:
        loss, shape = replace(loss, arrange=one_row), (*shape, 1)
    ready = targets.reshape(shape).to(given.dtype)
    return Fit(replace(loss, margins=one_hot_margins if is_one_hot(ready) else None), ready)


def _refuse_complex(targets: Tensor) -> None:
    if targets.is_complex():
        raise ConfigError(f"mse needs real targets, got {targets.dtype}; real and imaginary parts can be two outputs")


def _variance(targets: Tensor) -> float:
    """The mean over outputs of their variance; targets one-hot over K balanced classes have (1 - 1/K) / K."""
    _refuse_complex(targets)
    return float(targets.double().var(dim=0, correction=0).mean())


def _hessian_root(outputs: Tensor) -> Root:
    return lambda e: e * math.sqrt(2 / outputs[0].numel())


MSE = Loss(
    "mse",
    squared_errors,
    prepare=_prepare,
    trivial=_variance,
    hessian_root=_hessian_root,
    non_negative=True,
    vector_targets=True,
    torch_name="mse_loss",
    trial_threshold=0.085,
)
