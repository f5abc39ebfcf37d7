"""How one optimisation step gets its gradient: at the weights, or with the weights moved for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

Losses = Callable[[], Tensor]


class Gradient(Protocol):
    """Leaves in the parameters' `grad` what the optimiser's step uses, and the parameters as they were.

    Called with the model, whose gradients are cleared, and a function that runs a forward pass on the step's batch at the weights
    of that moment and returns per-sample losses (B,). Returns losses of one of its passes, without graph, for the record.
    """

    @property
    def generators(self) -> Mapping[str, torch.Generator]:
        """Its random generators by name, which a checkpoint keeps."""
        ...

    @property
    def moved_by(self) -> str:
        """What moves the weights for the gradient, as messages call it; empty if nothing does."""
        ...

    def __call__(self, model: nn.Module, losses: Losses) -> Tensor: ...


@dataclass(frozen=True)
class AtTheWeights:
    """The plain gradient."""

    generators: Mapping[str, torch.Generator] = field(default_factory=dict)
    moved_by: str = ""

    def __call__(self, model: nn.Module, losses: Losses) -> Tensor:
        return backward(losses)


def backward(losses: Losses) -> Tensor:
    """One pass forward and backward through the mean loss; the per-sample losses without their graph."""
    values = losses()
    values.mean().backward()
    return values.detach()


@contextmanager
def moved(parameters: Sequence[nn.Parameter], steps: Sequence[Tensor | None]) -> Iterator[None]:
    """Inside the block the parameters stand at p + step; afterwards they are as before to the bit, also after an exception.

    Args:
        parameters: of the model.
        steps: one per parameter, of its shape; None leaves it where it is.
    """
    pairs = [(p, step) for p, step in zip(parameters, steps, strict=True) if step is not None]
    before = [p.detach().clone() for p, _ in pairs]
    try:
        with torch.no_grad():
            for p, step in pairs:
                p.add_(step)
        yield
    finally:
        with torch.no_grad():
            for (p, _), start in zip(pairs, before, strict=True):
                p.copy_(start)
