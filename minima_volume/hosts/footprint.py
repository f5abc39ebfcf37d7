"""How much memory a pass through a model takes, known before it is run on all samples."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PROBED = (2, 4)  # samples; batch normalisation needs two
KERNELS = 1.5  # what kernels use inside, convolutions backward above all, on top of the tensors that are seen


@dataclass(frozen=True)
class Footprint:
    """Memory at each moment of a pass, as a line in its number of samples.

    Gradients and the state of an optimiser do not grow with the samples, activations do, and their peaks come at different moments:
    the peak for many samples is not on the line through the peaks for few.

    Attributes:
        fixed: (moments,) bytes whatever the number of samples.
        per_sample: (moments,) bytes that each sample adds.
    """

    fixed: np.ndarray
    per_sample: np.ndarray

    @classmethod
    def of(cls, run: Callable[[int], object], known: Iterable[Tensor] = ()) -> Footprint:
        """Do a pass on 2 and on 4 samples, and draw lines through what was alive at each moment.

        Args:
            run: does the pass on the first so many samples; it leaves nothing behind that a second call would find.
            known: tensors that are there anyway and do not count: parameters, buffers, samples.
        """
        known = tuple(known)
        first, second = (_watched(lambda n=n: run(n), known) for n in PROBED)  # type: ignore[misc]
        few, many = np.array(first.live), np.array(second.live)
        if first.made_by != second.made_by:  # the pass itself depends on the number of samples
            few, many = few.max(keepdims=True), many.max(keepdims=True)
        slopes = np.maximum(0.0, (many - few) / (PROBED[1] - PROBED[0]))
        return cls(np.maximum(0.0, few - PROBED[0] * slopes), KERNELS * slopes)

    def bytes(self, samples: int) -> float:
        """Peak bytes of a pass on `samples` samples."""
        return float((self.fixed + self.per_sample * samples).max())

    def samples(self, room: float) -> int:
        """The most samples whose pass fits into `room` bytes, at least one."""
        grow = self.per_sample > 0
        return max(1, int(((room - self.fixed[grow]) / self.per_sample[grow]).min(initial=2.0**31)))


def _watched(run: Callable[[], object], known: Sequence[Tensor]) -> _Storages:
    with _Storages(known) as storages:
        run()
    return storages


class _Storages(TorchDispatchMode):
    """Watches which storages are alive.

    Attributes:
        made_by: the operation that made each new storage, None for the start.
        live: bytes alive after each.
    """

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.known = tuple(tensor.untyped_storage() for tensor in known)
        self.alive: dict[int, int] = {storage._cdata: 0 for storage in self.known}
        self.now = 0
        self.made_by: list[Any] = [None]
        self.live = [0]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import its compiler, for a second and a half in each process, in order to keep it away from here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._see(value, func)
        return made

    def _see(self, tensor: Tensor, func: Any) -> None:
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:  # a sparse tensor has none
            return
        key = storage._cdata
        if key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.live.append(self.now)
            self.made_by.append(func)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)
