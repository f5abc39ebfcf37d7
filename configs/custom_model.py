"""A model and a loss of your own: a linear autoencoder, trained by configs/train_custom_model.yaml."""

from __future__ import annotations

import math

from torch import Tensor, nn


class LinearAutoencoder(nn.Module):
    """Called with the shape of a sample and model.params."""

    def __init__(self, input_shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        size = math.prod(input_shape)
        self.down = nn.Sequential(nn.Flatten(), nn.Linear(size, latent_dim))
        self.up = nn.Sequential(nn.Linear(latent_dim, size), nn.Unflatten(1, input_shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))

    def embed(self, x: Tensor) -> Tensor:
        """What `minima-volume embed` writes."""
        return self.down(x)


def squared_error(outputs: Tensor, x: Tensor, weight: float = 1.0) -> Tensor:
    """One loss per sample; keywords are loss.params."""
    return weight * (outputs - x).flatten(1).square().sum(1)
