"""How large the minimum in an experiment directory is, by the loss that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minima_volume.config.directory import CheckpointOf
from minima_volume.config.errors import parse
from minima_volume.directories.load import device_of, find, load_file
from minima_volume.directories.sources import Samples
from minima_volume.errors import ConfigError
from minima_volume.execution.device import threads
from minima_volume.isolation import own_defaults
from minima_volume.losses.loss import Loss
from minima_volume.models.vae import VAE
from minima_volume.samples import run
from minima_volume.seeding import generator, normals
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.measure import measure_volume

RISE = 0.1  # of the loss at the minimum, by default


@dataclass(frozen=True)
class Landscape:
    """On what a minimum is measured.

    Attributes:
        samples: how many of the training samples, the first ones.
        threshold: the loss that ends the minimum; None: `rise` above the loss at the minimum.
        rise: in the loss's units; None: a tenth of the loss at the minimum, whatever its sign.
    """

    samples: int = 500
    threshold: float | None = None
    rise: float | None = None


@dataclass(frozen=True)
class Measured:
    """The volume of one minimum.

    Attributes:
        loss: at the minimum.
        threshold: that ends it.
        volume: with its diagnostics.
    """

    loss: float
    threshold: float
    volume: LocalVolume | VolumeProfile


@own_defaults()
def measure_directory(
    folder: Path,
    how: Gaussian,
    landscape: Landscape = Landscape(),
    *,
    strategy: str = "best",
    places: Sequence[Path] = (),
    progress: bool = True,
) -> Measured:
    """The Gaussian local volume of a directory's minimum.

    The loss is that of the training. A VAE's is taken at one draw of the latent variables per sample, the same draw for all perturbed models,
    so that it is a function of the weights.

    Args:
        folder: the directory.
        how: sizes of the perturbation, and how masses are estimated.
        landscape: samples and threshold.
        strategy: best, last or epoch_<N>.
        places: folders in which a user's own class or loss is looked for.
        progress: show a progress bar.

    Raises:
        MissingStageError: no such checkpoint.
        ConfigError: an argument is not allowed, or the threshold is below the loss at the minimum.
    """
    wanted = parse(CheckpointOf, {"path": str(folder), "load_strategy": strategy}, "checkpoint")
    checkpoint = load_file(find(wanted, folder))
    config = checkpoint.config
    with threads(config.experiment.threads):
        x = _first(checkpoint.samples(config.train, "train"), landscape.samples)
        model = checkpoint.model(x.shape[1:], config.experiment.device, places)
        x = x.to(device := device_of(model))
        criterion = checkpoint.criterion(None, model, places)
        inputs: Tensor | tuple[Tensor, Tensor] = x
        if isinstance(model, VAE):
            inputs = x, normals(generator(config.experiment.seed, "volume"), len(x), model.latent_dim).to(device)
        with torch.no_grad():
            loss = float(criterion(run(model, inputs), x).double().mean())
        threshold = landscape.threshold
        if threshold is None:
            threshold = loss + (RISE * abs(loss) if landscape.rise is None else landscape.rise)
        if threshold <= loss:
            raise ConfigError(
                f"threshold {threshold:g} is not above the loss at the minimum, {loss:g}; say how far above it the minimum ends, as a "
                "positive number in units of the loss (--rise; `minima-volume volume` also takes a --threshold)"
            )
        own = Loss(config.train.loss.kind, criterion, batched=False)
        volume = measure_volume(model, inputs, x, own, threshold=threshold, how=how, progress=progress)
    assert isinstance(volume, LocalVolume | VolumeProfile)
    return Measured(loss, threshold, volume)


def _first(samples: Samples, count: int) -> Tensor:
    if count < 1:
        raise ConfigError(f"samples {count} must be at least 1")
    return samples.take(slice(0, min(count, len(samples))))
