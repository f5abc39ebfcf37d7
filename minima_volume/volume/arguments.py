"""What the front door accepts: a model, its samples, a threshold, a device."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.volume.crossings import Condition


def condition_of(threshold: float | None, accuracy_threshold: float | None) -> Condition:
    """What keeps a perturbed model inside, from the one of the two that was given."""
    if (threshold is None) == (accuracy_threshold is None):
        raise ConfigError("give either threshold (a loss) or accuracy_threshold (a fraction), not both or none")
    if threshold is not None:
        return Condition("loss", _number("threshold", threshold, np.inf, "it must be a positive loss"))
    allowed = "it must be above 0 and at most 1"
    return Condition("accuracy", _number("accuracy_threshold", accuracy_threshold, np.nextafter(1, 2), allowed))


def _number(name: str, value: Any, below: float, allowed: str) -> float:
    """One number above 0 and below a limit; a tensor or array of one is one."""
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not 0 < number < below:
        raise ConfigError(f"{name} {value!r} is not allowed: {allowed}")
    return number


def check_samples(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """What every measure needs of the model and its samples."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    if next(model.parameters(), None) is None:
        raise ConfigError(f"model {type(model).__name__} has no parameters: there is nothing to perturb")
    for name, values in (("x", x), ("y", y)):
        if not isinstance(values, Tensor):
            raise ConfigError(
                f"{name} is a {type(values).__module__}.{type(values).__name__}; it must be a torch.Tensor: "
                f"convert it with torch.as_tensor({name})"
            )
        if values.ndim == 0 or len(values) == 0:
            raise ConfigError(f"{name} has shape {tuple(values.shape)}; it must hold at least one sample")
        if bad := int((~values.isfinite()).reshape(len(values), -1).any(1).sum()):
            raise ConfigError(f"{name} holds NaN or infinite numbers in {bad} of {len(values)} samples")
    if len(x) != len(y):
        raise ConfigError(f"x has {len(x)} samples, y has {len(y)}; they must be equally many")


def on_device(
    model: nn.Module, x: Tensor, y: Tensor, device: str | torch.device | None
) -> tuple[nn.Module, Tensor, Tensor]:
    """All three on one device, once the model has taken a sample."""
    first = next(model.parameters())
    target = first.device if device is None else _device(device)
    if target != first.device:
        model = copy.deepcopy(model).to(target)
    x, y = x.to(target), y.to(target)
    if x.is_floating_point() and x.dtype != first.dtype:
        raise ConfigError(f"x is {x.dtype}, the model {first.dtype}; convert it with x.to({first.dtype})")
    try:
        with torch.no_grad():
            copy.deepcopy(model).eval()(x[:1].clone())
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        weights = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in [*model.named_parameters()][:2])
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{type(model).__name__} cannot take samples of shape {tuple(x.shape[1:])} (x has shape {tuple(x.shape)} and type "
            f"{x.dtype}; the model's first parameters are {weights}): {reason}"
        ) from error
    return model, x, y


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r} is not known; allowed: cpu, cuda or cuda:<index>") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this machine has no usable CUDA device; take cpu")
    return found
