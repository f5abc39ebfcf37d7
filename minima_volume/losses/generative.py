"""Losses of autoencoders: the evidence lower bound in nats, and sparse coding. Everything is summed over a sample's features.

Source: Kingma and Welling 2014 for the bound; Higgins et al. 2017 for beta; Bricken et al. 2023 for sparse autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Likelihood(Protocol):
    """p(x | z) of a decoder.

    Attributes:
        inputs: features that the encoder sees per sample.
        outputs: numbers that the decoder gives per sample.
    """

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    def features(self, x: Tensor) -> Tensor:
        """Samples (B, ...) as the encoder sees them, (B, inputs)."""
        ...

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x | z) in nats, shape (B,), of decoder outputs (B, outputs)."""
        ...

    def mean(self, parameters: Tensor) -> Tensor:
        """The reconstruction (B, ...) in the shape of the samples; of a category the most probable code."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent normals with one standard deviation.

    Attributes:
        shape: of a sample.
        scale: the standard deviation.
    """

    shape: tuple[int, ...]
    scale: float = 1.0

    @property
    def inputs(self) -> int:
        return math.prod(self.shape)

    outputs = inputs

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return _normal(parameters, x.flatten(1), self.scale).sum(-1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.unflatten(-1, self.shape)


@dataclass(frozen=True)
class Bernoulli:
    """Independent pixels, given as logits; grey pixels x in [0, 1] have x log p + (1 - x) log(1 - p).

    Attributes:
        shape: of a sample.
    """

    shape: tuple[int, ...]

    @property
    def inputs(self) -> int:
        return math.prod(self.shape)

    outputs = inputs

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(parameters, x.flatten(1), reduction="none").sum(-1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.sigmoid().unflatten(-1, self.shape)


@dataclass(frozen=True)
class Columns:
    """A table: numbers with one standard deviation, then categories as codes 0, 1, ...

    Attributes:
        numbers: columns of numbers, which come first.
        cardinalities: how many categories each further column has.
        scale: the standard deviation of the numbers.
    """

    numbers: int
    cardinalities: tuple[int, ...]
    scale: float = 1.0

    @property
    def inputs(self) -> int:
        return self.numbers + sum(self.cardinalities)

    outputs = inputs

    def features(self, x: Tensor) -> Tensor:
        codes = x[:, self.numbers :].split(1, dim=1)
        hot = [
            (code == torch.arange(size, device=x.device)).to(x.dtype)
            for code, size in zip(codes, self.cardinalities, strict=bool(self.cardinalities))
        ]
        return torch.cat([x[:, : self.numbers], *hot], dim=1)

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        numbers, *logits = parameters.split([self.numbers, *self.cardinalities], dim=-1)
        total = _normal(numbers, x[:, : self.numbers], self.scale).sum(-1)
        for column, scores in enumerate(logits, self.numbers):
            code = x[:, column].long().unsqueeze(-1)
            total = total + scores.log_softmax(-1).gather(-1, code).squeeze(-1)
        return total

    def mean(self, parameters: Tensor) -> Tensor:
        numbers, *logits = parameters.split([self.numbers, *self.cardinalities], dim=-1)
        return torch.cat([numbers, *(scores.argmax(-1, keepdim=True).to(numbers.dtype) for scores in logits)], dim=-1)


def _normal(mean: Tensor, x: Tensor, scale: float) -> Tensor:
    return -0.5 * ((x - mean) / scale).square() - math.log(scale) - 0.5 * math.log(2 * math.pi)


def kl_per_dimension(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, elementwise.

    >>> kl_per_dimension(torch.tensor([0.0, 2.0]), torch.zeros(2)).tolist()
    [0.0, 2.0]
    """
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


@dataclass(frozen=True)
class VAELoss:
    """reconstruction_weight * -log p(x | z) + beta * KL(q(z | x) || p(z)), per sample in nats; with both weights 1 the negative ELBO.

    Called with the outputs of a `VAE` and the samples.

    Attributes:
        likelihood: of the decoder.
        beta: weight of the KL term.
        reconstruction_weight: of the other.
    """

    likelihood: Likelihood
    beta: float = 1.0
    reconstruction_weight: float = 1.0

    def __call__(self, outputs: Mapping[str, Tensor], x: Tensor) -> Tensor:
        reconstruction = -self.likelihood.log_prob(outputs["parameters"], x)
        kl = kl_per_dimension(outputs["mean"], outputs["log_variance"]).sum(-1)
        return self.reconstruction_weight * reconstruction + self.beta * kl


@dataclass(frozen=True)
class SAELoss:
    """reconstruction_weight * |x - x'|^2 + sparsity_weight * |code|_1, per sample; atoms have norm 1, so the L1 norm has a scale.

    Called with the outputs of an `SAE` and the samples.
    """

    sparsity_weight: float = 0.0
    reconstruction_weight: float = 1.0

    def __call__(self, outputs: Mapping[str, Tensor], x: Tensor) -> Tensor:
        error = (outputs["reconstruction"] - x).flatten(1).square().sum(-1)
        return self.reconstruction_weight * error + self.sparsity_weight * outputs["code"].abs().sum(-1)
