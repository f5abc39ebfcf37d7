"""The noise of the study: which tensors it hits, by how much, in training and in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions, scaling_factor
from minima_volume.perturbation.names import perturbed_names
from minima_volume.seeding import normals

SCALING, NAMES = "sample_std", "weights"


@dataclass(frozen=True)
class WeightNoise:
    """Noise of one training step: alpha * std(W) * z on each tensor called `weight`, except those of normalisation layers.

    std is the sample standard deviation of the tensor as it is at that step, at least 1e-8; z is standard normal.
    """

    alpha: float

    def __call__(self, model: nn.Module, generator: torch.Generator) -> list[Tensor | None]:
        """One tensor per parameter, None if it stays, see `training.weight_noise`."""
        chosen = set(perturbed_names(model, NAMES))
        return [self._of(p, generator) if name in chosen else None for name, p in model.named_parameters()]

    def _of(self, parameter: Tensor, generator: torch.Generator) -> Tensor:
        z = normals(generator, *parameter.shape).to(parameter.device, parameter.dtype)
        return z.mul_(self.alpha * scaling_factor(parameter, SCALING))


def noise_directions(model: nn.Module) -> Directions:
    """The directions of the test noise, from the weights as they are now: W + alpha * std(W) * z, z named by a seed.

    Networks of one architecture share z, so their accuracies under one seed are paired.
    """
    return Directions.of(model, SCALING, NAMES)


def steps(
    model: nn.Module, directions: Directions, seed: int, only: Sequence[str] | None = None
) -> list[Tensor | None]:
    """std(W) * z of a seed, one tensor per parameter of the model, None if it stays.

    Args:
        model: whose parameters are meant.
        directions: of the model.
        seed: of z.
        only: hit these tensors alone; z is the same as without.
    """
    drawn = dict(zip(directions.names, directions.draw(seed)[0], strict=True))
    kept = drawn if only is None else {name: drawn[name] for name in only}
    return [kept.get(name) for name, _ in model.named_parameters()]


def scaled(moves: Sequence[Tensor | None], alpha: float) -> list[Tensor | None]:
    """The steps at one alpha."""
    return [None if move is None else alpha * move for move in moves]


def tensor_report(model: nn.Module) -> list[dict[str, Any]]:
    """Every parameter: whether noise hits it, and by how much.

    Returns:
        Dictionaries with `tensor`, `entries`, `hit`, `deviation` (what alpha is multiplied by; None if not hit) and `relative_norm`: the
        norm of the noise at alpha = 1 over the norm of the tensor, sqrt(entries) * deviation / ||W||; None for a tensor of zeros.
    """
    directions = noise_directions(model)
    deviations = dict(zip(directions.names, directions.factors, strict=True))
    rows = []
    for name, parameter in model.named_parameters():
        hit = name in deviations
        deviation = float(deviations[name]) if hit else None
        norm = float(parameter.detach().norm())
        relative = deviation * parameter.numel() ** 0.5 / norm if deviation is not None and norm > 0 else None
        row = {"tensor": name, "entries": parameter.numel(), "hit": hit, "deviation": deviation}
        rows.append({**row, "relative_norm": relative})
    return rows
