"""Random numbers: a generator of its own for each purpose; the global ones are never reseeded."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose, independent of the generators of other purposes with the same seed.

    >>> a, b = generator(0, "draw"), generator(0, "noise")
    >>> bool(torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b)))
    False
    """
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(2, np.uint32)
    return torch.Generator("cpu").manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def normals(source: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard normals in float32 from a CPU generator, whatever torch's default type and device are.

    >>> first, same = (normals(generator(0, "noise"), 2, 3) for _ in range(2))
    >>> bool((first == same).all()), first.dtype
    (True, torch.float32)
    """
    return torch.randn(shape, generator=source, dtype=torch.float32, device="cpu")


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the global random numbers of Python, NumPy and PyTorch as they were."""
    before = random_states()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
        if len(before) > 3:
            torch.cuda.set_rng_state_all(before[3])


def random_states() -> tuple[Any, ...]:
    """The states of all global generators."""
    cuda = (torch.cuda.get_rng_state_all(),) if torch.cuda.is_available() and torch.cuda.is_initialized() else ()
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), *cuda  # noqa: NPY002


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """A global generator that begins at the model seed, and afterwards is as it was: layers such as dropout know no other.

    So a minimum does not depend on what was trained before it, nor on the process.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        own = generator(seed, "layers").initial_seed()
        torch.default_generator.manual_seed(own)
        if cuda:
            torch.cuda.manual_seed(own)
        yield
