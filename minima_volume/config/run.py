"""What config.yaml of a volume run may say.

Its own sections are `data`, `perturbation` and `volume`; the others are in `config.sections`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from minima_volume.arguments import as_path
from minima_volume.config.errors import parse
from minima_volume.config.moved import at_new_places
from minima_volume.config.sections import (
    Checkpoint,
    Count,
    Execution,
    Experiment,
    Fraction,
    Model,
    Positive,
    Section,
    Seeds,
    Training,
)
from minima_volume.config.tracking import MLflow
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import read_yaml

ScalingName = Literal["filter", "none", "layer", "tensor_std", "sample_std"]


class Imbalance(Section):
    """A class-imbalanced draw: a share of the samples has one of some labels, the others have none of them."""

    labels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    ratio: Fraction  # share of samples with one of these labels; exact in every prefix, to within one sample
    base: bool = True  # draw the base samples so
    additional: bool = False  # draw the additional samples so

    @model_validator(mode="after")
    def _somewhere(self) -> Imbalance:
        if not (self.base or self.additional):
            raise ValueError("base and additional are both false, so nothing is imbalanced; leave imbalance null")
        return self


class Data(Section):
    """Where samples come from, and how many each landscape has."""

    source: str = Field(min_length=1)  # a built-in name, or <module>:<function> of a .py file beside config.yaml
    options: dict[str, Any] = Field(default_factory=dict)
    variant: Literal["data", "poison", "noise"] = "data"
    base_size: Count
    levels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    imbalance: Imbalance | None = None  # None: every sample of the source is as likely
    store: Literal["full", "indices"] = "full"

    @model_validator(mode="after")
    def _drawn(self) -> Data:
        if self.variant == "noise" and self.imbalance is not None and self.imbalance.additional:
            raise ValueError(
                "imbalance.additional must be false with variant noise, which makes the additional samples up"
            )
        return self

    @field_validator("levels")
    @classmethod
    def _levels(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("different numbers of additional samples, each once")
        return sorted(value)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples in each landscape, in the order of the levels."""
        return tuple(self.base_size + level for level in self.levels)


class Coefficients(Section):
    """The grid c_k = max * (k / (count - 1)) ** power, k = 0 .. count - 1; c_0 = 0 is the minimum itself."""

    max: Positive = 1.0
    count: Annotated[int, Field(ge=2)] = 34
    power: Positive = 2.0

    def values(self) -> np.ndarray:
        """The grid, shape (count,), float64, increasing from 0."""
        return self.max * np.linspace(0.0, 1.0, self.count) ** self.power


def _names(value: Any) -> Any:
    """One of the words, or a list; which names a model has is known when it is built."""
    texts = isinstance(value, list) and value and all(isinstance(entry, str) for entry in value)
    if not texts and value not in ("weight_bias", "weights", "all"):
        raise ValueError(
            "weight_bias, weights, all, or a list of names of parameters or modules, or globs, such as [head, 'layers.*.weight']"
        )
    return value


Names = Annotated[str | list[str], BeforeValidator(_names)]


class Perturbation(Section):
    """Random directions and the sweep along them."""

    num_directions: Count = 500
    coefficients: Coefficients = Coefficients()
    scaling: ScalingName = "filter"
    names: Names = "weight_bias"  # or weights, or all, or a list of names of parameters or modules, or globs
    loss_ceiling: Positive | None = None  # None: five times the largest loss threshold
    max_coefficient: Positive = 16.0  # past the grid the radius search doubles up to here
    shard_size: Count = 50  # directions in one file of unfinished work

    @model_validator(mode="after")
    def _reach(self) -> Perturbation:
        if self.max_coefficient < self.coefficients.max:
            raise ValueError(
                f"max_coefficient {self.max_coefficient:g} must be at least coefficients.max {self.coefficients.max:g}"
            )
        return self


class Gaussian(Section):
    """The Gaussian local volume: the probability that a perturbation of size sigma leaves the model in its minimum."""

    sigma: Positive | None = None  # in units of perturbation.scaling; None: not measured
    profile: list[Positive] = Field(default_factory=list)  # further sizes
    landscapes: list[Annotated[int, Field(ge=0)]] | None = None  # None: the smallest
    estimator: Literal["auto", "monte_carlo", "splitting"] = "auto"  # auto: plain samples if the probability allows
    num_particles: Annotated[int, Field(ge=20)] = 250
    num_repeats: Annotated[int, Field(ge=2)] = 16
    num_moves: Count | None = None  # between two stages; None: as many as a pilot finds
    precision: Positive = 0.3  # nats, half-width of the interval that more repeats or samples are spent on

    @model_validator(mode="after")
    def _sizes(self) -> Gaussian:
        if self.sigma is None and self.profile:
            raise ValueError(f"profile {self.profile} needs a headline sigma")
        if len({f"{sigma:g}" for sigma in self.sigmas}) != len(self.sigmas):
            raise ValueError(
                f"sigma and profile {self.sigmas} must differ from each other in their first 6 digits, which name the files"
            )
        return self

    @property
    def sigmas(self) -> list[float]:
        """All sizes, ascending."""
        return sorted([*self.profile, *([] if self.sigma is None else [self.sigma])])


class Volume(Section):
    """Where a minimum ends: loss thresholds, each paired with an accuracy threshold or with none."""

    loss_thresholds: list[Positive] = Field(default=[0.1, 0.05, 0.01], min_length=1)
    accuracy_thresholds: list[Fraction] | None = None
    headline_threshold: Positive | None = None  # None: the first of loss_thresholds
    top_k: Count = 50
    radius_tolerance: Positive | None = None  # None: min(1e-4, 0.003 / n), not below what the precision allows
    gaussian: Gaussian = Gaussian()

    @model_validator(mode="after")
    def _pairs(self) -> Volume:
        if len({f"{threshold:g}" for threshold in self.loss_thresholds}) != len(self.loss_thresholds):
            raise ValueError(
                f"loss_thresholds {self.loss_thresholds} must differ from each other in their first 6 digits, which name the folders"
            )
        if self.accuracy_thresholds is not None and len(self.accuracy_thresholds) != len(self.loss_thresholds):
            raise ValueError(
                f"accuracy_thresholds has {len(self.accuracy_thresholds)} values and loss_thresholds "
                f"{len(self.loss_thresholds)}; they are paired one by one, so give as many, or null for none"
            )
        if self.headline_threshold is not None and self.headline_threshold not in self.loss_thresholds:
            raise ValueError(
                f"headline_threshold {self.headline_threshold:g} must be one of loss_thresholds {self.loss_thresholds}"
            )
        return self

    @property
    def headline(self) -> float:
        """The loss threshold that tables and figures show first."""
        return self.loss_thresholds[0] if self.headline_threshold is None else self.headline_threshold

    def accuracy_for(self, threshold: float) -> float | None:
        """The accuracy threshold paired with a loss threshold, or None."""
        if self.accuracy_thresholds is None:
            return None
        return dict(zip(self.loss_thresholds, self.accuracy_thresholds, strict=True)).get(threshold)


class Config(Section):
    """The complete configuration of a run."""

    experiment: Experiment
    seeds: Seeds = Seeds()
    data: Data
    model: Model
    training: Training
    checkpoint: Checkpoint = Checkpoint()
    perturbation: Perturbation = Perturbation()
    volume: Volume = Volume()
    execution: Execution = Execution()
    mlflow: MLflow | None = None  # None: nothing is sent

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, content: Any) -> Any:
        return at_new_places(content)

    @model_validator(mode="after")
    def _one_data_set(self) -> Config:
        if self.variation != "level" and len(self.data.levels) > 1:
            key = {"epoch": "checkpoints", "batch_size": "batch_sizes"}[self.variation]
            raise ValueError(
                f"training.{key} makes a series on one data set, but data.levels has {len(self.data.levels)} values "
                f"{self.data.levels}; give one, e.g. [0], or set training.{key} to null"
            )
        if self.variation == "epoch" and self.checkpoint.save_strategy != "last":
            raise ValueError(
                f"training.checkpoints says which epochs are kept, so checkpoint.save_strategy "
                f"{self.checkpoint.save_strategy!r} must be 'last'"
            )
        return self

    @property
    def variation(self) -> Literal["level", "epoch", "batch_size"]:
        """What tells the minima of a run apart: usually the level; epoch or batch size in a series on one data set."""
        return "epoch" if self.training.checkpoints else "batch_size" if self.training.batch_sizes else "level"

    @property
    def minima(self) -> list[int]:
        """The variation's values, ascending: one minimum each."""
        return self.training.checkpoints or self.training.batch_sizes or self.data.levels

    def level_of(self, minimum: int) -> int:
        """Additional samples that a minimum (a value of the variation) was trained with."""
        return minimum if self.variation == "level" else self.data.levels[0]

    @property
    def loss_ceiling(self) -> float:
        """The loss a direction must pass before its sweep stops early."""
        return self.perturbation.loss_ceiling or 5 * max(self.volume.loss_thresholds)

    @property
    def model_seed(self) -> int:
        return _resolved(self.seeds.model, "model")

    @property
    def data_seed(self) -> int:
        return _resolved(self.seeds.data, "data")


def _resolved(seed: int | None, name: str) -> int:
    if seed is None:
        raise ConfigError(
            f"seeds.{name} is not set: name the run folder model_<seed>_data_<seed>, or set it in config.yaml"
        )
    return seed


def parse_config(content: Mapping[str, Any], where: str = "config") -> Config:
    """Check a mapping against the schema of a volume run.

    Args:
        content: sections and keys, as read from YAML.
        where: what the error message calls it, usually the file.

    Raises:
        ConfigError: see `config.errors.parse`.

    >>> parse_config({"experiment": {"name": "a", "colour": 1}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    minima_volume.errors.ConfigError: config: experiment.colour: unknown key; allowed: name, output_dir, allow_outside, device, threads; ...
    """
    return parse(Config, content, where)


def load_config(path: str | Path) -> Config:
    """Read and check one config.yaml."""
    return parse_config(read_yaml(as_path(path)), str(path))
