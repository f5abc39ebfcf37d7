"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Flatten, then Linear + ReLU for each hidden width, then a Linear output.

    Args:
        input_shape: shape of one sample.
        num_outputs: outputs.
        hidden: widths of the hidden layers.
    """

    def __init__(self, input_shape: Sequence[int], num_outputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        size = 1
        for extent in input_shape:
            size *= extent
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        self.layers = nn.Sequential(*layers, nn.Linear(size, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
