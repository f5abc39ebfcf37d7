"""What a user gives: a model, its samples and a device; checked, and made ready for a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import host_of
from minima_volume.hosts.host import Host, check_initialised
from minima_volume.losses.loss import LossLike
from minima_volume.numerals import listed
from minima_volume.perturbation.names import SHOWN, perturbed_names
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
    if without := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise ConfigError(
            f"parameters on the meta device have no values: {', '.join(without[:SHOWN])}; load the weights first"
        )
    note, source = None, None
    if isinstance(x, DataLoader | Dataset):
        if y is not None:
            raise ConfigError(f"x is a {type(x).__name__}, which has the targets too: leave y out")
        source = type(x).__name__
        x, y = from_loader(x)
        note = f"{count(x):,} samples were read once from the {source}"
    elif y is None:
        raise ConfigError("y is missing: give the targets, or a DataLoader or Dataset of (inputs, targets) as x")
    numbers = [check(name, values) for name, values in (("x", x), ("y", y))]
    if numbers[0] != numbers[1]:
        raise ConfigError(f"x has {numbers[0]} samples, y has {numbers[1]}; they must be equally many")
    check_types(model, x, source)
    return x, y, note


def check_types(model: nn.Module, x: Samples, source: str | None = None) -> None:
    """Refuse samples of a floating-point type that no parameter of the model has.

    Args:
        model: the model.
        x: its samples.
        source: what they were read from, if they were not given as tensors.

    Raises:
        ConfigError: names both types and how to convert the samples.
    """
    types = list(dict.fromkeys(p.dtype for p in model.parameters() if p.is_floating_point()))
    wrong = next((t.dtype for t in tensors(x) if t.is_floating_point() and t.dtype not in types), None)
    if wrong is None or not types:
        return
    if source is not None:
        way = f"let the {source} give inputs of {types[0]}"
    else:
        way = (
            f"convert it with x.to({types[0]})"
            if isinstance(x, Tensor)
            else f"convert each tensor with .to({types[0]})"
        )
    raise ConfigError(f"x is {wrong}, the model {' and '.join(map(str, types))}; {way}")


def perturbed_type(model: nn.Module, names: Sequence[str]) -> torch.dtype:
    """The floating-point type of the first of these parameters; others may be of another.

    Raises:
        ConfigError: one is of no such type, quantised or complex, so that no normal number can be added to it.
    """
    have = dict(model.named_parameters())
    if bad := [f"{name} ({have[name].dtype})" for name in names if not have[name].is_floating_point()]:
        raise ConfigError(
            f"parameters {listed(bad, SHOWN)} are not floating-point numbers, and only such can be perturbed; "
            "choose others with names=[...]"
        )
    return have[names[0]].dtype


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
    chosen = perturbed_names(model, names)
    perturbed_type(model, chosen)
    host = host_of(model, x, chosen, target, (loss, y))
    return host, each(x, lambda tensor: tensor.to(target)), each(y, lambda tensor: tensor.to(target)), note


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r} is not known; allowed: cpu, cuda or cuda:<index>") from error
    try:
        usable = found.type != "meta" and torch.empty(1, device=found).device.type == found.type
    except Exception:  # what is raised is the back end's business
        usable = False
    if not usable:
        raise ConfigError(f"device {device!r}: this machine has no usable {str(found).upper()} device; take cpu")
    return found
