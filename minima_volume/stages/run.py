"""Layout of a run folder: the only place that knows what its files are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minima_volume.arguments import as_path
from minima_volume.config.run import Config, parse_config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.boundary import confined
from minima_volume.files.yaml import read_yaml

if TYPE_CHECKING:
    from minima_volume.losses.loss import Loss

CONFIG_NAME = "config.yaml"

TRAIN = "Train Low Test Models.ipynb"
PERTURB = "Random Perturbs.ipynb"
VOLUME = "Volume Estimation Pipeline.ipynb"
CUTOFF = "Volume Cutoff.ipynb"
ACCURACY = "Test Accuracy.ipynb"

# how the files of models are called, by the run's variation
MODEL_PREFIXES = {"level": "model_additional_", "epoch": "model_epoch_", "batch_size": "model_batch_size_"}
# what says which minima a run has, by its variation: the weights of each do not depend on it (the list itself comes first)
WHICH_MINIMA = {
    "level": ("data.levels",),
    "epoch": ("training.checkpoints", "training.epochs"),
    "batch_size": ("training.batch_sizes",),
}
RUN_NAME = re.compile(r"model_(\d+)_data_(\d+)")
RUN_NOTEBOOKS = (TRAIN, PERTURB, VOLUME, CUTOFF, ACCURACY)
VOLUME_FIGURES = (
    "growth",
    "radius_histogram",
    "log_volume",
    "log_mass",
    "volume_profiles",
)  # .png, beside a results.json
STAGES = dict(zip(("train", "perturb", "volume", "cutoff", "accuracy"), RUN_NOTEBOOKS, strict=True))


def minimum_name(value: int, variation: str = "level") -> str:
    """What tables and figures call a minimum.

    >>> minimum_name(540), minimum_name(200, "epoch"), minimum_name(100, "batch_size")
    ('+540', 'epoch 200', 'batch size 100')
    """
    return f"+{value}" if variation == "level" else f"{variation.replace('_', ' ')} {value}"


def variation_of(record: Mapping[str, Any]) -> str:
    """What tells the minima of a file apart; files of the first version know levels only."""
    return str(record.get("variation", "level"))


@dataclass(frozen=True)
class Pair:
    """A minimum in a landscape that it is measured in.

    Attributes:
        landscape: its level: the additional samples.
        minimum: its value of the run's variation.
        size: samples of the landscape.
        name: what tables and figures call the minimum.
    """

    landscape: int
    minimum: int
    size: int
    name: str


@dataclass(frozen=True)
class Run:
    """A run folder and its checked, resolved configuration."""

    folder: Path
    config: Config

    def __post_init__(self) -> None:
        """Refuse an output_dir that leads out of the folder, unless config.yaml allows it."""
        if not self.config.experiment.allow_outside:
            confined(self.folder, self.config.experiment.output_dir)

    @property
    def loss(self) -> Loss:
        """What the run is trained with, and measured by."""
        from minima_volume.losses.registry import get_loss  # torch takes long to import, and most of a Run needs none

        return get_loss(self.config.training.loss, self.folder)

    @property
    def output(self) -> Path:
        return self.folder / self.config.experiment.output_dir

    @property
    def models(self) -> Path:
        return self.output / "models_and_data"

    @property
    def dataset_file(self) -> Path:
        return self.models / "dataset.pt"

    def model_file(self, minimum: int) -> Path:
        """The model of one minimum, a value of the run's variation: usually its level, its epoch or batch size in a series."""
        return self.models / f"{MODEL_PREFIXES[self.config.variation]}{minimum}.pt"

    def epoch_file(self, minimum: int, epoch: int) -> Path:
        return self.models / f"{self.model_file(minimum).stem}_epoch_{epoch:04d}.pt"

    def landscape(self, landscape: int) -> Path:
        return self.output / f"{self.config.data.variant}_{landscape}"

    def sweep_file(self, landscape: int, minimum: int) -> Path:
        variation = self.config.variation
        prefix = self.config.data.variant if variation == "level" else variation
        return self.landscape(landscape) / f"{prefix}_{minimum}.npz"

    @property
    def shards(self) -> Path:
        """Unfinished sweeps; removed when the sweep's own files are whole."""
        return self.output / ".sweep_shards"

    def shard_folder(self, minimum: int) -> Path:
        return self.shards / f"level_{minimum}"

    def threshold(self, landscape: int, threshold: float) -> Path:
        return self.landscape(landscape) / f"loss_{threshold:g}"

    def results_file(self, landscape: int, threshold: float) -> Path:
        return self.threshold(landscape, threshold) / "results.json"

    def radii_file(self, landscape: int, threshold: float) -> Path:
        return self.threshold(landscape, threshold) / "radii.npz"

    def mass_folder(self, landscape: int, threshold: float) -> Path:
        return self.threshold(landscape, threshold) / "log_mass"

    def mass_file(self, landscape: int, threshold: float, minimum: int, sigma: float, kind: str = "loss") -> Path:
        """The Gaussian local volume of one minimum at one sigma; `kind` is loss or accuracy."""
        stem = self.sweep_file(landscape, minimum).stem
        suffix = "" if kind == "loss" else "_acc"
        return self.mass_folder(landscape, threshold) / f"{stem}_sigma_{sigma:g}{suffix}.json"

    def views_file(self, landscape: int) -> Path:
        return self.landscape(landscape) / "views.json"

    @property
    def cutoffs_file(self) -> Path:
        return self.output / "cutoffs" / "cutoffs.json"

    def volume_figures(self, landscape: int, threshold: float, results: Mapping[str, Any]) -> list[Path]:
        """The figures beside a results.json; a minimum alone has nothing to be compared with, and one sigma makes no profile."""
        several, masses = len(results["model_data_levels"]) > 1, "log_mass_values" in results
        drawn = (True, True, several, several and masses, len(results.get("sigmas", ())) > 1)
        path = self.results_file(landscape, threshold)
        return [path.with_name(f"{name}.png") for name, there in zip(VOLUME_FIGURES, drawn, strict=True) if there]

    @property
    def loss_curves_figure(self) -> Path:
        return self.output / "loss_curves.png"

    @property
    def accuracies_file(self) -> Path:
        return self.output / "test_accuracies.npz"

    def pairs(self, minimum: int | None = None) -> list[Pair]:
        """Every measurement, or those of one minimum, by landscape: a minimum is in the landscapes of at most its own level."""
        config = self.config
        return [
            Pair(landscape, value, config.data.base_size + landscape, minimum_name(value, config.variation))
            for landscape in config.data.levels
            for value in config.minima
            if config.level_of(value) >= landscape and minimum in (None, value)
        ]


def seeds_of(folder: Path) -> tuple[int, int] | None:
    """(model seed, data seed) from a run folder's name; None if it has none.

    >>> seeds_of(Path("low_data/model_7_data_17"))
    (7, 17)
    """
    match = RUN_NAME.fullmatch(folder.name)
    return (int(match[1]), int(match[2])) if match else None


def find_runs(condition: str | Path) -> list[Path]:
    """The run folders of a condition, ordered by their seeds as numbers.

    Raises:
        ConfigError: two folders are of the same seeds.
    """
    runs = [
        folder
        for folder in as_path(condition, "condition folder").iterdir()
        if folder.is_dir() and seeds_of(folder) is not None
    ]
    runs.sort(key=lambda folder: (seeds_of(folder) or (), len(folder.name), folder.name))
    refuse_twins((folder, seeds_of(folder.resolve()) or seeds_of(folder)) for folder in runs)
    return runs


def refuse_twins(runs: Iterable[tuple[Path, tuple[int, int] | None]]) -> None:
    """A run is what its seeds are, whatever its folder is called: counted twice it would pass for two seeds.

    Args:
        runs: folder and (model seed, data seed) of each.

    Raises:
        ConfigError: names two folders of the same seeds.
    """
    seen: dict[tuple[int, int] | None, Path] = {}
    for folder, seeds in runs:
        first = seen.setdefault(seeds, folder)
        if first != folder and seeds is not None:
            raise ConfigError(
                f"{first} and {folder.name} are the same run (model seed {seeds[0]}, data seed {seeds[1]}); remove one of the two folders"
            )


def read_run(run_folder: str | Path) -> Run:
    """A run as its folder says, with the seeds of its name; nothing is written.

    Raises:
        MissingStageError: there is no such folder, or no config.yaml in it.
        ConfigError: it is a template, its seeds contradict its name, or its config.yaml is not allowed.
    """
    folder = run_path(run_folder)
    content = read_yaml(folder / CONFIG_NAME)
    resolve_seeds(content, folder)
    return Run(folder, parse_config(content, str(folder / CONFIG_NAME)))


def run_path(run_folder: str | Path) -> Path:
    """The folder, checked to exist and to be neither a template nor a condition."""
    folder = as_path(run_folder, "run folder").resolve()
    if not folder.is_dir():
        raise MissingStageError(
            f"run folder {folder} does not exist; make one with `minima-volume new` or by copying a template/"
        )
    if folder.name == "template":
        raise ConfigError(
            f"{folder} is a template: copy it to model_<seed>_data_<seed> (for example `cp -r template model_0_data_10`) and run "
            "the notebooks there"
        )
    if seeds_of(folder) is None and (runs := find_runs(folder)):
        raise ConfigError(f"{folder} is a condition folder; a run folder is wanted, such as {runs[0]}")
    return folder


def resolve_seeds(content: Any, folder: Path) -> None:
    """Fill the seeds in from the folder's name, in place, and refuse a contradiction."""
    named = seeds_of(folder)
    seeds: Any = content.get("seeds")
    if seeds is None:
        seeds = content["seeds"] = {}
    if not isinstance(seeds, dict):
        raise ConfigError(
            f"{folder / CONFIG_NAME}: seeds must be a section with model, data and perturbation, not {seeds!r}"
        )
    for key, value in zip(("model", "data"), named or (None, None), strict=True):
        configured = seeds.get(key)
        if configured is None and value is None:
            raise ConfigError(
                f"cannot read seeds from the folder name {folder.name!r}, and {CONFIG_NAME} has no seeds.{key}: rename the folder to "
                f"model_<seed>_data_<seed>, or set seeds.{key} in {CONFIG_NAME}"
            )
        if configured is None:
            seeds[key] = value
        elif value is not None and configured != value:
            raise ConfigError(
                f"{folder / CONFIG_NAME} has seeds.{key} = {configured!r}, but the folder's name {folder.name} says {value}: "
                f"rename the folder, or set seeds.{key} to null so that the name decides"
            )
