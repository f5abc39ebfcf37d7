"""Training by the settings of config.yaml: a loss on samples, for a fixed number of epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from minima_volume.config.sections import Training
from minima_volume.errors import DataError
from minima_volume.isolation import own_modes
from minima_volume.losses.loss import LossLike
from minima_volume.losses.registry import get_loss
from minima_volume.samples import each
from minima_volume.seeding import generator
from minima_volume.training.evaluation import accuracy, evaluate, evaluation_batch, ready
from minima_volume.training.gradient import AtTheWeights
from minima_volume.training.loop import Parts, Progress, train
from minima_volume.training.sam import AtTheAscent


@dataclass
class History:
    """Loss and accuracy after each epoch; `accs` are fractions, NaN if accuracy is undefined."""

    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    train_accs: list[float] = field(default_factory=list)
    test_accs: list[float] = field(default_factory=list)


OnEpoch = Callable[[int, History], None]


@own_modes()
def train_model(
    model: nn.Module,
    samples: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    settings: Training,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, history: None,
    optimizer: torch.optim.Optimizer | None = None,
    loss: LossLike | None = None,
) -> History:
    """Train in place for a fixed number of epochs, or until the training loss has reached `target_loss`.

    Args:
        model: the model, on the device of the samples.
        samples: inputs (N, ...) and targets to train on.
        test: the test set, evaluated after every epoch.
        settings: optimiser, epochs, batch size. The history is complete at each of `checkpoints`.
        seed: the model seed; orders the batches when `batch_size` is below N.
        on_epoch: called after each epoch with its number (from 1) and the history so far.
        optimizer: over the model's parameters, for a caller who wants to see its state; the configured one by default.
        loss: the loss that `settings.loss` names, for a path to a function beside config.yaml; by default it is looked up.

    Returns:
        The history, one value per epoch.

    Raises:
        DataError: the training loss became NaN or infinite.
    """
    x, given = samples
    kind, y = ready(model, (x, given), get_loss(settings.loss if loss is None else loss))
    history, batch = History(), evaluation_batch(model, test[0])
    # a full batch's loss before a step is the loss after the last epoch, unless layers behave differently in training
    full = settings.batch_size is None or settings.batch_size >= len(x)
    reuse = full and not depends_on_mode(model) and settings.target_loss is None
    rho = "" if settings.sam is None else f" or training.sam.rho ({settings.sam.rho:g}),"
    at_once = {settings.epochs, *(settings.checkpoints or ())}

    def objective(model: nn.Module, batch: tuple[Tensor, Any]) -> Tensor:
        outputs = model(batch[0])
        losses = kind.per_sample(outputs, batch[1])
        if reuse and len(history.train_loss) < len(history.test_loss):
            margins = kind.sample_margins(each(outputs, Tensor.detach), batch[1])
            _append(history.train_loss, history.train_accs, (losses.detach().double().mean().item(), accuracy(margins)))
        return losses

    def after(progress: Progress) -> bool:
        epoch = progress.epoch
        if not reuse or epoch in at_once:
            _append(history.train_loss, history.train_accs, evaluate(model, (x, y), kind, batch))
        _append(history.test_loss, history.test_accs, evaluate(model, test, kind, batch))
        newest = history.train_loss[-1:] + history.test_loss[-1:]
        if not all(map(math.isfinite, newest)):
            raise DataError(
                f"training diverged: the loss was {newest[0]:.3g} (test loss {newest[-1]:.3g}) by epoch {epoch}; "
                f"lower training.learning_rate ({settings.learning_rate:g}){rho} or look at the data"
            )
        on_epoch(epoch, history)
        return settings.target_loss is not None and history.train_loss[-1] <= settings.target_loss

    order = generator(seed, "batches")
    parts = Parts(
        model,
        make_optimizer(model, settings) if optimizer is None else optimizer,
        objective,
        partial(_batches_of, (x, y), settings.batch_size, order),
        AtTheWeights() if settings.sam is None else AtTheAscent(settings.sam),
        {"batches": order},
    )
    train(parts, settings.epochs, on_epoch=after)
    return history


def _batches_of(samples: tuple[Tensor, Any], size: int | None, order: torch.Generator) -> Iterator[tuple[Tensor, Any]]:
    for batch in batches(len(samples[0]), size, order):
        yield samples[0][batch], samples[1][batch]


def depends_on_mode(model: nn.Module) -> bool:
    """Whether some layer behaves differently in training (dropout, batch normalisation)."""
    return any(isinstance(layer, _BatchNorm | _DropoutNd) for layer in model.modules())


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The configured optimiser over all parameters."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def batches(count: int, size: int | None, order: torch.Generator) -> Iterator[Tensor | slice]:
    """The batches of one epoch: the full batch in stored order, or shuffled batches of `size`."""
    if size is None or size >= count:
        yield slice(None)
        return
    yield from torch.randperm(count, generator=order, device="cpu").split(size)


def _append(losses: list[float], accuracies: list[float], pair: tuple[float, float]) -> None:
    losses.append(pair[0])
    accuracies.append(pair[1])
