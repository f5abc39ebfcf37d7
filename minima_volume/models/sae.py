"""Sparse autoencoder: samples as sums of few atoms of an overcomplete dictionary."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.99  # of the running threshold of batch_topk


class SAE(nn.Module):
    """code = act(W (x - b) + c), reconstruction = code D + b with atoms (rows of D) of norm 1.

    `l1` is ReLU, whose codes the loss makes sparse; `topk` keeps the k largest of each sample; `batch_topk` the k B largest of a batch of
    B in training, and what is above their running threshold in evaluation, so that a sample's code does not depend on the others.

    Args:
        input_dim: features of a sample.
        hidden_dim: atoms.
        activation: l1, topk or batch_topk.
        k: active atoms per sample, for the latter two.

    Source: Bricken et al. 2023; Gao et al. 2024, "Scaling and evaluating sparse autoencoders"; Bussmann et al. 2024 for batch_topk.
    """

    threshold: Tensor

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        activation: Literal["l1", "topk", "batch_topk"] = "l1",
        k: int | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.k = activation, k
        atoms = F.normalize(torch.randn(hidden_dim, input_dim), dim=1)
        self.encoder = nn.Linear(input_dim, hidden_dim)
        self.decoder = nn.Linear(hidden_dim, input_dim)
        with torch.no_grad():
            self.encoder.weight.copy_(atoms)
            self.decoder.weight.copy_(atoms.T)
            self.encoder.bias.zero_()
            self.decoder.bias.zero_()
        self.register_buffer("threshold", torch.tensor(-1.0))

    @property
    def atoms(self) -> Tensor:
        """The dictionary (hidden_dim, input_dim), rows of norm 1: the decoder's weight matters only by its directions."""
        return F.normalize(self.decoder.weight, dim=0).T

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Samples (B, ...) -> `reconstruction` in their shape, `code` (B, hidden_dim)."""
        code = self.embed(x)
        return {"reconstruction": (code @ self.atoms + self.decoder.bias).unflatten(-1, x.shape[1:]), "code": code}

    def embed(self, x: Tensor) -> Tensor:
        """Codes (B, hidden_dim), at least 0."""
        values = self.encoder(x.flatten(1) - self.decoder.bias).relu()
        if self.activation == "l1":
            return values
        assert self.k is not None
        if self.activation == "topk":
            kept = values.topk(self.k, dim=-1)
            return torch.zeros_like(values).scatter(-1, kept.indices, kept.values)
        if not self.training:
            return values * (values >= self.threshold)
        count = min(self.k * len(values), values.numel())
        lowest = values.detach().flatten().topk(count).values[-1]
        self._follow(lowest)
        return values * (values >= lowest)

    def predict(self, x: Tensor) -> Tensor:
        """Reconstructions in the shape of the samples."""
        return self(x)["reconstruction"]

    def _follow(self, lowest: Tensor) -> None:
        with torch.no_grad():
            self.threshold.copy_(
                torch.where(self.threshold < 0, lowest, MOMENTUM * self.threshold + (1 - MOMENTUM) * lowest)
            )
