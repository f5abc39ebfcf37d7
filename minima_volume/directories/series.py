"""Trainings that differ in one number, such as a sparsity or beta, and what came out of each in one table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from minima_volume.config.directory import TrainConfig
from minima_volume.config.errors import parse
from minima_volume.directories.directory import Directory
from minima_volume.directories.load import kept_checkpoint
from minima_volume.directories.metrics import measure, metric_names
from minima_volume.directories.train import train_directory
from minima_volume.directories.volume import Landscape, measure_directory
from minima_volume.errors import ConfigError
from minima_volume.execution.device import threads
from minima_volume.files.atomic import write_text
from minima_volume.files.yaml import set_dotted
from minima_volume.isolation import own_defaults
from minima_volume.volume.gaussian.estimate import LocalVolume
from minima_volume.volume.gaussian.settings import Gaussian

Say = Callable[[str], object]


@dataclass(frozen=True)
class Series:
    """Trainings of one config at several values of one key.

    Attributes:
        key: dotted, `model.params.k` for example.
        stem: path of the table and the figure, without a suffix: `{output_dir}/{name}_{last part of the key}`.
        configs: value -> config, whose directory is `{stem}_{value}`.
    """

    key: str
    stem: Path
    configs: Mapping[float, TrainConfig]

    @property
    def table_file(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.csv")

    @property
    def figure_file(self) -> Path:
        return self.stem.with_name(f"{self.stem.name}.png")


def series_of(content: Mapping[str, Any], key: str, values: Sequence[float], where: str = "config") -> Series:
    """The trainings of a config at several values of one key.

    Args:
        content: of the config file.
        key: dotted, of a number.
        values: in any order.
        where: what messages call the config.

    Raises:
        ConfigError: fewer than two values, one of them twice, or one that the config does not allow.
    """
    if len(values) < 2 or len(set(values)) < len(values):
        raise ConfigError(f"a series needs two values of {key} or more, each once, got {', '.join(map(str, values))}")
    base = parse(TrainConfig, content, where).experiment
    name = f"{base.name}_{key.rpartition('.')[2]}"
    configs = {}
    for value in sorted(values):
        one = copy.deepcopy(dict(content))
        set_dotted(one, {key: int(value) if value == int(value) else value, "experiment.name": f"{name}_{value:g}"})
        configs[value] = parse(TrainConfig, one, f"{where} with {key} {value:g}")
    if len({config.experiment.name for config in configs.values()}) < len(configs):
        raise ConfigError(f"values of {key} must differ in their first 6 digits, which name the directories")
    return Series(key, Path(base.output_dir) / name, configs)


def train_series(series: Series, places: Sequence[Path] = (), say: Say = print) -> list[Directory]:
    """Train what is not finished yet, one after the other."""
    return [Directory(train_directory(config, places, say)) for config in series.configs.values()]


@own_defaults()
def tabulate_series(
    series: Series,
    places: Sequence[Path] = (),
    how: Gaussian | None = None,
    landscape: Landscape | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """A row per value, and write it as CSV: the metrics of the kept checkpoint, and on demand its Gaussian local volume.

    Args:
        series: of trained directories.
        places: folders in which a user's own class or loss is looked for.
        how: one sigma, and how masses are estimated; None: no volumes.
        landscape: samples and threshold of the volumes; None: the defaults. A `rise` is the same for all; losses of different weights are different functions.
        progress: show a progress bar.

    Returns:
        Columns: the key, `epoch`, the metrics on val (on train if there is no val); with volumes also `sigma`, `threshold`, `log_mass`,
        `log_mass_low` and `log_mass_high` (95 % limits; empty where unknown). `log_mass` is empty where it is only bounded.

    Raises:
        MissingStageError: a directory is not trained.
    """
    rows = []
    for value, config in series.configs.items():
        directory = Directory(config.experiment.folder)
        row: dict[str, float | None] = {series.key: value, **_metrics(directory, places)}
        if how is not None:
            found = measure_directory(directory.folder, how, landscape or Landscape(), places=places, progress=progress)
            if not isinstance(found.volume, LocalVolume):
                raise ConfigError(f"a series has one sigma, got {how.sigma}")
            low, high = found.volume.interval
            row |= {"sigma": found.volume.sigma, "threshold": found.threshold, "log_mass": found.volume.estimate}
            row |= {"log_mass_low": low, "log_mass_high": high}
        rows.append(row)
    table = pd.DataFrame(rows)
    write_text(series.table_file, table.to_csv(index=False))
    return table


def _metrics(directory: Directory, places: Sequence[Path]) -> dict[str, float]:
    checkpoint = kept_checkpoint(directory)
    config = checkpoint.config
    split, source = ("train", config.train) if config.val is None else ("val", config.val)
    with threads(config.experiment.threads):
        samples = checkpoint.samples(source, split)
        model = checkpoint.model(samples.shape, config.experiment.device, places)
        section = None if config.val is None else config.val.loss
        found = measure(model, checkpoint.criterion(section, model, places), samples, config.experiment.seed)
    return {"epoch": checkpoint.content["epoch"]} | {name: found[name] for name in metric_names(config.model.kind)}
