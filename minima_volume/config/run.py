"""What config.yaml may say, and the errors when it says something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from minima_volume.config.errors import explain
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import read_yaml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
ScalingName = Literal["filter", "none", "layer", "tensor_std"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Experiment(Section):
    """What the run is called, and how many threads its numbers are made with."""

    name: str = Field(min_length=1)
    output_dir: str = "."  # where the run writes, relative to its folder
    allow_outside: bool = False  # whether output_dir may lead out of it
    device: str = "cpu"  # cpu, cuda or cuda:<i>
    threads: Count = 1

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if value != "cpu" and not value.startswith("cuda"):
            raise ValueError("cpu, cuda or cuda:<index>")
        return value


class Seeds(Section):
    """model and data are None in templates and conditions: the run folder's name supplies them."""

    model: Seed | None = None
    data: Seed | None = None
    perturbation: Seed = 1


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
    options: dict[str, Any] = {}
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


class Model(Section):
    name: str = Field(min_length=1)  # a built-in name, or <module>:<class> of a .py file beside config.yaml
    options: dict[str, Any] = {}


class Sam(Section):
    """Sharpness-aware minimisation on top of the optimiser."""

    rho: Positive = 0.05  # length of the step up
    adaptive: bool = False  # ASAM: the step is measured relative to the weights


Series = Annotated[list[Count], Field(min_length=1)]


class Training(Section):
    """One loop for every experiment; the last weights are kept after a fixed number of epochs."""

    loss: Literal["cross_entropy", "bce_with_logits", "mse"] = "cross_entropy"
    epochs: Count
    target_loss: Positive | None = None  # stop after the first epoch whose training loss is at most this; None: never
    checkpoints: Series | None = None  # a series: the minimum after each of these epochs, from one training
    batch_size: Count | None = None  # None: the full batch, unshuffled
    batch_sizes: Series | None = None  # a series: one model a batch size
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 1e-3
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [
        0.9,
        0.999,
    ]
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0  # sgd only
    sam: Sam | None = None

    @field_validator("checkpoints", "batch_sizes")
    @classmethod
    def _series(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("different whole numbers, each once")
        return value and sorted(value)

    @model_validator(mode="after")
    def _one_series(self) -> Training:
        if self.checkpoints and self.batch_sizes:
            raise ValueError("checkpoints and batch_sizes are both set; a run has one series, set the other to null")
        if self.checkpoints and self.checkpoints[-1] > self.epochs:
            raise ValueError(f"checkpoints {self.checkpoints} go past epochs {self.epochs}; raise epochs")
        if self.checkpoints and self.target_loss is not None:
            raise ValueError("target_loss may end the training before the checkpoints; set one of them to null")
        if self.batch_sizes and self.batch_size is not None:
            raise ValueError(f"batch_sizes is a series, so batch_size {self.batch_size} must be null")
        return self


class Checkpoint(Section):
    save_strategy: Literal["last", "best", "all"] = "last"


class Coefficients(Section):
    """The grid c_k = max * (k / (count - 1)) ** power, k = 0 .. count - 1; c_0 = 0 is the minimum itself."""

    max: Positive = 1.0
    count: Annotated[int, Field(ge=2)] = 34
    power: Positive = 2.0

    def values(self) -> np.ndarray:
        """The grid, shape (count,), float64, increasing from 0."""
        return self.max * np.linspace(0.0, 1.0, self.count) ** self.power


def _names(value: Any) -> Any:
    """The two words or a list; which names a model has is known when it is built."""
    texts = isinstance(value, list) and value and all(isinstance(entry, str) for entry in value)
    if not texts and value not in ("weight_bias", "all"):
        raise ValueError(
            "weight_bias, all, or a list of names of parameters or modules, or globs, such as [head, 'layers.*.weight']"
        )
    return value


Names = Annotated[str | list[str], BeforeValidator(_names)]


class Perturbation(Section):
    """Random directions and the sweep along them."""

    num_directions: Count = 500
    coefficients: Coefficients = Coefficients()
    scaling: ScalingName = "filter"
    names: Names = "weight_bias"  # or all, or a list of names of parameters or modules, or globs over either
    loss_ceiling: Positive | None = None  # None: five times the largest loss threshold
    max_coefficient: Positive = 16.0  # past the grid the radius search doubles up to here
    shard_size: Count = 50  # directions in one file of unfinished work
    workers: Count | None = None  # one-thread processes; None: one per usable core, fewer for small work
    memory_gib: Positive = 2.0  # for all workers together

    @model_validator(mode="after")
    def _reach(self) -> Perturbation:
        if self.max_coefficient < self.coefficients.max:
            raise ValueError(
                f"max_coefficient {self.max_coefficient:g} must be at least coefficients.max {self.coefficients.max:g}"
            )
        return self


class Execution(Section):
    """Where pieces of work are done: on this machine, unless a Dask cluster or a batch system is named."""

    scheduler: str | None = None  # tcp://host:8786: a Dask scheduler that is running
    # local: a Dask LocalCluster on this machine; the others through dask-jobqueue
    cluster: Literal["local", "slurm", "pbs", "sge", "lsf", "oar", "moab", "htcondor"] | None = None
    jobs: Count = 1  # of the batch system
    # of a job, as dask-jobqueue calls them: cores, processes, memory, walltime, ...; of a LocalCluster: n_workers,
    # memory_limit, local_directory
    options: dict[str, Any] = {}

    @field_validator("scheduler")
    @classmethod
    def _scheduler(cls, value: str | None) -> str | None:
        if value is not None and "://" not in value:
            raise ValueError("tcp://<host>:<port>, the address that `dask scheduler` prints")
        return value

    @model_validator(mode="after")
    def _one(self) -> Execution:
        if self.scheduler is not None and self.cluster is not None:
            raise ValueError("scheduler and cluster are both set; set one of them to null")
        return self

    @property
    def on_cluster(self) -> bool:
        return self.scheduler is not None or self.cluster is not None


class Gaussian(Section):
    """The Gaussian local volume: the probability that a perturbation of size sigma leaves the model in its minimum."""

    sigma: Positive | None = None  # in units of perturbation.scaling; None: not measured
    profile: list[Positive] = []  # further sizes
    landscapes: list[Annotated[int, Field(ge=0)]] | None = None  # None: the smallest
    num_particles: Annotated[int, Field(ge=20)] = 250
    num_repeats: Annotated[int, Field(ge=2)] = 8
    num_moves: Count = 20
    precision: Positive = 0.3  # nats, half-width of the interval that more repeats are spent on

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

    loss_thresholds: Annotated[list[Positive], Field(min_length=1)] = [0.1, 0.05, 0.01]
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
    """The whole truth of a run."""

    experiment: Experiment
    seeds: Seeds = Seeds()
    data: Data
    model: Model
    training: Training
    checkpoint: Checkpoint = Checkpoint()
    perturbation: Perturbation = Perturbation()
    volume: Volume = Volume()
    execution: Execution = Execution()

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
        """What tells the minima of a run apart: the level as a rule, epoch or batch size in series on one data set."""
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
    """Check a mapping against the schema.

    Args:
        content: sections and keys, as read from YAML.
        where: what the error message calls it, usually the file.

    Raises:
        ConfigError: one line per problem, each with the key, its value and what is allowed.

    >>> parse_config({"experiment": {"name": "a", "colour": 1}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    minima_volume.errors.ConfigError: config: experiment.colour: unknown key; allowed: name, output_dir, device, threads; ...
    """
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        problems = [explain(problem, Config) for problem in error.errors()]
    unknown_first = sorted(problems, key=lambda text: "unknown key" not in text)
    raise ConfigError(f"{where}: " + "; ".join(unknown_first if len(problems) < 4 else [*unknown_first[:3], "..."]))


def load_config(path: Path) -> Config:
    """Read and check one config.yaml."""
    return parse_config(read_yaml(path), str(path))
