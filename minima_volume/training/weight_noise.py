"""Training with noisy weights: each step's gradient is taken at weights that a random draw has moved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.training.gradient import Losses, backward, moved

Noise = Callable[[nn.Module, torch.Generator], Sequence[Tensor | None]]


@dataclass(frozen=True)
class AtNoisyWeights:
    """The gradient at p + noise: one draw per optimisation step serves the pass forward and backward; the step starts from p.

    Layers with running statistics (batch normalisation) update them in that pass, so from activations of the noisy weights.

    Attributes:
        noise: (model, generator) -> one tensor per parameter in the order of `model.parameters()`, of its shape and on its device,
            to be added to it; None for a parameter that gets no noise.
        generator: of the draws; a checkpoint keeps its state.
        moved_by: how messages call the noise.
    """

    noise: Noise
    generator: torch.Generator
    moved_by: str = "the weight noise"

    @property
    def generators(self) -> Mapping[str, torch.Generator]:
        return {"weight noise": self.generator}

    def __call__(self, model: nn.Module, losses: Losses) -> Tensor:
        """The losses returned are those at the noisy weights.

        Raises:
            ConfigError: the noise does not fit the parameters.
        """
        with noisy(model, self.draw(model)):
            return backward(losses)

    def draw(self, model: nn.Module) -> list[Tensor | None]:
        """The noise of the next step."""
        with torch.no_grad():
            return list(self.noise(model, self.generator))


def noisy(model: nn.Module, steps: Sequence[Tensor | None]) -> contextlib.AbstractContextManager[None]:
    """Inside the block the model's weights are moved by the steps; afterwards they are as before to the bit.

    Args:
        model: any module.
        steps: see `AtNoisyWeights.noise`.

    Raises:
        ConfigError: not one step per parameter, or of another shape.
    """
    named = list(model.named_parameters())
    if len(steps) != len(named):
        raise ConfigError(
            f"weight noise has {len(steps)} tensors, the model {len(named)} parameters; give one per parameter"
        )
    for (name, parameter), step in zip(named, steps, strict=True):
        if step is not None and step.shape != parameter.shape:
            raise ConfigError(
                f"weight noise of {name} has shape {tuple(step.shape)}, the parameter {tuple(parameter.shape)}"
            )
    return moved([parameter for _, parameter in named], steps)
