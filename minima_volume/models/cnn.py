"""Convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from minima_volume.errors import ConfigError


class CNN(nn.Module):
    """Conv 3 x 3 (padding 1) + ReLU + max-pool 2 for each of `channels`, then Linear + ReLU for each of `fc`, then a Linear output.

    Args:
        input_shape: (channels, height, width) of one sample.
        num_outputs: outputs.
        channels: output channels of the convolutions.
        fc: widths of the fully connected layers.
    """

    def __init__(
        self, input_shape: Sequence[int], num_outputs: int, channels: Sequence[int], fc: Sequence[int]
    ) -> None:
        super().__init__()
        if len(input_shape) != 3:
            raise ConfigError(f"model cnn needs samples of shape (channels, height, width), got {tuple(input_shape)}")
        depth, height, width = input_shape
        layers: list[nn.Module] = []
        for out in channels:
            layers += [nn.Conv2d(depth, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            depth, height, width = out, height // 2, width // 2
        if height * width == 0:
            raise ConfigError(
                f"model cnn: {len(channels)} poolings leave nothing of samples of shape {tuple(input_shape)}; give fewer channels"
            )
        layers.append(nn.Flatten())
        size = depth * height * width
        for out in fc:
            layers += [nn.Linear(size, out), nn.ReLU()]
            size = out
        self.layers = nn.Sequential(*layers, nn.Linear(size, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
