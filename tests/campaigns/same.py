"""Whether two contents are the same to the bit."""

from __future__ import annotations

import numpy as np
import torch


def same(first: object, second: object) -> bool:
    """Of nested dictionaries, lists, arrays and tensors; NaN is NaN."""
    if isinstance(first, dict) and isinstance(second, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and same(first.numpy(), second.numpy())
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    return type(first) is type(second) and (first == second or (first != first and second != second))


def differences(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """The files that only one has, or that differ."""
    return sorted(name for name in first.keys() | second.keys() if not same(first.get(name), second.get(name)))
