"""The published loop, written afresh from its description: the baseline to beat, and the truth to agree with.

Landscape, then model, then direction, then coefficient: the weights are moved in place by (c_k - c_{k-1}) times the direction, one
forward pass of the whole landscape gives mean loss and accuracy. All directions are generated beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions

Curve = dict[tuple[int, int], np.ndarray]


@torch.no_grad()
def published_sweep(
    models: Mapping[int, nn.Module],
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    sizes: Mapping[int, int],
    seeds: Sequence[int],
    coefficients: np.ndarray,
) -> Curve:
    """Losses (directions, coefficients) of every model of level >= landscape in every landscape.

    Args:
        models: level -> model.
        x, y: base, then additional samples.
        loss: (outputs, targets) -> mean loss.
        sizes: level -> samples of its landscape.
        seeds: of the directions.
        coefficients: increasing from 0.
    """
    every = {level: [Directions.of(model).draw(seed)[0] for seed in seeds] for level, model in models.items()}
    curves: Curve = {}
    for landscape, size in sizes.items():
        inputs, targets = x[:size], y[:size]
        for level, model in models.items():
            if level < landscape:
                continue
            found = np.empty((len(seeds), len(coefficients)))
            parameters = [
                parameter for name, parameter in model.named_parameters() if name.endswith(("weight", "bias"))
            ]
            before = [parameter.clone() for parameter in parameters]
            for d, direction in enumerate(every[level]):
                last = 0.0
                for k, c in enumerate(coefficients):
                    for parameter, step in zip(parameters, direction, strict=True):
                        parameter.add_(step, alpha=float(c - last))
                    last = c
                    outputs = model(inputs)
                    found[d, k] = loss(outputs, targets).item()
                    accuracy(outputs, targets)
                for parameter, saved in zip(parameters, before, strict=True):
                    parameter.copy_(saved)
            curves[landscape, level] = found
    return curves


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of right predictions."""
    if outputs.shape[-1] == 1:
        return ((outputs.squeeze(-1) > 0) == (targets > 0.5)).double().mean().item()
    labels = targets.argmax(-1) if targets.ndim > 1 else targets
    return (outputs.argmax(-1) == labels).double().mean().item()
