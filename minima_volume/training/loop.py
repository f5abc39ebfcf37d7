"""The one training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from minima_volume.config import Training
from minima_volume.errors import ConfigError, DataError
from minima_volume.isolation import own_modes
from minima_volume.losses import Loss, get_loss, prepare_targets
from minima_volume.seeding import generator
from minima_volume.training.sam import ascended

EVALUATION_BATCH = 2048


@dataclass
class History:
    """Loss and accuracy after each epoch; `accs` are fractions, NaN where accuracy means nothing."""

    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    train_accs: list[float] = field(default_factory=list)
    test_accs: list[float] = field(default_factory=list)


OnEpoch = Callable[[int, History], None]


@own_modes()
def train_model(
    model: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    settings: Training,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, history: None,
    optimizer: torch.optim.Optimizer | None = None,
) -> History:
    """Train in place for a fixed number of epochs, or until the training loss has reached `target_loss`.

    Args:
        model: the model, on the device of the samples.
        train: inputs (N, ...) and targets.
        test: the test set, evaluated after every epoch.
        settings: optimiser, epochs, batch size. The history is complete at each of `checkpoints`.
        seed: the model seed; orders the batches when `batch_size` is below N.
        on_epoch: called after each epoch with its number (from 1) and the history so far.
        optimizer: over the model's parameters, for a caller who wants to see its state; the configured one by default.

    Returns:
        The history, one value an epoch.

    Raises:
        DataError: the training loss became NaN or infinite.
    """
    loss = get_loss(settings.loss)
    x, y = train
    y = ready_targets(model, train, loss)
    optimizer = make_optimizer(model, settings) if optimizer is None else optimizer
    order = generator(seed, "batches")
    history = History()
    # a full batch's loss before a step is the loss after the last epoch, unless layers behave differently in training
    full = settings.batch_size is None or settings.batch_size >= len(x)
    reuse = full and not depends_on_mode(model) and settings.target_loss is None
    at_once = {settings.epochs, *(settings.checkpoints or ())}
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for batch in batches(len(x), settings.batch_size, order):
            optimizer.zero_grad(set_to_none=True)
            outputs = model(x[batch])
            losses = loss.per_sample(outputs, y[batch])
            value = losses.mean()
            if reuse and len(history.train_loss) < epoch - 1:
                _append_train(history, loss, losses.detach(), outputs.detach(), y)
            value.backward()
            if settings.sam is not None:
                with ascended(model, settings.sam):
                    loss.per_sample(model(x[batch]), y[batch]).mean().backward()
            optimizer.step()
        if not reuse or epoch in at_once:
            _append(history.train_loss, history.train_accs, evaluate(model, (x, y), loss))
        _append(history.test_loss, history.test_accs, evaluate(model, test, loss))
        newest = history.train_loss[-1:] + history.test_loss[-1:]
        if not all(map(math.isfinite, newest)):
            raise DataError(
                f"training diverged: the loss was {newest[0]:.3g} (test loss {newest[-1]:.3g}) by epoch {epoch}; "
                f"lower training.learning_rate ({settings.learning_rate:g}) or look at the data"
            )
        on_epoch(epoch, history)
        if settings.target_loss is not None and history.train_loss[-1] <= settings.target_loss:
            break
    return history


@torch.no_grad()
def ready_targets(model: nn.Module, samples: tuple[Tensor, Tensor], loss: Loss) -> Tensor:
    """Targets in the type and shape the loss needs, checked against the model's output for one sample.

    Raises:
        ConfigError: the model's output is no tensor, or does not fit the loss.
    """
    was_training = model.training
    one = model.eval()(samples[0][:1])
    model.train(was_training)
    if not isinstance(one, Tensor) or one.shape[:1] != (1,):
        got = f"a tensor of shape {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
        raise ConfigError(
            f"model {type(model).__name__} must return one tensor whose first dimension counts the samples; for one sample it gives {got}"
        )
    return prepare_targets(loss, one.expand(len(samples[0]), *one.shape[1:]), samples[1])


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


@torch.no_grad()
def evaluate(model: nn.Module, samples: tuple[Tensor, Tensor], loss: Loss) -> tuple[float, float]:
    """Mean loss and accuracy over all samples in evaluation mode; sums in float64."""
    losses, margins = per_sample(model, samples, loss)
    return losses.double().mean().item(), accuracy(margins)


@torch.no_grad()
def per_sample(model: nn.Module, samples: tuple[Tensor, Tensor], loss: Loss) -> tuple[Tensor, Tensor]:
    """Losses and margins of every sample, shapes (N,); margins are NaN where accuracy means nothing."""
    was_training = model.training
    model.eval()
    try:
        parts = []
        for x, y in zip(*(part.split(EVALUATION_BATCH) for part in samples), strict=True):
            outputs = model(x)
            y = prepare_targets(loss, outputs, y)
            parts.append((loss.per_sample(outputs, y), sample_margins(loss, outputs, y)))
    finally:
        model.train(was_training)
    losses, margins = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(margins)


def sample_margins(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Margins (N, ...) or NaN of that length."""
    if loss.margins is None:
        return torch.full((len(outputs),), torch.nan, dtype=torch.float32, device=outputs.device)
    return loss.margins(outputs, targets)


def accuracy(margins: Tensor) -> float:
    """The share of positive margins, or NaN."""
    return math.nan if bool(margins.isnan().all()) else (margins > 0).double().mean().item()


def _append_train(history: History, loss: Loss, losses: Tensor, outputs: Tensor, targets: Tensor) -> None:
    pair = losses.double().mean().item(), accuracy(sample_margins(loss, outputs, targets))
    _append(history.train_loss, history.train_accs, pair)


def _append(losses: list[float], accuracies: list[float], pair: tuple[float, float]) -> None:
    losses.append(pair[0])
    accuracies.append(pair[1])
