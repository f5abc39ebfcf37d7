"""A module with the parameters of a stored model and nothing else: for those who read a run without running its code."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def stand_in(state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Parameters under the names that the stored model's have; it cannot compute anything.

    Args:
        state_dict: name -> tensor.

    >>> from torch import zeros
    >>> [name for name, _ in stand_in({"a.weight": zeros(2), "b": zeros(1)}).named_parameters()]
    ['b', 'a.weight']
    """
    root = nn.Module()
    for name, tensor in state_dict.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            if part not in place._modules:
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    return root
