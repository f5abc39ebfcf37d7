"""What the config files of experiment directories may say: training, extraction of embeddings, prediction.

A directory is `{output_dir}/{name}`. Paths are relative to the working directory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from minima_volume.config.autoencoders import Loss, Model
from minima_volume.config.errors import parse
from minima_volume.config.sections import Count, DeviceName, Positive, Section, Seed
from minima_volume.config.tracking import MLflow
from minima_volume.files.yaml import read_yaml

TRAIN_LOSS = "train_loss"
LoaderClass = Literal["TabularDataLoader", "EmbeddingDataLoader", "ImageDataLoader"]


class Experiment(Section):
    """Where the directory lies, what happens if it exists, and what decides the numbers."""

    name: str
    output_dir: str = Field(min_length=1)
    seed: Seed = 0  # initial weights, order of the batches, noise
    device: DeviceName = "cpu"
    threads: Count = 1
    on_exists: Literal["overwrite", "timestamp", "error", "resume"] = "overwrite"

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not value.strip() or value in (".", "..") or "/" in value or "\\" in value or value.startswith("."):
            raise ValueError("the name of one folder, without / or \\ and not beginning with a dot")
        if len(value.encode()) > 255:
            raise ValueError("the name of one folder, of at most 255 bytes")
        return value

    @property
    def folder(self) -> Path:
        """The directory as it is named; `timestamp` may make another."""
        return Path(self.output_dir) / self.name


class Columns(Section):
    """Columns of a table, by what they hold."""

    numerical: list[str] = Field(default_factory=list)  # standardised with mean and deviation of the training data
    categorical: list[str] = Field(default_factory=list)
    embeddings: list[str] = Field(default_factory=list)  # numbers that are taken as they are

    @model_validator(mode="after")
    def _some(self) -> Columns:
        if not self.names:
            raise ValueError("numerical, categorical and embeddings are all empty; name at least one column")
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"columns {', '.join(repeated)} are named twice")
        return self

    @property
    def names(self) -> list[str]:
        """All columns in the order in which models see them."""
        return [*self.numerical, *self.embeddings, *self.categorical]


class Data(Section):
    columns: Columns | None = None  # of CSV tables; images and .npy files have none
    cardinalities_path: str | None = None  # JSON or YAML: column -> number of categories (codes from 0), or their list
    categories: dict[str, list[Any]] | None = None  # found in the training data, and written here
    scales: dict[str, list[float]] | None = None  # of numerical columns: mean and deviation in the training data


class LoaderParams(Section):
    batch_size: Count = 128
    shuffle: bool = True
    num_workers: Annotated[int, Field(ge=0)] = 0  # has no effect: samples are read from memory or a memory map
    num_batches_per_epoch: Count | None = None  # None: every sample once
    binarize: bool = False  # images: pixels above 0.5 are 1, others 0


class Source(Section):
    """Samples: a file or a built-in image set, if need be with a split, as in digits:test."""

    data_path: str = Field(min_length=1)
    loader_class: LoaderClass
    loader_params: LoaderParams = LoaderParams()


class OptimizerConfig(Section):
    """Any optimiser of torch.optim, with its own arguments beside."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    optimizer: str = "adam"
    learning_rate: Positive = 1e-3


class TrainSection(Source):
    epochs: Count
    optimizer_config: OptimizerConfig = OptimizerConfig()
    loss: Loss


class EarlyStopping(Section):
    patience: Count  # validations in a row without a new best
    metric: str = "val_loss"
    direction: Literal["min", "max"] = "min"


class ValSection(Source):
    loss: Loss | None = None  # None: the training loss
    frequency: Count = 1  # epochs from one validation to the next
    early_stopping: EarlyStopping | None = None


class Checkpoint(Section):
    metric: str | None = None  # None: val_loss, or train_loss without val
    mode: Literal["min", "max"] = "min"
    save_strategy: Literal["best", "last", "all"] = "best"


class TrainConfig(Section):
    """A training into one directory."""

    experiment: Experiment
    model: Model
    data: Data = Data()
    train: TrainSection
    val: ValSection | None = None
    checkpoint: Checkpoint = Checkpoint()
    mlflow: MLflow | None = None  # None: nothing is sent

    @model_validator(mode="after")
    def _together(self) -> TrainConfig:
        for key, metric in self.watched.items():
            if metric != TRAIN_LOSS and self.val is None:
                raise ValueError(f"{key} {metric!r} needs a val section; without one there is only {TRAIN_LOSS}")
        if self.val is not None and self.val.frequency > self.train.epochs:
            raise ValueError(f"val.frequency {self.val.frequency} is larger than train.epochs {self.train.epochs}")
        built_in = {"VAELoss": "VAE", "SAELoss": "SAE"}
        for loss in (self.train.loss, self.val.loss if self.val is not None else None):
            if loss is not None and built_in.get(loss.kind, self.model.kind) != self.model.kind:
                raise ValueError(
                    f"loss {loss.kind} is of model {built_in[loss.kind]}, here model.class is {self.model.kind!r}"
                )
        for section in filter(None, (self.train, self.val)):
            if section.loader_class == "TabularDataLoader" and self.data.columns is None:
                raise ValueError(
                    "data.columns is missing: say which columns of the table are numerical, categorical, embeddings"
                )
        return self

    @property
    def metric(self) -> str:
        """Of which the best epoch is kept."""
        return self.checkpoint.metric or (TRAIN_LOSS if self.val is None else "val_loss")

    @property
    def watched(self) -> dict[str, str]:
        """Key -> metric, of every metric that the config names."""
        stopping = self.val.early_stopping if self.val is not None else None
        return {"checkpoint.metric": self.metric} | (
            {"val.early_stopping.metric": stopping.metric} if stopping is not None else {}
        )


class CheckpointOf(Section):
    """Which weights are used."""

    path: str | None = None  # an experiment directory, its checkpoints/ or a .pt file; None: the experiment's own
    load_strategy: str = "best"

    @field_validator("load_strategy")
    @classmethod
    def _strategy(cls, value: str) -> str:
        if not re.fullmatch(r"best|last|(epoch_)?[0-9]{1,9}", value):
            raise ValueError("best, last or epoch_<N>, for example epoch_3")
        return value


class ModelClass(Section):
    kind: str = Field(alias="class")
    params: dict[str, Any] | None = None  # the checkpoint's own decide


class EmbedSource(Source):
    output: str | None = None  # .npy; None or a bare name: in embeddings/ of the directory


class Metrics(Section):
    compute: bool = True
    loss: Loss | None = None  # None: the training loss
    importance_samples: Annotated[int, Field(ge=0)] = (
        0  # VAE: per sample, for the negative log-likelihood; 0 leaves it out
    )


class PredictSource(EmbedSource):
    metrics: Metrics = Metrics(compute=False)


class EmbedConfig(Section):
    """Embeddings of any of three splits."""

    experiment: Experiment
    checkpoint: CheckpointOf = CheckpointOf()
    model: ModelClass | None = None
    data: Data | None = None  # None: as in training
    train: EmbedSource | None = None
    val: EmbedSource | None = None
    test: EmbedSource | None = None

    @model_validator(mode="after")
    def _some(self) -> EmbedConfig:
        if not self.sources:
            raise ValueError("none of train, val, test is there; give at least one")
        return self

    @property
    def sources(self) -> dict[str, EmbedSource]:
        """Split -> its samples."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: source for split, source in named.items() if source is not None}


class PredictConfig(Section):
    """Predictions of the test split."""

    experiment: Experiment
    checkpoint: CheckpointOf = CheckpointOf()
    model: ModelClass | None = None
    data: Data | None = None
    test: PredictSource


def load_train_config(path: Path, on_exists: str | None = None) -> TrainConfig:
    """Read and check the config of a training; `on_exists`, if given, instead of what it says."""
    content = read_yaml(path)
    if on_exists is not None and isinstance(content.get("experiment"), dict):
        content["experiment"]["on_exists"] = on_exists
    return parse(TrainConfig, content, str(path))


def load_embed_config(path: Path) -> EmbedConfig:
    """Read and check the config of an extraction."""
    return parse(EmbedConfig, read_yaml(path), str(path))


def load_predict_config(path: Path) -> PredictConfig:
    """Read and check the config of a prediction."""
    return parse(PredictConfig, read_yaml(path), str(path))


def resolved(config: TrainConfig) -> dict[str, Any]:
    """The config with every default, as config.yaml and checkpoints keep it."""
    return config.model_dump(by_alias=True)
