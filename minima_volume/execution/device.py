"""Where and with how many threads numbers are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from minima_volume.config.sections import Executable
from minima_volume.errors import ConfigError


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
    return torch.device(name)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, then as before: results differ in the last digits between thread counts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
