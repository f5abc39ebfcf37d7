"""The volumes of a study: which cells there are, measured one by one over processes, each kept in a file of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from minima_volume.config.noise import NoiseConfig
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import hash_arrays, read_json, write_json
from minima_volume.files.content import interpreted
from minima_volume.robustness.evaluate import model_hash
from minima_volume.robustness.images import load_images
from minima_volume.robustness.study import REGIMES, Network, Study
from minima_volume.robustness.train import trained_model
from minima_volume.robustness.volumes import Cell, layer_cells, mass_settings, measure_cell, subset
from minima_volume.stages.freshness import SAME_DEFAULTS

Row = dict[str, Any]
MEASURE_AGAIN = "Delete it: it is measured again"


@dataclass(frozen=True)
class CellWork:
    """One cell of one network, in any process."""

    study: Study
    network: Network
    cell: Cell

    @property
    def config(self) -> NoiseConfig:
        return self.study.config

    @property
    def path(self) -> Path:
        """Its result."""
        return self.study.results / "volumes" / f"{self.network.name}_{self.cell.name}.json"


def measure_volumes(study: Study, architectures: Sequence[str], say: Callable[[str], object] = print) -> list[Row]:
    """Rows of all cells of the configuration, for the clean and the noisy network of one seed of each architecture.

    Args:
        study: with trained networks.
        architectures: those whose volumes are wanted, as far as the configuration names them.
        say: called after each cell.
    """
    todo = [work for name in study.config.volume.architectures if name in architectures for work in _cells(study, name)]
    if not todo:
        return []
    workers = min(len(todo), usable_workers(study.config, math.inf))
    rows: dict[Path, Row] = {}
    for work, row in run_tasks(measured_cell, todo, workers):
        rows[work.path] = row
        say(f"{work.network.name}, {work.cell.name}: {row['words']}")
    return [rows[work.path] for work in todo]


def _cells(study: Study, architecture: str) -> list[CellWork]:
    volume, images = study.config.volume, load_images(study.config.data)
    cells = [Cell(alpha, accuracy) for alpha in volume.alphas for accuracy in volume.accuracies]
    networks = [Network(architecture, regime, volume.seed) for regime in REGIMES]
    if volume.layers > 0:
        cells += layer_cells(study.build(networks[0], images), volume.layers, volume.accuracies[-1])
    return [CellWork(study, network, cell) for network in networks for cell in cells]


def measured_cell(work: CellWork) -> Row:
    """One row, measured unless its file is there and of the same weights, images and settings."""
    study, network = work.study, work.network
    model, samples = _ready(study, network)
    volume = study.config.volume
    settings = {
        "weights": model_hash(model),
        "images": hash_arrays(dict(zip(("x", "y"), samples, strict=True))),
        "seed": study.config.seeds.noise,
        **volume.model_dump(include={"num_particles", "num_repeats", "num_moves", "layer_draws"}),
    }
    versions = (
        [settings | {"estimator": version} for version in SAME_DEFAULTS] if volume.num_moves is None else [settings]
    )
    if work.path.is_file():
        stored = read_json(work.path)
        with interpreted(work.path, MEASURE_AGAIN):
            if stored["settings"] in versions:
                return stored["row"]
    how = mass_settings(volume.num_particles, volume.num_repeats, volume.num_moves)
    found = measure_cell(model, samples, work.cell, how, study.config.seeds.noise, volume.layer_draws)
    row = {**vars(network), **found}
    write_json(work.path, {"row": row, "settings": versions[-1]})
    return row


def _ready(study: Study, network: Network) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """The network and the subset of test images, on the study's device."""
    images = load_images(study.config.data)
    model = trained_model(study, network, images)
    device, chosen = next(model.parameters()).device, subset(images, study.config.volume.subset)
    return model, (images.x_test[chosen].to(device), images.y_test[chosen].to(device))
