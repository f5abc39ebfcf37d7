"""Outputs of a model, whatever they are, and whether two passes gave the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minima_volume.samples import tensors

ROUNDING = 1e3  # differences of this many units in the last place of the largest output are rounding
MASK = 1e3  # what is at least so large, so many times larger than all that differs, and itself the same to the bit, is a mask


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
    """Equal but for rounding. Masked outputs, of -1e9 for example, say nothing of how large others are."""
    pairs = _pairs(first, second)
    if pairs is None:
        return False
    for a, b in pairs:
        if not a.is_floating_point():
            if not torch.equal(a, b):
                return False
            continue
        scale = _scale(a, b) if a.numel() else 0.0
        if not torch.allclose(a, b, rtol=0, atol=ROUNDING * torch.finfo(a.dtype).eps * scale, equal_nan=True):
            return False
    return True


def _scale(a: Tensor, b: Tensor) -> float:
    """The largest entry of two outputs, masks aside."""
    largest = torch.maximum(*(tensor.nan_to_num(0, 0, 0).abs() for tensor in (a, b)))
    differing = float(torch.where(a == b, 0, largest).max())
    masks = (a == b) & (largest >= MASK) & (largest > MASK * differing)
    return float(torch.where(masks, 0, largest).max())


def identical(first: Any, second: Any) -> bool:
    pairs = _pairs(first, second)
    return pairs is not None and all(torch.equal(a, b) for a, b in pairs)


def _pairs(first: Any, second: Any) -> list[tuple[Tensor, Tensor]] | None:
    """Corresponding tensors of two outputs; None if these are of another shape."""
    a, b = (detached(outputs) for outputs in (first, second))
    if [tensor.shape for tensor in a] != [tensor.shape for tensor in b]:
        return None
    return list(zip(a, b, strict=True))
