"""Variational autoencoder: a normal posterior with diagonal covariance, a standard normal prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.losses.generative import Likelihood


class VAE(nn.Module):
    """Encoder and decoder are multilayer perceptrons; with `channels` there are convolutions before and after them.

    Args:
        likelihood: of a sample given its latent variables; says how many features there are.
        latent_dim: latent variables.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse.
        channels: of convolutions 3 x 3 with stride 2, each of which halves height and width; None: no convolutions.
        input_shape: (channels, height, width) of a sample, for convolutions.

    Source: Kingma and Welling 2014, "Auto-Encoding Variational Bayes".
    """

    def __init__(
        self,
        likelihood: Likelihood,
        latent_dim: int,
        hidden_dims: Sequence[int] = (400,),
        channels: Sequence[int] | None = None,
        input_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.likelihood, self.latent_dim = likelihood, latent_dim
        before, after, inner = (nn.Identity(), nn.Identity(), likelihood.inputs)
        outer = likelihood.outputs
        if channels:
            if len(input_shape) != 3:
                raise ConfigError(
                    f"model.params.channels needs samples of shape (channels, height, width), got {tuple(input_shape)}"
                )
            before, after, inner = _convolutions(input_shape, channels)  # type: ignore[assignment]
            outer = inner
        widths = [inner, *hidden_dims]
        self.encoder = nn.Sequential(before, *_layers([*widths, 2 * latent_dim]))
        self.decoder = nn.Sequential(*_layers([latent_dim, *reversed(hidden_dims), outer]), after)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), (B, latent_dim) each."""
        mean, log_variance = self.encoder(self.likelihood.features(x)).chunk(2, dim=-1)
        return mean, log_variance

    def forward(self, x: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """The decoder's outputs at one draw of the latent variables.

        Args:
            x: samples (B, ...).
            noise: standard normals (B, latent_dim) of the draw; None: drawn in training mode, 0 in evaluation mode.

        Returns:
            `parameters` (B, outputs) of the likelihood; `mean` and `log_variance` (B, latent_dim) of the posterior.
        """
        mean, log_variance = self.encode(x)
        if noise is None and self.training:
            noise = torch.randn_like(mean)
        z = mean if noise is None else mean + (log_variance / 2).exp() * noise
        return {"parameters": self.decoder(z), "mean": mean, "log_variance": log_variance}

    def embed(self, x: Tensor) -> Tensor:
        """Posterior means (B, latent_dim)."""
        return self.encode(x)[0]

    def predict(self, x: Tensor) -> Tensor:
        """Reconstructions (B, ...) from the posterior means."""
        return self.likelihood.mean(self.decoder(self.embed(x)))

    def log_likelihood(self, x: Tensor, noise: Tensor) -> Tensor:
        """log of the mean of p(x, z) / q(z | x) over draws of z: a lower bound of log p(x) that is tight with many draws.

        Args:
            x: samples (B, ...).
            noise: standard normals (draws, B, latent_dim).

        Returns:
            (B,) in nats.

        Source: Burda et al. 2016, "Importance Weighted Autoencoders".
        """
        mean, log_variance = self.encode(x)
        weights = []
        for draw in noise:
            z = mean + (log_variance / 2).exp() * draw
            prior_to_posterior = 0.5 * (draw.square() + log_variance - z.square()).sum(-1)
            weights.append(self.likelihood.log_prob(self.decoder(z), x) + prior_to_posterior)
        return torch.stack(weights).logsumexp(0) - math.log(len(noise))


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return layers[:-1]


def _convolutions(shape: Sequence[int], channels: Sequence[int]) -> tuple[nn.Module, nn.Module, int]:
    """Flat pixels to flat features, back, and how many features there are."""
    depth, height, width = shape
    down: list[nn.Module] = [nn.Unflatten(1, tuple(shape))]
    up: list[nn.Module] = []
    for out in channels:
        down += [nn.Conv2d(depth, out, 3, stride=2, padding=1), nn.ReLU()]
        padding = ((height + 1) % 2, (width + 1) % 2)
        up = [nn.ReLU(), nn.ConvTranspose2d(out, depth, 3, 2, padding=1, output_padding=padding), *up]
        depth, height, width = out, (height + 1) // 2, (width + 1) // 2
    down.append(nn.Flatten())
    back = [up[0], nn.Unflatten(1, (depth, height, width)), *up[1:], nn.Flatten()]
    return nn.Sequential(*down), nn.Sequential(*back), depth * height * width
