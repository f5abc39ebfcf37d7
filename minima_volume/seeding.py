"""Random numbers: a generator of its own for each purpose; the global ones are never reseeded."""

from __future__ import annotations

import zlib

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


def normals(random: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard normals in float32 from a CPU generator, whatever torch's default type and device are.

    >>> first, same = (normals(generator(0, "noise"), 2, 3) for _ in range(2))
    >>> bool((first == same).all()), first.dtype
    (True, torch.float32)
    """
    return torch.randn(shape, generator=random, dtype=torch.float32, device="cpu")
