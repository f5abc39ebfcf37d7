"""Where and with how many threads numbers are computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from minima_volume.config.sections import Executable
from minima_volume.errors import ConfigError

# what torch's allocators say, and sizes that pass 2^63
TOO_LARGE = re.compile(
    "tried to allocate [0-9.]+ [a-z]+|cannot allocate memory|out of memory|overflow when unpacking|size calculation overflow",
    re.IGNORECASE,
)


def usable_device(config: Executable) -> torch.device:
    """The configured device, checked to be there."""
    return checked_device(config.experiment.device)


def checked_device(name: str) -> torch.device:
    """A device by its name.

    Raises:
        ConfigError: it is not there.
    """
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"experiment.device: {name!r}: this machine has no usable CUDA device; set it to cpu")
    device = torch.device(name)
    if (device.index or 0) >= (devices := max(1, torch.cuda.device_count())):
        raise ConfigError(f"experiment.device: {name!r}: this machine has {devices}, cuda:0 to cuda:{devices - 1}")
    return device


@contextmanager
def in_memory(what: str) -> Iterator[None]:
    """Work for which there may be too little memory, of this machine or its GPU.

    Args:
        what: would be too large then, with its settings.

    Raises:
        ConfigError: an allocation failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        found = TOO_LARGE.search(str(error))
        if found is None and not isinstance(error, MemoryError):
            raise
        reason = f" ({found[0]})" if found is not None else ""
        raise ConfigError(f"{what} needs more memory than there is{reason}; make it smaller") from error


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, then as before: results differ in the last digits between thread counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
