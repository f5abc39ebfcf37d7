"""Numbers of float32 computed in float32, by the same algorithm each time.

On a GPU torch convolves float32 in TF32 (10 bits of mantissa) by default, and multiplies matrices so if told to; on processors that have the
instructions, matrices are multiplied in bfloat16 if told to. A loss is then off by up to a part in a thousand, and cuDNN may take another
algorithm each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside the block float32 is multiplied and convolved in float32, and cuDNN's algorithms are fixed and deterministic."""
    with ExitStack() as held:
        operations = _operations()
        for part in operations:
            held.callback(setattr, part, "fp32_precision", part.fp32_precision)
        _set(held, torch.backends.cudnn, "benchmark", False)
        _set(held, torch.backends.cudnn, "deterministic", True)
        # torch refuses to read these where those of the operations, which follow, say something else
        with suppress(RuntimeError) if operations else nullcontext():
            _set(held, torch.backends.cudnn, "allow_tf32", False)
            held.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        for part in operations:
            part.fp32_precision = "ieee"
        yield


def _set(held: ExitStack, place: Any, name: str, value: bool) -> None:
    before = getattr(place, name)
    if before != value:
        held.callback(setattr, place, name, before)
        setattr(place, name, value)


def _operations() -> list[Any]:
    """What has a precision of its own (torch 2.9 and newer)."""
    backends = torch.backends
    parts = [
        getattr(place, name, None)
        for place, names in (
            (backends.cuda, ("matmul",)),
            (backends.cudnn, ("conv", "rnn")),
            (backends.mkldnn, ("matmul", "conv", "rnn")),
        )
        for name in names
    ]
    return [part for part in parts if hasattr(part, "fp32_precision")]
