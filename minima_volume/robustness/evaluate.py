"""Accuracy of a trained network under weight noise: every alpha with every draw, on all test images."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from minima_volume.files.atomic import hash_arrays, read_npz, write_npz
from minima_volume.files.content import interpreted
from minima_volume.isolation import own_defaults
from minima_volume.losses.classification import CROSS_ENTROPY
from minima_volume.robustness.images import Images, dense
from minima_volume.robustness.noise import noise_directions, scaled, steps
from minima_volume.training.evaluation import evaluating
from minima_volume.training.weight_noise import noisy

BATCH = 500


@dataclass(frozen=True)
class Sweep:
    """What one network does under noise.

    Attributes:
        alphas: (A,) ascending, from 0.
        seeds: (D,) of the draws.
        correct: (A, D, N) whether a test image is classified correctly.
        loss: (A, D) mean cross-entropy over the test images.
        recalibrated: (A, D, N) the same with batch normalisation recalibrated under the noise; None without such layers.
        recalibrated_loss: (A, D), or None.
    """

    alphas: np.ndarray
    seeds: np.ndarray
    correct: np.ndarray
    loss: np.ndarray
    recalibrated: np.ndarray | None = None
    recalibrated_loss: np.ndarray | None = None

    def at(self, alpha: float, recalibrated: bool = False) -> np.ndarray:
        """(D, N) whether images are classified correctly at one alpha."""
        found = self.recalibrated if recalibrated else self.correct
        assert found is not None
        return found[self.alphas.tolist().index(alpha)]

    @property
    def accuracy(self) -> np.ndarray:
        """(A, D)."""
        return self.correct.mean(2)


@own_defaults()
def sweep_network(
    model: nn.Module, images: Images, alphas: list[float], seeds: list[int], recalibration_size: int
) -> Sweep:
    """Measure a network at W + alpha * std(W) * z for every alpha and every seed of z; its weights come back to the bit.

    Args:
        model: trained, on the device of the images.
        images: test images to classify; training images to recalibrate batch normalisation on.
        alphas: ascending, from 0.
        seeds: of z.
        recalibration_size: the first so many training images.
    """
    recalibrate = has_batch_norm(model)
    grid = len(alphas), len(seeds)
    kinds = 1 + recalibrate
    correct = np.zeros((kinds, *grid, len(images.y_test)), dtype=bool)
    loss = np.zeros((kinds, *grid))
    directions = noise_directions(model)
    for d, seed in enumerate(seeds):
        moves = steps(model, directions, seed)
        for a, alpha in enumerate(alphas):
            if alpha == 0 and d > 0:  # no noise: every draw is the same
                correct[:, a, d], loss[:, a, d] = correct[:, a, 0], loss[:, a, 0]
                continue
            with noisy(model, scaled(moves, alpha)):
                correct[0, a, d], loss[0, a, d] = classified(model, images.x_test, images.y_test)
                if recalibrate:
                    with recalibrated(model, images.x_train[:recalibration_size]):
                        correct[1, a, d], loss[1, a, d] = classified(model, images.x_test, images.y_test)
    second = (correct[1], loss[1]) if recalibrate else (None, None)
    return Sweep(np.array(alphas), np.array(seeds), correct[0], loss[0], *second)


def classified(model: nn.Module, x: Tensor, y: Tensor) -> tuple[np.ndarray, float]:
    """Whether each image is classified correctly (N,), and the mean loss; a tie between classes counts as wrong."""
    right, total = [], 0.0
    with evaluating(model):
        for images, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
            losses, margins = CROSS_ENTROPY.with_margins(model(dense(images)), labels)
            right.append((margins > 0).cpu())
            total += float(losses.double().sum())
    return torch.cat(right).numpy(), total / len(y)


def has_batch_norm(model: nn.Module) -> bool:
    """Whether some layer has running statistics."""
    return any(isinstance(layer, _BatchNorm) and layer.track_running_stats for layer in model.modules())


@contextlib.contextmanager
def recalibrated(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Inside the block running statistics are those of the images x at the weights as they are; afterwards as before.

    Images pass in the fewest batches of at most 500 that differ by one image at most. Running means are averages over all images. A
    running variance is, as in training, the average of the unbiased variances *within* batches, each weighted by its images: how much
    the means of batches differ is not in it. Each layer must be used once in a forward pass.

    Args:
        model: in any mode.
        x: (N, 3, height, width).
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    momenta, modes = [layer.momentum for layer in layers], [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        seen = 0
        with torch.no_grad():
            for images in x.tensor_split(math.ceil(len(x) / BATCH)):
                seen += len(images)
                for layer in layers:
                    layer.momentum = len(images) / seen  # every image counts as much as any other
                model(dense(images))
        for layer in layers:
            layer.eval()
        yield
    finally:
        for layer, momentum, mode in zip(layers, momenta, modes, strict=True):
            layer.momentum = momentum
            layer.train(mode)
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])


def recalibration_settings(count: int) -> dict[str, str]:
    """What a sweep says of how statistics were averaged over `count` images; nothing where averages over batches were the same.

    >>> recalibration_settings(2000), recalibration_settings(130), recalibration_settings(1300)
    ({}, {}, {'recalibration': 'averaged over images'})
    """
    return {} if count <= BATCH or count % BATCH == 0 else {"recalibration": "averaged over images"}


def write_sweep(path: Path, sweep: Sweep, settings: dict[str, Any]) -> Path:
    """Keep a sweep with the settings that decide it; one bit per image."""
    arrays: dict[str, Any] = {"alphas": sweep.alphas, "seeds": sweep.seeds, "loss": sweep.loss}
    arrays |= {"correct": np.packbits(sweep.correct, axis=2), "images": sweep.correct.shape[2]}
    if sweep.recalibrated is not None:
        arrays |= {"recalibrated": np.packbits(sweep.recalibrated, axis=2)}
        arrays |= {"recalibrated_loss": sweep.recalibrated_loss}
    return write_npz(path, {**arrays, "settings": json.dumps(settings)})


def read_sweep(path: Path, settings: dict[str, Any] | None = None) -> Sweep | None:
    """A sweep from its file; None if it is not there, or of other settings than those given.

    Raises:
        DamagedFileError: it holds something else.
    """
    if not path.is_file():
        return None
    found = read_npz(path)
    with interpreted(path, "Delete it: the network is measured again"):
        if settings is not None and _settings(found) != settings:
            return None
        count = int(found["images"])
        bits = {
            key: np.unpackbits(found[key], axis=2, count=count).astype(bool)
            for key in ("correct", "recalibrated")
            if key in found
        }
        return Sweep(
            found["alphas"],
            found["seeds"],
            bits["correct"],
            found["loss"],
            bits.get("recalibrated"),
            found.get("recalibrated_loss"),
        )


def averaged_over_batches(path: Path, train_images: int) -> bool:
    """Whether a sweep's file is of a version that recalibrated with averages over batches of unequal sizes.

    Args:
        path: a file that `write_sweep` wrote.
        train_images: of the study, of which a sweep takes the first `recalibration_size`.
    """
    found = read_npz(path)
    with interpreted(path, "Delete it: the network is measured again"):
        settings = _settings(found)
    asked = settings.get("recalibration_size")
    if asked is None:  # a network without batch normalisation
        return False
    return not recalibration_settings(min(asked, train_images)).items() <= settings.items()


def _settings(found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return json.loads(str(found["settings"]))


def model_hash(model: nn.Module) -> str:
    """Of all weights and buffers."""
    return hash_arrays(model.state_dict())
