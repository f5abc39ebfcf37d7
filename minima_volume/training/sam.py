"""Sharpness-aware minimisation: the step up, before the gradient that the optimiser uses is taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from minima_volume.config.sections import Sam
from minima_volume.training.gradient import Losses, backward, moved


@torch.no_grad()
def ascent(parameters: Iterable[nn.Parameter], settings: Sam) -> list[Tensor]:
    """The step e towards a larger loss, from the gradients g that the parameters p hold.

    SAM: e = rho g / ||g||. ASAM, which does not change when weights are rescaled: e = rho p^2 g / ||p g||. Norms are over
    all parameters together; a gradient of zero gives no step.

    Returns:
        e, one tensor per parameter.

    Source: Foret et al. 2021, "Sharpness-Aware Minimization", eq. 2; Kwon et al. 2021, "ASAM", eq. 12 with T = |p|.
    """
    pairs = [(p, torch.zeros_like(p) if p.grad is None else p.grad) for p in parameters]
    weighted = [p * g if settings.adaptive else g for p, g in pairs]
    norm = torch.stack([tensor.norm() for tensor in weighted]).norm()
    scale = torch.where(norm > 0, settings.rho / norm, torch.zeros_like(norm))
    return [scale * (p * w if settings.adaptive else w) for (p, _), w in zip(pairs, weighted, strict=True)]


@dataclass(frozen=True)
class AtTheAscent:
    """The gradient at p + e: a pass at the weights p gives the step e, a second pass there gives the gradient.

    Running statistics are those of the first pass alone.
    """

    settings: Sam
    generators: Mapping[str, torch.Generator] = field(default_factory=dict)

    @property
    def moved_by(self) -> str:
        return f"sam.rho ({self.settings.rho:g})"

    def __call__(self, model: nn.Module, losses: Losses) -> Tensor:
        """The losses returned are those at the weights p."""
        found = backward(losses)
        with ascended(model, self.settings):
            backward(losses)
        return found


@contextmanager
def ascended(model: nn.Module, settings: Sam) -> Iterator[None]:
    """Inside the block the model stands at p + e, with its gradients cleared and its running statistics at rest.

    The gradients that the block leaves behind are those of the optimiser's step, which starts from p again.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    with moved(parameters, ascent(parameters, settings)):
        model.zero_grad(set_to_none=True)
        for layer in layers:
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer in layers:
                layer.track_running_stats = True
