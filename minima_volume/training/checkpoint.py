"""Checkpoints of a training: weights, optimiser, random states and history, so that it goes on to the bit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minima_volume.errors import DamagedFileError, StaleError
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.training.loop import Parts, Progress

KEYS = {"progress", "state_dict", "optimizer", "generators", "torch_random"}


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def snapshot(parts: Parts, progress: Progress) -> dict[str, Any]:
    """Everything that the rest of a training depends on, as it is after an epoch; a copy that training does not change.

    Returns:
        `progress`, `state_dict`, `optimizer`, `generators` (name -> state), `torch_random` (device type -> state of the global generator).
    """
    return {
        "progress": copy.deepcopy(asdict(progress)),
        "state_dict": weights(parts.model),
        "optimizer": copy.deepcopy(parts.optimizer.state_dict()),
        "generators": {name: generator.get_state() for name, generator in parts.generators.items()},
        "torch_random": _global_states(parts.model),
    }


def restore(content: Mapping[str, Any], parts: Parts) -> Progress:
    """Set everything back to a snapshot, torch's global generator included, and say where the training goes on.

    Args:
        content: from `snapshot` or `read_pt`.
        parts: built as for the training that was interrupted.

    Raises:
        StaleError: the model, the optimiser or the generators are not those of the snapshot.
    """
    generators = parts.generators
    if set(generators) != set(content["generators"]):
        raise StaleError(
            f"the checkpoint has random generators {sorted(content['generators'])}, this training {sorted(generators)}: "
            "train with the settings of the checkpoint, or start anew"
        )
    try:
        parts.model.load_state_dict(content["state_dict"])
        parts.optimizer.load_state_dict(copy.deepcopy(content["optimizer"]))
    except (RuntimeError, ValueError) as error:
        raise StaleError(
            f"the checkpoint is of another model or optimiser: {' '.join(str(error).split())[:200]}"
        ) from error
    for name, generator in generators.items():
        generator.set_state(content["generators"][name])
    _set_global_states(parts.model, content["torch_random"])
    return Progress(**copy.deepcopy(content["progress"]))


def save_checkpoint(path: Path, parts: Parts, progress: Progress, more: Mapping[str, Any] | None = None) -> Path:
    """Write a snapshot, and what else the caller keeps with it, in one piece; it loads without running code from the file."""
    return write_pt(path, {**snapshot(parts, progress), **(more or {})})


def load_checkpoint(path: Path, parts: Parts) -> Progress:
    """Read a checkpoint into a training, see `restore`.

    Raises:
        DamagedFileError: truncated, or no checkpoint.
        StaleError: of another training.
    """
    content = read_pt(path)
    if missing := KEYS - set(content):
        raise DamagedFileError(f"{path} lacks {', '.join(sorted(missing))}: it is no checkpoint of a training")
    try:
        return restore(content, parts)
    except StaleError as error:
        raise StaleError(f"{path}: {error}") from error


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _global_states(model: nn.Module) -> dict[str, Tensor]:
    device = _device(model)
    cuda = {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def _set_global_states(model: nn.Module, states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if _device(model).type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], _device(model))
