"""The one training loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from minima_volume.config.run import Training
from minima_volume.errors import DataError
from minima_volume.hosts.doors import evaluation_host, fit_to
from minima_volume.isolation import own_modes
from minima_volume.losses.loss import Loss, get_loss
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
    loss, y = ready(model, train, loss)
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


def ready(model: nn.Module, samples: tuple[Tensor, Tensor], loss: Loss) -> tuple[Loss, Tensor]:
    """The loss, reading this model's outputs, and targets in the type and shape it needs.

    Raises:
        ConfigError: the model's outputs do not fit the loss and the targets.
    """
    host = evaluation_host(model, samples[0])
    with evaluating(model):
        fitted = fit_to(host, *samples, loss)
    return fitted.loss, fitted.targets


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


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


def per_sample(model: nn.Module, samples: tuple[Tensor, Tensor], loss: Loss) -> tuple[Tensor, Tensor]:
    """Losses and margins of every sample, shapes (N,); margins are NaN where accuracy means nothing."""
    host = evaluation_host(model, samples[0])
    with evaluating(model):
        fitted = fit_to(host, *samples, loss)
        size = len(samples[0]) if fitted.apart else EVALUATION_BATCH
        parts = []
        for x, y in zip(samples[0].split(size), fitted.targets.split(size), strict=True):
            outputs = fitted.loss.read(host.run(x))
            losses = fitted.loss.elements(outputs, y)
            losses = losses.flatten(1).mean(1) if losses.ndim > 1 else losses
            parts.append((losses, sample_margins(fitted.loss, outputs, y)))
    return torch.cat([losses for losses, _ in parts]), torch.cat([margins for _, margins in parts])


def sample_margins(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Margins (N, ...) of outputs that the loss has read, or NaN of that length."""
    if loss.margins is None:
        return torch.full((len(outputs),), torch.nan, dtype=torch.float32, device=outputs.device)
    return loss.margins(outputs, targets)


def accuracy(margins: Tensor) -> float:
    """The share of positive margins, or NaN."""
    return math.nan if bool(margins.isnan().all()) else (margins > 0).double().mean().item()


def _append_train(history: History, loss: Loss, losses: Tensor, outputs: Tensor, targets: Tensor) -> None:
    pair = losses.double().mean().item(), accuracy(sample_margins(loss, loss.read(outputs), targets))
    _append(history.train_loss, history.train_accs, pair)


def _append(losses: list[float], accuracies: list[float], pair: tuple[float, float]) -> None:
    losses.append(pair[0])
    accuracies.append(pair[1])
