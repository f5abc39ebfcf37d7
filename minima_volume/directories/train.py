"""Training into an experiment directory: the package's loop, with checkpoints, a log, and a way on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.config.directory import TrainConfig, resolved
from minima_volume.directories.build import (
    Criterion,
    build_network,
    check_support,
    criterion_of,
    optimizer_of,
    with_shape,
)
from minima_volume.directories.directory import Opened, epoch_line, opened
from minima_volume.directories.metrics import measure, metric_names, undefined
from minima_volume.directories.own_code import KEY, ROWS, check_runs, losses_of, mark, own_names, require_as_trained
from minima_volume.directories.sources import Samples, batches, open_samples
from minima_volume.directories.track import Untracked, check_tracking, tracked
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.execution.device import checked_device, in_memory, threads
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.isolation import own_defaults
from minima_volume.models.sae import SAE
from minima_volume.seeding import generator, own_randomness
from minima_volume.training.checkpoint import load_checkpoint, save_checkpoint, snapshot
from minima_volume.training.loop import TRAIN_LOSS, Parts, Progress, Validation, Watch, train

Say = Callable[[str], object]


@dataclass(frozen=True)
class Task:
    """A training that is ready to begin.

    Attributes:
        config: with everything that was found in the data.
        parts: model, optimiser, objective, batches.
        validation: None without a val section.
        watches: the checkpoint's metric, and that of early stopping.
        criterion: of the training.
        first: samples, on the model's device.
    """

    config: TrainConfig
    parts: Parts
    validation: Validation | None
    watches: tuple[Watch, ...]
    criterion: Criterion
    first: Tensor

    def mark(self) -> dict[str, Any]:
        """Of a user's own code, see `own_code.mark`."""
        return mark(self.parts.model, self.criterion, self.first, self.config)


@own_defaults()
def train_directory(config: TrainConfig, places: Sequence[Path] = (), say: Say = print) -> Path:
    """Train as a config says, into `{output_dir}/{name}`.

    Args:
        config: of the training.
        places: folders in which a model or loss of the user's is looked for.
        say: called with each line for the person who waits.

    Returns:
        The directory.

    Raises:
        ConfigError: config, data and directory do not belong together; nothing was touched.
        DataError: the samples cannot be used, or the training diverged; the message names the epoch. Checkpoints of earlier epochs stay.
        LockedError: another process works in the directory.
    """
    with threads(config.experiment.threads):
        task = prepare(config, places)
        with opened(task.config, say) as held:
            return _train(task, held, say)


def prepare(config: TrainConfig, places: Sequence[Path]) -> Task:
    """Open the data and build model, loss and optimiser; all that can be wrong with a config is found here."""
    device = checked_device(config.experiment.device)
    check_tracking(config)
    samples, data = open_samples(config.train, "train", config.data)
    config = with_shape(config.model_copy(update={"data": data}), samples.shape)
    held_out = None
    if config.val is not None:
        held_out = open_samples(config.val, "val", data)[0]
        if held_out.shape != samples.shape:
            raise ConfigError(f"samples of val have shape {held_out.shape}, those of train {samples.shape}")
    model = build_network(config, samples.shape, places)
    for part in filter(None, (samples, held_out)):
        check_support(model, part)
    if isinstance(model, SAE) and config.model.params.center:  # type: ignore[union-attr]
        _center(model, samples)
    model.to(device)
    criterion = criterion_of(config.train.loss, model, config, places)
    _check_metrics(config, held_out)
    first = samples.take(slice(0, config.train.loader_params.batch_size)).to(device)
    check_runs(model, criterion, first, config)
    order, names = generator(config.experiment.seed, "batches"), own_names(config)

    def objective(model: nn.Module, batch: Tensor) -> Tensor:
        x = batch.to(device)
        return losses_of(model, criterion, x, names)

    parts = Parts(
        model,
        optimizer_of(model, config.train.optimizer_config),
        objective,
        partial(batches, samples, config.train.loader_params, order),
        random={"batches": order},
    )
    validation = _validation(config, held_out, criterion, model, places)
    return Task(config, parts, validation, _watches(config), criterion, first[:ROWS].clone())


def _validation(
    config: TrainConfig, samples: Samples | None, criterion: Criterion, model: nn.Module, places: Sequence[Path]
) -> Validation | None:
    if samples is None or config.val is None:
        return None
    if config.val.loss is not None:
        criterion = criterion_of(config.val.loss, model, config, places)

    def measured(model: nn.Module) -> Mapping[str, float]:
        found = measure(model, criterion, samples, config.experiment.seed)
        return {f"val_{name}": found[name] for name in metric_names(config.model.kind)}

    return Validation(measured, config.val.frequency)


def _watches(config: TrainConfig) -> tuple[Watch, ...]:
    kept = Watch(config.metric, config.checkpoint.mode)
    stopping = None if config.val is None else config.val.early_stopping
    return (kept,) if stopping is None else (kept, Watch(stopping.metric, stopping.direction, stopping.patience))


def _check_metrics(config: TrainConfig, held_out: Samples | None) -> None:
    allowed = [TRAIN_LOSS]
    if config.val is not None:
        allowed += [f"val_{name}" for name in metric_names(config.model.kind)]
    for key, metric in config.watched.items():
        if metric not in allowed:
            raise ConfigError(f"{key}: {metric!r} is not measured; allowed: {', '.join(allowed)}")
        if held_out is not None and (reason := undefined(metric.removeprefix("val_"), held_out)):
            raise ConfigError(
                f"{key}: {metric!r} is undefined, since {reason}; name another metric, such as val_loss, or give other samples"
            )


def _center(model: SAE, samples: Samples) -> None:
    sums = torch.stack([chunk.flatten(1).sum(0, dtype=torch.float64) for chunk in samples.chunks()])
    with torch.no_grad():
        model.decoder.bias.copy_(sums.sum(0) / len(samples))


def _train(task: Task, held: Opened, say: Say) -> Path:
    config, final = task.config, held.final
    if held.directory.finished:
        say(f"{final.folder} is finished; nothing to do (experiment.on_exists: overwrite trains it again)")
        return final.folder
    device = next(task.parts.model.parameters()).device
    with own_randomness(config.experiment.seed, device), tracked(held, say) as tracker:
        progress = _begin(task, held, tracker, say)
        try:
            with in_memory(f"training with loader_params.batch_size {config.train.loader_params.batch_size}"):
                train(
                    task.parts,
                    config.train.epochs,
                    progress=progress,
                    validation=task.validation,
                    watches=task.watches,
                    on_epoch=partial(_after_epoch, task, held, tracker, say),
                )
        except MinimaVolumeError as error:
            held.directory.log(f"stopped: {error}")
            raise
        except KeyboardInterrupt:
            held.directory.log("interrupted")
            raise
    ended = f"finished after epoch {progress.epoch}"
    if progress.epoch < config.train.epochs:
        ended += f": {task.watches[-1].metric} was best after epoch {task.watches[-1].best(progress)}"
    held.directory.log(ended)
    final.state_file.unlink(missing_ok=True)
    say(f"{ended}; {final.folder}")
    if (names := own_names(config)) and not task.mark():
        say(
            f"note: {names} cannot be run on {len(task.first)} samples alone, so a later change of the code will not be noticed"
        )
    return final.folder


def _begin(task: Task, held: Opened, tracker: Untracked, say: Say) -> Progress:
    """From the start, or from the state that an interrupted training left; the files of its last epoch are written again."""
    directory, state = held.directory, held.directory.state_file
    if not state.is_file():
        directory.write_config(held.config)
        directory.log(
            f"training begins: {len(list(task.parts.model.parameters()))} tensors of parameters, seed {task.config.experiment.seed}"
        )
        return Progress()
    progress = load_checkpoint(state, task.parts)
    require_as_trained(read_pt(state).get(KEY), task.parts.model, task.criterion, task.config, state)
    directory.write_config(held.config)
    line = f"resumed after epoch {progress.epoch}"
    directory.log(line)
    say(f"{directory.folder}: {line}")
    _files_of_epoch(task, held, tracker, progress)
    return progress


def _after_epoch(task: Task, held: Opened, tracker: Untracked, say: Say, progress: Progress) -> None:
    save_checkpoint(
        held.directory.state_file, task.parts, progress, task.mark()
    )  # first: whatever follows can be done again from it
    _files_of_epoch(task, held, tracker, progress)
    say(f"{held.directory.log_file.parents[1]}: {epoch_line(progress.epoch, _values(progress))}")


def _files_of_epoch(task: Task, held: Opened, tracker: Untracked, progress: Progress) -> None:
    """The checkpoints of an epoch, its line in the log, and what MLflow is told."""
    directory, strategy = held.directory, task.config.checkpoint.save_strategy
    content = _content(task, progress, resolved(held.config)) | tracker.mark() | task.mark()
    names = []
    if strategy in ("best", "all") and task.watches[0].improved(progress):
        names.append("best")
    if strategy in ("last", "all"):
        names.append("last")
    if strategy == "all":
        names.append(f"epoch_{progress.epoch}")
    for name in names:
        write_pt(directory.checkpoint(name), content)
    directory.log(epoch_line(progress.epoch, _values(progress)))
    if names:
        held.settle()
    tracker.epoch(progress.epoch, _values(progress))


def _content(task: Task, progress: Progress, config: dict[str, Any]) -> dict[str, Any]:
    state = snapshot(task.parts, progress)
    values = task.watches[0]
    known = progress.values(values.metric)
    return {
        "epoch": progress.epoch,
        "model_state_dict": state["state_dict"],
        "optimizer_state_dict": state["optimizer"],
        "metric_value": known[max(known)] if known else math.nan,
        "config": config,
        "random_state": {"generators": state["generators"], "torch": state["torch_random"]},
    }


def _values(progress: Progress) -> dict[str, float]:
    """The metrics of the epoch just done."""
    values = {TRAIN_LOSS: progress.train_loss[-1]}
    if progress.validated and progress.validated[-1] == progress.epoch:
        values |= {name: metric[-1] for name, metric in progress.metrics.items()}
    return values
