"""Training one network of a study, clean or under weight noise, resumable after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.execution.device import usable_device
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.files.content import interpreted
from minima_volume.isolation import own_defaults
from minima_volume.losses.classification import CROSS_ENTROPY
from minima_volume.robustness.images import Images, dense
from minima_volume.robustness.noise import WeightNoise
from minima_volume.robustness.study import NOISY, Network, Study, refuse_others
from minima_volume.seeding import generator, own_randomness
from minima_volume.training.checkpoint import restore, snapshot, weights
from minima_volume.training.gradient import AtTheWeights
from minima_volume.training.loop import Parts, Progress, train
from minima_volume.training.supervised import batches, make_optimizer
from minima_volume.training.weight_noise import AtNoisyWeights

Say = Callable[[str], object]


def silent(text: str) -> None:
    """Say nothing."""


@own_defaults()
def train_network(study: Study, network: Network, images: Images, say: Say = silent) -> bool:
    """Train a network unless its checkpoint is there; a training that was interrupted goes on to the bit.

    Args:
        study: the settings.
        network: which one.
        images: of the study.
        say: called after each epoch.

    Returns:
        Whether anything had to be trained.

    Raises:
        StaleError: the checkpoint is of other settings.
        DamagedFileError: a checkpoint lacks something.
        DataError: the training diverged.
    """
    path, started = study.checkpoint(network), study.unfinished(network)
    settings = study.training_settings(network)
    if path.is_file():
        read_checkpoint(study, network)
        return False
    device = usable_device(study.config)
    with own_randomness(network.seed, device):
        parts = training_parts(study, network, images.to(device))
        progress = Progress()
        if started.is_file():
            content = read_pt(started)
            with interpreted(started, f"Delete {started.name} to train it anew"):
                refuse_others(content["settings"], settings, str(started), way_out(started))
                progress = restore(content, parts)

        def after(progress: Progress) -> None:
            write_pt(started, {**snapshot(parts, progress), "settings": settings})
            say(f"{network.name}: epoch {progress.epoch}, training loss {progress.train_loss[-1]:.4f}")

        train(parts, study.config.training.epochs, progress=progress, on_epoch=after)
    names = {"architecture": network.architecture, "regime": network.regime, "seed": network.seed}
    found = {"state_dict": weights(parts.model), "train_loss": progress.train_loss, "settings": settings}
    write_pt(path, {**names, "alpha_train": study.alpha_train(network), **found})
    started.unlink(missing_ok=True)
    return True


def training_parts(study: Study, network: Network, images: Images) -> Parts:
    """Model, optimiser, batches and gradient; clean and noisy networks of one seed begin alike and see the same batches."""
    config = study.config.training
    model = study.build(network, images).to(images.x_train.device)
    order = generator(network.seed, "batches")
    alpha, draws = study.alpha_train(network), generator(network.seed, "weight noise")
    noisy = AtNoisyWeights(WeightNoise(alpha), draws, f"noise.alpha_train ({alpha:g})")
    return Parts(
        model,
        make_optimizer(model, config),
        classify,
        partial(_batches, images.x_train, images.y_train, config.batch_size, order),
        noisy if network.regime == NOISY else AtTheWeights(),
        {"batches": order},
    )


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of each sample."""
    return CROSS_ENTROPY.per_sample(model(batch[0]), batch[1])


def _batches(x: Tensor, y: Tensor, size: int | None, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches(len(x), size, order):
        yield dense(x[batch]), y[batch]


def read_checkpoint(study: Study, network: Network) -> dict[str, Any]:
    """A trained network's file, if it is of this study's settings; it loads without running code from it.

    Raises:
        MissingStageError: it is not there.
        StaleError: it is of other settings.
        DamagedFileError: it lacks something.
    """
    path = study.checkpoint(network)
    content = read_pt(path)
    with interpreted(path, f"Delete {path.name} to train it anew"):
        refuse_others(content["settings"], study.training_settings(network), str(path), way_out(path))
        content["state_dict"]
    return content


def trained_model(study: Study, network: Network, images: Images) -> nn.Module:
    """A trained network on the study's device, in evaluation mode."""
    model = study.build(network, images)
    content, path = read_checkpoint(study, network), study.checkpoint(network)
    with interpreted(path, f"Delete {path.name} to train it anew"):
        model.load_state_dict(content["state_dict"])
    return model.to(usable_device(study.config)).eval()


def way_out(path: Path) -> str:
    """What to do about a file of other settings."""
    return f"Set them back, write to another folder with --output, or delete {path.name} to train it anew"
