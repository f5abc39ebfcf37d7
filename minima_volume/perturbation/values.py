"""From the outputs of perturbed models, tile by tile, to losses, accuracies and margin scores of nested landscapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minima_volume.losses.loss import Loss
from minima_volume.perturbation.tiles import Tile
from minima_volume.samples import part, tensors

Columns = tuple[Tensor, Tensor, Tensor | None]
GPU_ROWS = 64
Run = Callable[[Sequence[Tile]], Iterable[Any]]  # outputs of B parameter vectors, tile by tile


@dataclass(frozen=True)
class Values:
    """What the engine measured at B perturbed parameter vectors in K landscapes.

    Attributes:
        loss: (K, B) mean losses, float64.
        accuracy: (K, B) fractions of samples with a positive margin; NaN if accuracy is undefined.
        score: (K, B) k-th smallest margins when they were asked for, else None.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    score: np.ndarray | None = None

    @classmethod
    def join(cls, parts: Sequence[Columns]) -> Values:
        """The values of several chunks of parameter vectors, one after the other."""
        loss, accuracy, score = zip(*parts, strict=True)
        known = [part for part in score if part is not None]
        return cls(_numpy(loss), _numpy(accuracy), _numpy(known) if known else None)


def _numpy(parts: Sequence[Tensor]) -> np.ndarray:
    return torch.cat(list(parts), 1).cpu().numpy()


def measure(
    loss: Loss,
    y: Any,
    tiles: Sequence[Tile],
    run: Run,
    sizes: Sequence[int],
    wrong_allowed: Sequence[int] | None = None,
    accuracy: bool = True,
) -> Columns:
    """Losses, accuracies and scores, each (K, B), of B parameter vectors in nested landscapes.

    Args:
        loss: the loss.
        y: (T, ...) targets.
        tiles: cover the longest landscape.
        run: outputs (B, samples, ...) of each tile.
        sizes: (K,) samples of the landscapes, ascending; each is the end of a cut.
        wrong_allowed: (K,) for each landscape w: asks for the (w + 1)-th smallest margin.
        accuracy: False leaves accuracies out (NaN), which saves the margins where no score is asked for.
    """
    look = loss.margins is not None and (accuracy or wrong_allowed is not None)
    total = right = torch.zeros((), dtype=torch.float64, device=tensors(y)[0].device)
    answers = 1
    losses_at, right_at, margins = [], [], []
    for tile, given in zip(tiles, run(tiles), strict=True):
        outputs = loss.read(given, 1)
        targets = part(y, tile.start, tile.stop)
        if look:
            elements, margin = loss.with_margins(outputs, targets)
            losses, answers = _mean_over_tokens(elements), margin[0, 0].numel()
        else:
            losses, margin = per_sample(loss, outputs, targets), None
        begin = 0
        for cut in tile.cuts:
            total = total + row_sums(losses[:, begin:cut].double())
            if margin is not None:
                right = right + row_sums(_mean_over_tokens((margin[:, begin:cut] > 0).double()))
            begin = cut
            if (size := tile.start + cut) in sizes:
                losses_at.append(total / size)
                right_at.append(right / size)
        if margin is not None and wrong_allowed is not None:
            margins.append(margin.flatten(1))
    mean = torch.stack(losses_at)
    fractions = torch.stack(right_at) if look else torch.full_like(mean, math.nan)
    if not margins or wrong_allowed is None:
        return mean, fractions, None
    joined = torch.cat(margins, 1).nan_to_num(nan=-math.inf)
    scores = [
        joined[:, : size * answers].kthvalue(wrong + 1, 1).values.double()
        for size, wrong in zip(sizes, wrong_allowed, strict=True)
    ]
    return mean, fractions, torch.stack(scores)


def measure_apart(
    loss: Loss,
    y: Any,
    run: Run,
    sizes: Sequence[int],
    wrong_allowed: Sequence[int] | None = None,
    accuracy: bool = True,
) -> Columns:
    """The same where a landscape must be run in one piece: a loss of all samples at once, or outputs that depend on the whole batch."""
    found = []
    for k, size in enumerate(sizes):
        tile = Tile(0, size, (size,))
        wrong = None if wrong_allowed is None else [wrong_allowed[k]]
        found.append(measure(loss, y, [tile], run, [size], wrong, accuracy))
    losses, fractions, scores = zip(*found, strict=True)
    joined = None if scores[0] is None else torch.cat([score for score in scores if score is not None])
    return torch.cat(losses), torch.cat(fractions), joined


def per_sample(loss: Loss, outputs: Any, targets: Any) -> Tensor:
    """Losses (B, samples) of outputs (B, samples, ...) that have been read, or of a user's own loss of [outputs]."""
    if loss.batched:
        return _mean_over_tokens(loss.elements(outputs, targets))
    return loss.per_sample(outputs[0], targets).unsqueeze(0)


def _mean_over_tokens(values: Tensor) -> Tensor:
    """(B, samples, ...) values as (B, samples)."""
    if values.ndim <= 2:
        return values
    rows = values.flatten(2)
    return _at_least(rows.flatten(0, 1)).mean(1)[: rows.shape[0] * rows.shape[1]].view(rows.shape[:2])


def row_sums(values: Tensor) -> Tensor:
    """Sums (B,) of each row of values (B, T), which do not depend on how many rows there are."""
    return _at_least(values).sum(1)[: len(values)]


def _at_least(rows: Tensor) -> Tensor:
    """On a GPU no fewer than `GPU_ROWS` rows, some of them again: for fewer its kernels share the work otherwise, and add in another order."""
    if not rows.is_cuda or not 0 < len(rows) < GPU_ROWS:
        return rows
    return torch.cat([rows, rows[-1:].expand(GPU_ROWS - len(rows), -1)])
