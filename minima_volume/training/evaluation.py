"""A model's loss and accuracy on given samples, in evaluation mode."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.hosts.doors import evaluation_host, fit_to
from minima_volume.hosts.footprint import Footprint
from minima_volume.losses.loss import Loss
from minima_volume.samples import Samples, count, part, tensors

EVALUATION_BATCH, EVALUATION_BYTES = 2048, 2**28
SMALL = 64  # samples that are run in one pass whatever they take
Pairs = tuple[Samples, Any]


def ready(model: nn.Module, samples: Pairs, loss: Loss) -> tuple[Loss, Any]:
    """The loss, reading this model's outputs, and targets in the type and shape it needs.

    Raises:
        ConfigError: the model's outputs do not fit the loss and the targets.
    """
    host = evaluation_host(model, samples[0])
    with evaluating(model):
        fitted = fit_to(host, *samples, loss)
    return fitted.loss, fitted.targets


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@torch.no_grad()
def evaluate(model: nn.Module, samples: Pairs, loss: Loss, batch: int | None = None) -> tuple[float, float]:
    """Mean loss and accuracy over all samples in evaluation mode; sums in float64.

    Args:
        model: the model.
        samples: inputs and targets.
        loss: the loss.
        batch: samples in one pass, from `evaluation_batch`; found out by default.
    """
    losses, margins, _ = _per_sample(model, samples, loss, batch)
    return losses.double().mean().item(), accuracy(margins)


def evaluation_batch(model: nn.Module, x: Samples) -> int:
    """Samples in one pass: 2,048, or those whose activations fit 256 MiB."""
    return min(EVALUATION_BATCH, evaluation_footprint(model, x).samples(EVALUATION_BYTES))


def evaluation_footprint(model: nn.Module, x: Samples) -> Footprint:
    """Memory of one pass in evaluation mode."""
    host = evaluation_host(model, x)
    with evaluating(model):
        known = [*model.parameters(), *model.buffers(), *tensors(x)]
        return Footprint.of(lambda n: host.run(part(x, 0, n)), known)


def per_sample(model: nn.Module, samples: Pairs, loss: Loss) -> tuple[Tensor, Tensor]:
    """Losses and margins of every sample, shapes (N,) and (N, ...); margins are NaN if accuracy is undefined."""
    return _per_sample(model, samples, loss)[:2]


def prefix_losses(model: nn.Module, samples: Pairs, loss: Loss, sizes: np.ndarray) -> np.ndarray:
    """Mean loss over the first n samples for each n of `sizes`, (sizes,) float64.

    If the loss of a sample depends on the others, each n is a pass of its own, as in the landscape of these samples.
    """
    losses, _, apart = _per_sample(model, samples, loss)
    if apart:
        values = [evaluate(model, (part(samples[0], 0, n), part(samples[1], 0, n)), loss)[0] for n in sizes.tolist()]
        return np.array(values)
    return (losses.double().cumsum(0).numpy() / np.arange(1, len(losses) + 1))[sizes - 1]


def _per_sample(model: nn.Module, samples: Pairs, loss: Loss, batch: int | None = None) -> tuple[Tensor, Tensor, bool]:
    """Losses, margins, and whether all samples had to be run in one piece."""
    host, parts = evaluation_host(model, samples[0]), []
    with evaluating(model):
        fitted = fit_to(host, *samples, loss)
        total = count(samples[0])
        if fitted.apart or total < SMALL:
            size = total
        else:
            size = evaluation_batch(model, samples[0]) if batch is None else batch
        for start in range(0, total, size):
            outputs, y = (
                host.run(part(samples[0], start, start + size)),
                part(fitted.targets, start, start + size),
            )
            margins = fitted.loss.sample_margins(outputs, y)  # first: a user's loss may change the outputs
            parts.append((fitted.loss.per_sample(outputs, y), margins))
    losses, margins = (torch.cat(column) for column in zip(*parts, strict=True))
    return losses, margins, fitted.apart


def accuracy(margins: Tensor) -> float:
    """The share of positive margins, or NaN."""
    return math.nan if bool(margins.isnan().all()) else (margins > 0).double().mean().item()
