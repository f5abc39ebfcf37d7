"""The one training loop: any objective, any way to a gradient, validation, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError, DataError
from minima_volume.training.gradient import AtTheWeights, Gradient

Objective = Callable[[nn.Module, Any], Tensor]
TRAIN_LOSS = "train_loss"


@dataclass(frozen=True)
class Parts:
    """What one training is made of; training changes it in place, and a checkpoint keeps all of its state.

    Attributes:
        model: in training mode during an epoch.
        optimizer: over its parameters.
        objective: (model, batch) -> per-sample losses (B,), whose mean is minimised.
        batches: gives the batches of one epoch; called once per epoch.
        gradient: where the gradient of a step is taken.
        random: name -> generator that `batches` or `objective` draw from.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    batches: Callable[[], Iterable[Any]]
    gradient: Gradient = field(default_factory=AtTheWeights)
    random: Mapping[str, torch.Generator] = field(default_factory=dict)

    @property
    def generators(self) -> dict[str, torch.Generator]:
        """Every generator that the training draws from, apart from torch's global one."""
        return {**self.random, **self.gradient.generators}


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are done.
        train_loss: per epoch, the mean over its batches while the weights moved.
        validated: the epochs after which metrics were measured.
        metrics: name -> its values, one per entry of `validated`.
    """

    epoch: int = 0
    train_loss: list[float] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def values(self, metric: str) -> dict[int, float]:
        """Epoch -> value of a metric, or of `train_loss`.

        Raises:
            ConfigError: no such metric.
        """
        if metric == TRAIN_LOSS:
            return dict(enumerate(self.train_loss, 1))
        if metric not in self.metrics and self.validated:
            raise ConfigError(f"metric {metric!r} is not measured; allowed: {', '.join([TRAIN_LOSS, *self.metrics])}")
        return dict(zip(self.validated, self.metrics.get(metric, []), strict=True))


@dataclass(frozen=True)
class Validation:
    """Metrics of the model, measured every so many epochs.

    Attributes:
        measure: model -> name and value of each metric; sees the model in evaluation mode, without gradients.
        every: epochs from one to the next.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    every: int = 1


@dataclass(frozen=True)
class Watch:
    """A metric whose best epoch matters.

    Attributes:
        metric: its name, or `train_loss`.
        mode: whether small or large values are good.
        patience: values in a row without a new best, after which the training stops; None: it never does.
    """

    metric: str
    mode: Literal["min", "max"] = "min"
    patience: int | None = None

    def best(self, progress: Progress) -> int | None:
        """The epoch of the best value, the first of equals; None before there is one. NaN is never the best."""
        sign = 1 if self.mode == "min" else -1
        known = {epoch: sign * value for epoch, value in progress.values(self.metric).items() if math.isfinite(value)}
        return min(known, key=known.__getitem__, default=None)

    def improved(self, progress: Progress) -> bool:
        """Whether the epoch just done is the best."""
        return self.best(progress) == progress.epoch

    def exhausted(self, progress: Progress) -> bool:
        """Whether the patience is used up."""
        best = self.best(progress)
        if self.patience is None or best is None:
            return False
        return sum(epoch > best for epoch in progress.values(self.metric)) >= self.patience

    def check(self, progress: Progress) -> None:
        """Raise DataError if the newest value is NaN or infinite."""
        for epoch, value in list(progress.values(self.metric).items())[-1:]:
            if not math.isfinite(value):
                raise DataError(
                    f"training diverged: {self.metric} was {value:.3g} after epoch {epoch}; lower the learning rate or look at the data"
                )


def train(
    parts: Parts,
    epochs: int,
    *,
    progress: Progress | None = None,
    validation: Validation | None = None,
    watches: Sequence[Watch] = (),
    on_epoch: Callable[[Progress], object] = lambda progress: None,
) -> Progress:
    """Train in place up to a number of epochs, or until a watched metric has not improved for long.

    Args:
        parts: model, optimiser, objective, batches, gradient.
        epochs: the last epoch, those before a checkpoint counted.
        progress: where to go on, from `checkpoint.restore`; from the start by default.
        validation: metrics to measure.
        watches: metrics that must stay finite, and may stop the training.
        on_epoch: called after each epoch, when everything about it is known; True stops the training.

    Returns:
        The progress, which was changed in place if it was given.

    Raises:
        DataError: the training loss or a watched metric became NaN or infinite; the message names the epoch, for which `on_epoch` is
            not called.
        ConfigError: a watched metric is not measured, or the objective gives no per-sample losses.
    """
    progress = Progress() if progress is None else progress
    while progress.epoch < epochs and not any(watch.exhausted(progress) for watch in watches):
        loss, start = one_epoch(parts)
        progress.epoch += 1
        if not math.isfinite(loss):
            raise DataError(_diverged(parts, progress.epoch, loss, start))
        progress.train_loss.append(loss)
        if validation is not None and progress.epoch % validation.every == 0:
            _validate(parts.model, validation, progress)
        for watch in watches:
            watch.check(progress)
        if on_epoch(progress) is True:
            break
    return progress


def _diverged(parts: Parts, epoch: int, loss: float, start: float) -> str:
    """What happened, and what can be done about what it came from."""
    moved = parts.gradient.moved_by
    if epoch == 1 and not math.isfinite(start):
        found = f"the loss was {start:.3g} before the first step of training, so the learning rate is not the reason"
        return f"{found}; lower {moved}" if moved else f"{found}; look at the data and the initial weights"
    rate = f"the learning rate ({float(parts.optimizer.param_groups[0]['lr']):g})"
    lower = f"{rate} or {moved}," if moved else rate
    return f"training diverged: the loss was {loss:.3g} in epoch {epoch}; lower {lower} or look at the data"


def one_epoch(parts: Parts) -> tuple[float, float]:
    """One pass over the batches; the mean loss over their samples, and that of the first batch."""
    parts.model.train()
    start = torch.zeros(())
    total, samples = torch.zeros((), dtype=torch.float64, device="cpu"), 0
    for batch in parts.batches():
        parts.optimizer.zero_grad(set_to_none=True)
        losses = parts.gradient(parts.model, partial(_losses, parts, batch))
        parts.optimizer.step()
        start = start if samples else losses.mean()
        total = total.to(losses.device) + losses.sum(dtype=torch.float64)
        samples += len(losses)
    if not samples:
        raise DataError(
            "an epoch has no batches: the training set is empty, or all of it was dropped as an incomplete batch"
        )
    return float(total) / samples, float(start)


def _losses(parts: Parts, batch: Any) -> Tensor:
    losses = parts.objective(parts.model, batch)
    if losses.ndim != 1:
        raise ConfigError(f"the objective must give one loss per sample, shape (samples,), got {tuple(losses.shape)}")
    return losses


def _validate(model: nn.Module, validation: Validation, progress: Progress) -> None:
    model.eval()
    with torch.no_grad():
        values = validation.measure(model)
    if progress.validated and set(values) != set(progress.metrics):
        raise ConfigError(
            f"validation measured {', '.join(values)} after epoch {progress.epoch}, before {', '.join(progress.metrics)}"
        )
    progress.validated.append(progress.epoch)
    for name, value in values.items():
        progress.metrics.setdefault(name, []).append(float(value))
