"""A .pt whose archive was checked, read as fast as may be: numbers by C's unpickler, which may make nothing but dictionaries and tensors.

`torch.load(weights_only=True)` is an unpickler in Python, and takes a microsecond for each number of a long history.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from types import ModuleType
from typing import Any, BinaryIO

import torch
from torch._utils import _rebuild_tensor_v2

MAY_MAKE = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
}


class _Plain(pickle.Unpickler):
    """Makes dictionaries and tensors, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in MAY_MAKE:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return MAY_MAKE[module, name]


PICKLE = ModuleType("plain_pickle")  # as `torch.load` wants it
PICKLE.Unpickler = _Plain  # type: ignore[attr-defined]


def load_skimmed(file: BinaryIO) -> Any:
    """What `torch.load(weights_only=True)` returns for a file that `write_pt` wrote; `check_archive` has looked at it.

    Raises:
        UnpicklingError: it needs other functions or classes.
    """
    return torch.load(file, map_location="cpu", weights_only=False, pickle_module=PICKLE)
