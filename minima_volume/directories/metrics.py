"""What is measured of an autoencoder on a set of samples, chunk by chunk."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.directories.build import Criterion
from minima_volume.directories.own_code import explained
from minima_volume.directories.sources import Samples
from minima_volume.losses.generative import kl_per_dimension
from minima_volume.models.sae import SAE
from minima_volume.models.vae import VAE
from minima_volume.seeding import generator, normals

ACTIVE = 0.01  # variance of a posterior mean over samples, above which a latent variable is in use (Burda et al. 2016)
NAMES = {
    "VAE": ("loss", "elbo", "reconstruction", "kl", "active_units"),
    "SAE": ("loss", "normalized_mse", "l0", "variance_explained", "dead_features"),
}


def metric_names(kind: str) -> tuple[str, ...]:
    """The metrics of a class of models, without a prefix."""
    return NAMES.get(kind, ("loss",))


class Sums:
    """Sums over samples by name, in float64."""

    def __init__(self) -> None:
        self.samples, self._sums = 0, dict[str, Tensor]()

    def add(self, **values: Tensor) -> None:
        """Add values (B, ...) over their samples."""
        for name, value in values.items():
            total = value.sum(0, dtype=torch.float64)
            self._sums[name] = total if name not in self._sums else self._sums[name] + total

    def mean(self, name: str) -> Tensor:
        return self._sums[name] / self.samples


@torch.no_grad()
def measure(
    model: nn.Module, criterion: Criterion, samples: Samples, seed: int, importance_samples: int = 0
) -> dict[str, Any]:
    """Metrics over all samples; the model is in evaluation mode.

    A VAE's terms are of one draw of the latent variables per sample, the same draws every time.

    Args:
        model: a VAE, an SAE or another.
        criterion: its loss.
        samples: to measure on.
        seed: of the draws.
        importance_samples: of a VAE, draws per sample for `nll`; 0 leaves it out.

    Returns:
        `loss`; of a VAE, in nats per sample, `elbo`, `reconstruction` (-log p(x | z)), `kl` (also `kl_per_dimension`, a list), `active_units`
        and `nll`; of an SAE `normalized_mse` (squared error / squared norm), `variance_explained`, `l0` (active atoms per sample) and
        `dead_features` (share of atoms that are never active).
    """
    device = next(model.parameters()).device
    random, importance, sums = generator(seed, "validation"), generator(seed, "importance"), Sums()
    first = None
    for chunk in samples.chunks():
        x = chunk.to(device)
        sums.samples += len(x)
        if isinstance(model, VAE):
            outputs = model(x, normals(random, len(x), model.latent_dim).to(device))
            kl = kl_per_dimension(outputs["mean"], outputs["log_variance"])
            mean, log_prob = outputs["mean"].double(), model.likelihood.log_prob(outputs["parameters"], x)
            sums.add(log_prob=log_prob, kl=kl, mean=mean, square=mean.square())
            if importance_samples:
                draws = normals(importance, importance_samples, len(x), model.latent_dim).to(device)
                sums.add(log_likelihood=model.log_likelihood(x, draws))
        elif isinstance(model, SAE):
            outputs = model(x)
        else:
            with explained(f"model {type(model).__name__} fails on samples of shape {tuple(x.shape)}", model):
                outputs = model(x)
        if isinstance(model, SAE):
            flat, error = x.flatten(1).double(), (outputs["reconstruction"] - x).flatten(1).double()
            active = outputs["code"] > 0
            first = flat[0] if first is None else first
            offset = flat - first  # equal samples have a variance of exactly 0, and large means do not drown it
            sums.add(square=flat.square().sum(-1), error=error.square().sum(-1), active=active)
            sums.add(offset=offset, offset_square=offset.square().sum(-1))
        sums.add(loss=criterion(outputs, x))
    return {"loss": float(sums.mean("loss"))} | _of_kind(model, sums, importance_samples)


def _of_kind(model: nn.Module, sums: Sums, importance_samples: int) -> dict[str, Any]:
    if isinstance(model, VAE):
        kl, log_prob = sums.mean("kl"), float(sums.mean("log_prob"))
        variance = sums.mean("square") - sums.mean("mean").square()
        found = {
            "elbo": log_prob - float(kl.sum()),
            "reconstruction": -log_prob,
            "kl": float(kl.sum()),
            "active_units": float((variance > ACTIVE).sum()),
            "kl_per_dimension": kl.tolist(),
        }
        return found | ({"nll": -float(sums.mean("log_likelihood"))} if importance_samples else {})
    if isinstance(model, SAE):
        square, error = float(sums.mean("square")), float(sums.mean("error"))
        spread = float(sums.mean("offset_square") - sums.mean("offset").square().sum())
        share = sums.mean("active")
        return {
            "normalized_mse": _ratio(error, square),
            "variance_explained": 1 - _ratio(error, spread),
            "l0": float(share.sum()),
            "dead_features": float((share == 0).double().mean()),
        }
    return {}


def undefined(metric: str, samples: Samples) -> str:
    """Why a metric of a sparse autoencoder has no value on these samples, whatever the model; empty if it has one."""
    if metric == "variance_explained":
        first = samples.take(slice(0, 1))
        if all(bool((chunk == first).all()) for chunk in samples.chunks()):
            return (
                f"{samples.source} holds one sample"
                if len(samples) == 1
                else f"all samples of {samples.source} are equal"
            )
    if metric == "normalized_mse" and not any(bool(chunk.any()) for chunk in samples.chunks()):
        return f"all samples of {samples.source} are 0"
    return ""


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
