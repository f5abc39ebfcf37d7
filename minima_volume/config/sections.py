"""Sections of config.yaml that more than one kind of run has, and the types that their keys share.

`Section`, the number types and `Execution` belong to every kind: a volume run, a robustness study, an experiment directory. `Experiment`
and `Training` are those of runs that train the package's models: a volume run and a robustness study. `Seeds`, `Model`, `Sam` and
`Checkpoint` are a volume run's. An experiment directory has its own sections of these names, with other keys (`model: {class, params}`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", value):
        raise ValueError("cpu, cuda or cuda:<index>")
    return value


DeviceName = Annotated[str, AfterValidator(_device)]
BUILT_IN_LOSSES = ("cross_entropy", "bce_with_logits", "mse")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Experiment(Section):
    """What the run is called, and how many threads its numbers are made with."""

    name: str = Field(min_length=1)
    output_dir: str = "."  # where the run writes, relative to its folder
    allow_outside: bool = False  # whether output_dir may lead out of it
    device: DeviceName = "cpu"
    threads: Count = 1


class Seeds(Section):
    """model and data are None in templates and conditions: the run folder's name supplies them."""

    model: Seed | None = None
    data: Seed | None = None
    perturbation: Seed = 1


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

    loss: str = "cross_entropy"  # a built-in name, or <module>:<function> of a .py file beside config.yaml
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

    @field_validator("loss")
    @classmethod
    def _loss(cls, value: str) -> str:
        module, colon, function = value.partition(":")
        if value not in BUILT_IN_LOSSES and not (module and colon and function):
            raise ValueError(f"{', '.join(BUILT_IN_LOSSES)}, or <module>:<function> of a .py file beside config.yaml")
        return value

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


class Execution(Section):
    """Where pieces of work are done, with how much; numbers do not depend on it.

    On this machine, unless a Dask cluster or a batch system is named.
    """

    workers: Count | None = None  # one-thread processes; None: one per usable core, fewer for small work
    memory_gib: Positive = 2.0  # for all workers together
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


class Executable(Protocol):
    """What a configuration of any kind says about where its work is done."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def execution(self) -> Execution: ...
