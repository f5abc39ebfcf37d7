"""Numbers that do not depend on what the calling process has set: gradient modes, autocast, precision, default types and devices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from minima_volume.precision import full_precision

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def own_modes() -> Iterator[None]:
    """Inside the block gradients can be taken, nothing is cast by autocast, computed in fewer bits than it has or taken from torch's cache of
    parametrized weights, and numpy reports errors as it does by default.

    torch's default type and device stay the caller's: the forward pass of a user's model may rely on them. So the package states
    both wherever it makes a tensor.
    """
    with ExitStack() as held:
        held.enter_context(torch.inference_mode(False))
        held.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        held.enter_context(full_precision())
        held.enter_context(_parametrizations_computed())
        held.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


@contextmanager
def _parametrizations_computed() -> Iterator[None]:
    """Inside the block weights follow their parametrizations, also where the caller is within `parametrize.cached()`."""
    before = parametrize._cache_enabled
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = before


@contextmanager
def own_defaults() -> Iterator[None]:
    """`own_modes`, and torch's own default type and device: config.yaml alone decides what a run computes."""
    before = torch.get_default_dtype()
    with own_modes(), torch.device("cpu") if _default_device() != "cpu" else ExitStack():
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _default_device() -> str:
    """Where torch makes a tensor that says nothing of it; torch 2.4's `get_default_device` does not know of blocks under `with torch.device`."""
    return torch.empty(0).device.type


def isolated(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Call a function on a user's model and samples in `own_modes`; what was made in inference mode is copied out of it first."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with own_modes():
            own: dict[str, Any] = {name: _usable(value) for name, value in kwargs.items()}
            return function(*map(_usable, args), **own)

    return call


def _usable(value: Any) -> Any:
    """A tensor or module that autograd takes: one made in inference mode is copied, all else is handed on."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, nn.Module) and any(
        tensor.is_inference() for tensor in (*value.parameters(), *value.buffers()) if not nn.parameter.is_lazy(tensor)
    ):
        return copy.deepcopy(value)
    if type(value) in (list, tuple):
        return type(value)(map(_usable, value))
    return {key: _usable(part) for key, part in value.items()} if type(value) is dict else value
