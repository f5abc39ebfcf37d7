"""Adam's second moments: a curvature that training leaves behind for free."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError


def adam_second_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """exp_avg_sq, the running mean of squared gradients, by parameter name: copies on the CPU.

    Args:
        model: the trained model, or a copy of it.
        optimizer: what trained it; {} unless it is of Adam's kind and has taken a step.

    Raises:
        ConfigError: the optimiser's parameters are not the model's.

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    >>> sorted(adam_second_moments(model, optimizer))
    ['bias', 'weight']
    """
    moments = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        if isinstance(state.get("exp_avg_sq"), Tensor):
            moments[name] = state["exp_avg_sq"].detach().cpu().clone()
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ConfigError(
            f"{type(optimizer).__name__} does not optimise this model's parameters: give the optimiser that trained it"
        )
    return moments
