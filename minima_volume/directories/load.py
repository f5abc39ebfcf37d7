"""A trained model out of its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minima_volume.config.autoencoders import OwnLoss, OwnModel
from minima_volume.config.directory import CheckpointOf, Data, EmbedConfig, PredictConfig, Source, TrainConfig
from minima_volume.config.errors import parse
from minima_volume.directories.build import Criterion, build_network, criterion_of
from minima_volume.directories.directory import Directory
from minima_volume.directories.own_code import KEY, TRAIN_AGAIN, require_as_trained
from minima_volume.directories.sources import Samples, open_samples
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError, StaleError
from minima_volume.execution.device import checked_device
from minima_volume.files.atomic import read_pt

KEYS = {"epoch", "model_state_dict", "optimizer_state_dict", "metric_value", "config", "random_state"}


@dataclass(frozen=True)
class Checkpoint:
    """The file of a trained model.

    Attributes:
        path: of the file.
        content: its keys, see `KEYS`.
        config: of its training.
    """

    path: Path
    content: dict[str, Any]
    config: TrainConfig

    @property
    def kept(self) -> Mapping[str, Any] | None:
        """What the user's own code computed in training; None with built-in classes, and of earlier versions."""
        return self.content.get(KEY)

    def samples(self, section: Source, split: str, data: Data | None = None) -> Samples:
        """Samples as the model takes them, with the categories and scales of its training.

        Raises:
            ConfigError: other columns than in training.
        """
        trained = self.config.data
        if data is not None and data.columns is not None and data.columns != trained.columns:
            had = ", ".join(trained.columns.names) if trained.columns is not None else "none"
            raise ConfigError(
                f"data.columns: {', '.join(data.columns.names)}; the model was trained on {had}, in this order and of the same kinds"
            )
        return open_samples(section, split, trained)[0]

    def model(self, shape: Sequence[int], device: str, places: Sequence[Path]) -> nn.Module:
        """The trained model in evaluation mode.

        Args:
            shape: of one sample that it will get.
            device: where it will be.
            places: folders in which a user's own class is looked for.

        Raises:
            ConfigError: it was trained on samples of another shape.
            StaleError: it is the user's own class, whose code was changed since the training.
        """
        model = build_network(self.config, shape, places)
        try:
            model.load_state_dict(self.content["model_state_dict"])
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:240].rstrip(".")
            if self.kept is not None and self.kept["x"].shape[1:] == tuple(shape):
                raise StaleError(
                    f"{self.path} does not fit model {self.config.model.kind!r}, whose code was changed since it was trained: {reason}. "
                    f"{TRAIN_AGAIN}"
                ) from error
            raise ConfigError(
                f"{self.path} is of a model that takes other samples than those given, of shape {tuple(shape)}: {reason}"
            ) from error
        model.to(checked_device(device)).eval()
        if isinstance(self.config.model, OwnModel):
            require_as_trained(self.kept, model, None, self.config, self.path)
        return model

    def criterion(self, section: Any, model: nn.Module, places: Sequence[Path]) -> Criterion:
        """The loss of a section, or of the training if there is none.

        Raises:
            StaleError: it is the user's own, and computes something else than in training.
        """
        if section is not None and section != self.config.train.loss:
            return criterion_of(section, model, self.config, places)
        criterion = criterion_of(self.config.train.loss, model, self.config, places)
        if isinstance(self.config.train.loss, OwnLoss):
            require_as_trained(self.kept, model, criterion, self.config, self.path)
        return criterion


def load(config: EmbedConfig | PredictConfig) -> Checkpoint:
    """The checkpoint that a config names.

    Raises:
        MissingStageError: it is not there; says what is, and what to check.
        ConfigError: it is of another class of models.
    """
    found = load_file(find(config.checkpoint, config.experiment.folder))
    if config.model is not None and config.model.kind != found.config.model.kind:
        raise ConfigError(f"model.class is {config.model.kind!r}, but {found.path} holds {found.config.model.kind!r}")
    return found


def load_file(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        DamagedFileError: it is none.
    """
    content = read_pt(path)
    if missing := KEYS - set(content):
        raise DamagedFileError(
            f"{path} lacks {', '.join(sorted(missing))}: it is no checkpoint of an experiment directory"
        )
    return Checkpoint(path, content, parse(TrainConfig, content["config"], f"{path}, config"))


def kept_checkpoint(directory: Directory) -> Checkpoint:
    """The checkpoint that the training was to keep: the best, or with save_strategy last the last.

    Raises:
        MissingStageError: no experiment directory, or it has no such checkpoint.
    """
    strategy = "last" if directory.config().checkpoint.save_strategy == "last" else "best"
    return load_file(find(CheckpointOf(path=str(directory.folder), load_strategy=strategy), directory.folder))


def find(wanted: CheckpointOf, own: Path) -> Path:
    """Where a checkpoint lies.

    Args:
        wanted: a directory, its checkpoints/ or a file, and which of its epochs.
        own: the experiment's own directory, if no path is given.

    Raises:
        MissingStageError: it is not there.
    """
    place = own if wanted.path is None else Path(wanted.path)
    if place.suffix == ".pt":
        directory, path = Directory(place.parent.parent), place
    else:
        directory = Directory(place.parent if place.name == "checkpoints" else place)
        path = directory.checkpoint(wanted.load_strategy)
    if path.is_file():
        return path
    raise MissingStageError(f"{path} does not exist. {_advice(directory)}")


def _advice(directory: Directory) -> str:
    if not directory.folder.is_dir():
        return f"There is no directory {directory.folder}; paths are relative to {Path.cwd()}"
    have = ", ".join(file.name for file in directory.saved) or "no checkpoint"
    strategy = directory.config().checkpoint.save_strategy if directory.marked else "unknown"
    return (
        f"{directory.checkpoints} has {have}. Check whether the training was completed ({directory.log_file}), "
        f"checkpoint.save_strategy ({strategy} here), and whether the disk is full"
    )


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
