"""What config.yaml of a robustness study may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from minima_volume.config.errors import parse
from minima_volume.config.sections import Count, Execution, Experiment, Fraction, Positive, Section, Seed, Training

Alpha = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Architecture = Literal["mlp", "cnn", "resnet18", "vit"]
HEADLINE = 0.1  # the alpha whose drop the summary shows
NEEDED = (0.0, HEADLINE)


class Data(Section):
    """Images with three channels and values in [0, 1]."""

    source: Literal["mnist", "fashion_mnist", "digits", "cifar10"] = "mnist"
    train_size: Count | None = None  # the first so many training images; None: all
    test_size: Count | None = None


class Noise(Section):
    """Gaussian noise on each tensor of weights, alpha times the tensor's standard deviation."""

    alpha_train: Alpha = 0.05
    alpha_test: list[Alpha] = Field(default=[0.0, 0.01, 0.02, 0.05, 0.1, 0.2])
    draws: Annotated[int, Field(ge=2)] = 5
    recalibration_size: Count = 2000  # training images that batch normalisation is recalibrated on
    accuracy: Fraction = 0.9  # alpha_50 is the noise at which half of the draws still reach it

    @field_validator("alpha_test")
    @classmethod
    def _alphas(cls, value: list[float]) -> list[float]:
        if len(set(value)) != len(value) or not set(NEEDED) <= set(value):
            raise ValueError("different numbers, 0 and 0.1 among them, which the summary compares")
        return sorted(value)


class Seeds(Section):
    training: list[Seed] = Field(default=[0, 1, 2], min_length=1)
    noise: Seed = 1  # draw d of the test noise has seed noise + d, for all networks alike

    @field_validator("training")
    @classmethod
    def _seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("different whole numbers, each once")
        return sorted(value)


class Volume(Section):
    """P[accuracy >= a | alpha] on a fixed subset of test images, for the clean and the noisy network of one training seed."""

    architectures: list[Architecture] = Field(default=[])  # none: not measured
    seed: Seed = 0
    subset: Count = 1000
    alphas: list[Positive] = Field(default=[0.3, 0.5, 0.7, 1.0], min_length=1)
    accuracies: list[Fraction] = Field(default=[0.95, 0.9], min_length=1)
    num_particles: Annotated[int, Field(ge=20)] = 100
    num_repeats: Annotated[int, Field(ge=2)] = 4
    num_moves: Count | None = None  # as many as a pilot finds
    layers: Alpha = 0.0  # the alpha of the noise profile by layer; 0: not measured
    layer_draws: Annotated[int, Field(ge=2)] = 20


class NoiseConfig(Section):
    """The complete configuration of a robustness study."""

    experiment: Experiment
    data: Data = Data()
    architectures: Annotated[dict[Architecture, dict[str, Any]], Field(min_length=1)]  # name -> options
    training: Training
    noise: Noise = Noise()
    seeds: Seeds = Seeds()
    volume: Volume = Volume()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _known(self) -> NoiseConfig:
        training, volume = self.training, self.volume
        if training.loss != "cross_entropy":
            raise ValueError(
                f"training.loss {training.loss!r} is not allowed: a robustness study trains classifiers, cross_entropy"
            )
        for key in ("checkpoints", "batch_sizes", "target_loss", "sam"):
            if getattr(training, key) is not None:
                raise ValueError(f"training.{key} applies only to volume runs; set it to null")
        if unknown := [name for name in volume.architectures if name not in self.architectures]:
            raise ValueError(
                f"volume.architectures: {unknown[0]!r} is not among architectures {list(self.architectures)}"
            )
        if volume.architectures and volume.seed not in self.seeds.training:
            raise ValueError(f"volume.seed {volume.seed} must be one of seeds.training {self.seeds.training}")
        return self


def parse_noise_config(content: Mapping[str, Any], where: str = "config") -> NoiseConfig:
    """Check a mapping against the schema of a robustness study.

    Raises:
        ConfigError: see `config.errors.parse`.

    >>> parse_noise_config({"noise": {"alpha": 1}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    minima_volume.errors.ConfigError: config: noise.alpha: unknown key (did you mean alpha_test?); allowed: alpha_train, ...
    """
    return parse(NoiseConfig, content, where)
