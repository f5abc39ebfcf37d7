"""Outputs of a model, whatever they are, and whether two passes gave the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minima_volume.samples import tensors

ROUNDING = 1e3  # differences of this many units in the last place of the largest output that differs are rounding


def plain(outputs: Any) -> Any:
    """Tensors, tuples and dictionaries; a dataclass as the dictionary of its fields, a list as a tuple."""
    if isinstance(outputs, Tensor | Mapping):
        return outputs
    if isinstance(outputs, tuple | list):
        return tuple(plain(item) for item in outputs)
    return dict(vars(outputs)) if hasattr(outputs, "__dict__") else outputs


def detached(outputs: Any) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors(plain(outputs))]


def close(first: Any, second: Any) -> bool:
    """Equal but for rounding. Outputs that are the same to the bit, such as masked ones of -1e9, say nothing of how large others are."""
    pairs = _pairs(first, second)
    if pairs is None:
        return False
    for a, b in pairs:
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return False
            continue
        differing = a.nan_to_num(0, 0, 0)[a != b]
        scale = float(differing.abs().max()) if differing.numel() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=ROUNDING * torch.finfo(a.dtype).eps * scale, equal_nan=True):
            return False
    return True


def identical(first: Any, second: Any) -> bool:
    pairs = _pairs(first, second)
    return pairs is not None and all(torch.equal(a, b) for a, b in pairs)


def _pairs(first: Any, second: Any) -> list[tuple[Tensor, Tensor]] | None:
    """Corresponding tensors of two outputs; None if these are of another shape."""
    a, b = (detached(outputs) for outputs in (first, second))
    if [tensor.shape for tensor in a] != [tensor.shape for tensor in b]:
        return None
    return list(zip(a, b, strict=True))
