"""What a user gives: a model, its samples and a device; checked, and made ready for a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import host_of
from minima_volume.hosts.host import Host, check_initialised
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.directions import perturbed_names
from minima_volume.samples import Samples, check, count, each, from_loader, tensors


def read_samples(model: nn.Module, x: Any, y: Any) -> tuple[Samples, Any, str | None]:
    """The samples as tensors, checked, and a note where they were read from a DataLoader or Dataset.

    Raises:
        ConfigError: the model or its samples are not what every measure needs.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    if next(model.parameters(), None) is None:
        raise ConfigError(f"model {type(model).__name__} has no parameters: there is nothing to perturb")
    check_initialised(model)
    note = None
    if isinstance(x, DataLoader | Dataset):
        if y is not None:
            raise ConfigError(f"x is a {type(x).__name__}, which has the targets too: leave y out")
        kind = type(x).__name__
        x, y = from_loader(x)
        note = f"{count(x):,} samples were read once from the {kind}"
    elif y is None:
        raise ConfigError("y is missing: give the targets, or a DataLoader or Dataset of (inputs, targets) as x")
    numbers = [check(name, values) for name, values in (("x", x), ("y", y))]
    if numbers[0] != numbers[1]:
        raise ConfigError(f"x has {numbers[0]} samples, y has {numbers[1]}; they must be equally many")
    return x, y, note


def prepare(
    model: nn.Module, x: Any, y: Any, names: str | Sequence[str], device: str | torch.device | None, loss: LossLike
) -> tuple[Host, Samples, Any, str | None]:
    """Where a user's model is measured, with its samples on one device, and a note on them.

    Raises:
        ConfigError: what was given cannot be measured; says what is wrong.
    """
    x, y, note = read_samples(model, x, y)
    first = next(model.parameters())
    target = first.device if device is None else _device(device)
    x, y = (each(values, lambda tensor: tensor.to(first.device)) for values in (x, y))
    for tensor in tensors(x):
        if tensor.is_floating_point() and tensor.dtype != first.dtype:
            raise ConfigError(f"x is {tensor.dtype}, the model {first.dtype}; convert it with x.to({first.dtype})")
    host = host_of(model, x, perturbed_names(model, names), target, (loss, y))
    return host, each(x, lambda tensor: tensor.to(target)), each(y, lambda tensor: tensor.to(target)), note


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r} is not known; allowed: cpu, cuda or cuda:<index>") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r}: this machine has no usable CUDA device; take cpu")
    return found
