"""A whole study: train what is missing, measure it under noise, write tables and verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minima_volume.config.noise import NoiseConfig
from minima_volume.execution.device import usable_device
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import make_folder
from minima_volume.files.lock import locked
from minima_volume.robustness.evaluate import (
    has_batch_norm,
    model_hash,
    read_sweep,
    recalibration_settings,
    sweep_network,
    write_sweep,
)
from minima_volume.robustness.images import Images, load_images
from minima_volume.robustness.noise import NAMES, SCALING
from minima_volume.robustness.results import add_volumes, check_mergeable, write_results
from minima_volume.robustness.study import Network, Study
from minima_volume.robustness.train import Say, silent, train_network, trained_model
from minima_volume.robustness.volume_runs import measure_volumes


@dataclass(frozen=True)
class Work:
    """One network to train and measure, in any process."""

    study: Study
    network: Network

    @property
    def config(self) -> NoiseConfig:
        return self.study.config


def run_study(
    study: Study,
    architectures: Sequence[str] | None = None,
    *,
    fresh: bool = False,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Train and measure the networks of some architectures and write the study's files; what is done is left alone.

    Args:
        study: settings and folder.
        architectures: some of the configuration's; all by default.
        fresh: overwrite the tables of earlier runs; by default rows of other networks stay.
        say: called with what is worth a line.

    Returns:
        What results.json holds.

    Raises:
        ConfigError: an architecture is not known, or the device is absent.
        StaleError: a checkpoint, or rows of the tables, are of other training settings.
    """
    networks = study.networks(architectures)
    usable_device(study.config)
    check_mergeable(study, networks, fresh)
    make_folder(study.checkpoints)
    with locked(study.checkpoints):
        todo = [Work(study, network) for network in networks]
        workers = 1 if len(todo) == 1 else min(len(todo), usable_workers(study.config, math.inf))
        for work, (trained, measured) in run_tasks(train_and_measure, todo, workers):
            done = " and ".join(word for word, did in (("trained", trained), ("measured", measured)) if did)
            say(f"{work.network.name}: {done or 'done before'}")
        content = write_results(study, networks, fresh=fresh, say=say)
        names = list(dict.fromkeys(network.architecture for network in networks))
        if rows := measure_volumes(study, names, say):
            content = add_volumes(study, content, rows)
        return content


def train_and_measure(work: Work, say: Say = silent) -> tuple[bool, bool]:
    """Whether a network had to be trained, and whether it had to be measured."""
    study, network = work.study, work.network
    images = load_images(study.config.data)
    trained = train_network(study, network, images, say)
    return trained, measure(study, network, images)


def measure(study: Study, network: Network, images: Images) -> bool:
    """Sweep a trained network unless that is done with these settings."""
    model = trained_model(study, network, images)
    noise, config = study.config.noise, study.config
    settings: dict[str, Any] = {
        "weights": model_hash(model),
        "images": images.hash(),
        "noise": {"scaling": SCALING, "names": NAMES, "seed": config.seeds.noise},
        "alpha_test": noise.alpha_test,
        "draws": noise.draws,
        "recalibration_size": noise.recalibration_size if has_batch_norm(model) else None,
    }
    if has_batch_norm(model):
        settings |= recalibration_settings(min(noise.recalibration_size, len(images.x_train)))
    path = study.sweep(network)
    if read_sweep(path, settings) is not None:
        return False
    seeds = [config.seeds.noise + d for d in range(noise.draws)]
    there = images.to(next(model.parameters()).device)
    write_sweep(path, sweep_network(model, there, noise.alpha_test, seeds, noise.recalibration_size), settings)
    return True
