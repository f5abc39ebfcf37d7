"""Tiny experiment directories that several test files share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minima_volume.config.directory import EmbedConfig, PredictConfig, TrainConfig
from minima_volume.config.errors import parse
from minima_volume.directories import train as training
from minima_volume.directories.directory import Directory
from minima_volume.directories.train import train_directory
from minima_volume.files.atomic import read_pt
from minima_volume.files.yaml import set_dotted

VAE: dict[str, Any] = {
    "experiment": {"name": "a", "output_dir": "runs"},
    "model": {"class": "VAE", "params": {"latent_dim": 2, "hidden_dims": [6]}},
    "train": {
        "data_path": "x.npy",
        "loader_class": "EmbeddingDataLoader",
        "loader_params": {"batch_size": 8},
        "epochs": 3,
        "optimizer_config": {"optimizer": "adam", "learning_rate": 0.01},
        "loss": {"class": "VAELoss"},
    },
    "val": {"data_path": "x.npy:val", "loader_class": "EmbeddingDataLoader"},
    "checkpoint": {"save_strategy": "all"},
}


def samples(rows: int = 40, width: int = 4, seed: int = 0) -> np.ndarray:
    """Points near a line."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, 1)) * np.arange(1, width + 1) + 0.1 * random.normal(size=(rows, width))).astype(
        "f4"
    )


def content(overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """The tiny VAE's config with dotted overrides; a value of None removes a section."""
    made = copy.deepcopy(VAE)
    for key, value in (overrides or {}).items():
        if "." in key:
            set_dotted(made, {key: value})
        elif value is None:
            del made[key]
        else:
            made[key] = value
    return made


def config(overrides: dict[str, Any] | None = None) -> TrainConfig:
    return parse(TrainConfig, content(overrides), "test")


def trained(overrides: dict[str, Any] | None = None) -> Directory:
    """Train silently, below the working directory."""
    return Directory(train_directory(config(overrides), [Path.cwd()], say=lambda line: None))


def interrupted(overrides: dict[str, Any] | None = None, epoch: int = 2) -> None:
    """A training that is stopped, as by Ctrl-C, before it writes the checkpoint of an epoch."""
    real = training.save_checkpoint

    def stop(path: Path, parts: Any, progress: Any, *more: Any) -> Any:
        if progress.epoch == epoch:
            raise KeyboardInterrupt
        return real(path, parts, progress, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(overrides)


def embedding(**sections: Any) -> EmbedConfig:
    return parse(EmbedConfig, {"experiment": VAE["experiment"], **sections}, "test")


def prediction(**sections: Any) -> PredictConfig:
    return parse(PredictConfig, {"experiment": VAE["experiment"], **sections}, "test")


def files(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(first: Any, second: Any) -> bool:
    """Equal to the bit, whatever is nested."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def same_checkpoints(first: Directory, second: Directory) -> bool:
    """Equal names and numbers, whatever the directories are called."""
    pairs = [[read_pt(path) for path in directory.saved] for directory in (first, second)]
    for side in pairs:
        for entry in side:
            for key in ("name", "output_dir", "on_exists"):
                entry["config"]["experiment"].pop(key)
    names = [[path.name for path in directory.saved] for directory in (first, second)]
    return names[0] == names[1] and same(*pairs)
