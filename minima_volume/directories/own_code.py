"""A user's own model and loss: errors in their code, and whether they still compute what they did when a checkpoint was written."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from minima_volume.config.autoencoders import OwnLoss, OwnModel
from minima_volume.config.directory import TrainConfig
from minima_volume.errors import ConfigError, MinimaVolumeError, StaleError
from minima_volume.execution.device import TOO_LARGE, in_memory
from minima_volume.hosts.host import untouched
from minima_volume.hosts.outputs import detached
from minima_volume.models.vae import VAE
from minima_volume.seeding import generator, normals, own_randomness

KEY = "own_code"  # of a checkpoint
ROWS = 4  # samples that are kept in it
ROUNDING = 1e-4  # of the largest number: differences that another device or number of threads may make
PACKAGE, TORCH = Path(__file__).parents[1], Path(torch.__file__).parent
TRAIN_AGAIN = "Undo the change, or train again (experiment.on_exists: overwrite, or another experiment.name)"

Criterion = Callable[[Any, Tensor], Tensor]


def own_names(config: TrainConfig) -> str:
    """The user's own model and loss of a config, for messages; empty if both are built in."""
    parts = {"model": config.model, "loss": config.train.loss}
    return " and ".join(f"{what} {part.kind!r}" for what, part in parts.items() if isinstance(part, OwnModel | OwnLoss))


@contextmanager
def explained(what: str, model: nn.Module | None = None) -> Iterator[None]:
    """Run a user's code: what it raises becomes one line, with its place in their file.

    Args:
        what: was done, as in "model 'mine:Net' cannot be built".
        model: if it exists, whose parameters may be of another type than the samples.

    Raises:
        ConfigError: the code raised something, other than that there is too little memory.
    """
    try:
        yield
    except (MinimaVolumeError, MemoryError):
        raise
    except Exception as error:
        if TOO_LARGE.search(str(error)):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not {PACKAGE, TORCH} & set(Path(frame.filename).parents)]
        place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        kinds = {str(p.dtype) for p in model.parameters() if p.is_floating_point()} if model is not None else set()
        advice = (
            f"; its parameters are {', '.join(sorted(kinds))} and samples torch.float32: build the model in torch.float32 and without "
            "torch.set_default_dtype in its file"
            if kinds - {"torch.float32"}
            else ""
        )
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{what}: {type(error).__name__}: {reason}{place}{advice}") from error


def check_runs(model: nn.Module, criterion: Criterion, x: Tensor, config: TrainConfig) -> None:
    """Try one batch as training will see it; the model and random numbers are as before.

    Raises:
        ConfigError: the user's own model or loss fails on it.
    """
    names = own_names(config)
    if names and not any(
        map(nn.parameter.is_lazy, model.parameters())
    ):  # lazy ones take their shapes from the first batch
        batch = f"training with loader_params.batch_size {config.train.loader_params.batch_size}"
        with untouched(model), own_randomness(config.experiment.seed, x.device), in_memory(batch):
            losses_of(model.train(), criterion, x, names)


def losses_of(model: nn.Module, criterion: Criterion, x: Tensor, names: str) -> Tensor:
    """The losses of a batch; `names` are those of `own_names`.

    Raises:
        ConfigError: the user's own model or loss fails on it.
    """
    if not names:
        return criterion(model(x), x)
    with explained(f"{names} cannot be run on samples of shape {tuple(x.shape)}", model):
        return criterion(model(x), x)


def mark(model: nn.Module, criterion: Criterion, x: Tensor, config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint keeps of a user's own model or loss: samples (ROWS, ...), the outputs for them, and their losses.

    Empty where both are built in, and where they do not run on so few samples, which the training says when it ends.
    """
    if not own_names(config):
        return {}
    seed = config.experiment.seed
    try:
        (outputs, losses), (others, _) = (_run(model, criterion, x, config, seed + shift) for shift in (0, 1))
    except Exception:  # of fewer samples than it was trained on: then nothing can be compared later
        return {}
    random = not all(map(torch.equal, outputs, others))
    kept = {"x": x, "outputs": outputs, "losses": losses, "random": random, "device": x.device.type}
    return {KEY: {name: _on_cpu(value) for name, value in kept.items()}}


def require_as_trained(
    kept: Mapping[str, Any] | None, model: nn.Module, criterion: Criterion | None, config: TrainConfig, where: Path
) -> None:
    """Refuse a user's code that computes something else than when the model was trained; other spelling of the same is welcome.

    Args:
        kept: from `mark`, without its key; None of a checkpoint that has none.
        model: with the weights of the checkpoint.
        criterion: of the training; None compares outputs alone.
        config: of the training.
        where: the checkpoint, for the message.

    Raises:
        StaleError: outputs or losses are others.
        ConfigError: the code fails.
    """
    if kept is None:
        return
    x = kept["x"].to(next(model.parameters()).device)
    if kept["random"] and kept["device"] != x.device.type:  # there random numbers are others
        return
    with explained(f"{own_names(config)} cannot be run on samples of shape {tuple(x.shape)}", model):
        _settle(model, x, config)
        outputs, losses = _run(model, criterion, x, config, config.experiment.seed)
    pairs = list(zip(outputs, kept["outputs"], strict=False))
    if len(outputs) != len(kept["outputs"]) or not all(_close(now, then) for now, then in pairs):
        raise StaleError(
            f"{where} is of a model that gave other outputs for the same samples when it was trained: the code of model "
            f"{config.model.kind!r} was changed since. {TRAIN_AGAIN}"
        )
    if losses is not None and not _close(losses, kept["losses"]):
        raise StaleError(
            f"{where} was trained with a loss of {float(kept['losses'].mean()):.6g} on samples on which it is "
            f"{float(losses.mean()):.6g} now: the code of loss {config.train.loss.kind!r} was changed since. {TRAIN_AGAIN}"
        )


@torch.no_grad()
def _settle(model: nn.Module, x: Tensor, config: TrainConfig) -> None:
    """Lazy layers become what they are in their first pass, which therefore cannot be taken back."""
    if any(isinstance(part, LazyModuleMixin) for part in model.modules()):
        with own_randomness(config.experiment.seed, x.device):
            model.eval()(x.clone())


@torch.no_grad()
def _run(
    model: nn.Module, criterion: Criterion | None, x: Tensor, config: TrainConfig, seed: int
) -> tuple[list[Tensor], Tensor | None]:
    with untouched(model), own_randomness(seed, x.device):
        model.eval()
        if isinstance(model, VAE):
            draws = normals(generator(config.experiment.seed, KEY), len(x), model.latent_dim).to(x.device)
            found = model(x.clone(), draws)
        else:
            found = model(x.clone())
        outputs = [tensor.clone() for tensor in detached(found)]
        return outputs, None if criterion is None else criterion(found, x.clone()).detach().clone()


def _close(now: Tensor, then: Tensor) -> bool:
    if now.shape != then.shape:
        return False
    first, second = now.detach().cpu().double(), then.double()
    scale = float(second.nan_to_num(0, 0, 0).abs().max()) if second.numel() else 0.0
    return torch.allclose(first, second, rtol=0, atol=ROUNDING * scale, equal_nan=True)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value.detach().cpu() if isinstance(value, Tensor) else value
