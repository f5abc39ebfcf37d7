"""Samples as a model takes them: one tensor, a tuple of several inputs, or a dictionary of named ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from minima_volume.errors import ConfigError
from minima_volume.seeding import random_state_kept

Samples = Tensor | tuple[Any, ...] | Mapping[str, Any]
BATCH = 256  # samples of a Dataset that are read together
UNLIKE = ("equal size", "default_collate", "resize storage")  # in what PyTorch says of samples that make no batch


def each(samples: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A function applied to every tensor of a structure; everything else stays, named tuples and dictionaries of classes of their own, too.

    >>> each((torch.ones(2), {"a": torch.ones(1)}), lambda tensor: tensor + 1)
    (tensor([2., 2.]), {'a': tensor([2.])})
    """
    if isinstance(samples, Tensor):
        return change(samples)
    if isinstance(samples, Mapping):
        parts = {name: each(part, change) for name, part in samples.items()}
        return parts if type(samples) is dict or not isinstance(samples, dict) else _with(samples, parts)
    if isinstance(samples, tuple):
        changed = tuple(each(part, change) for part in samples)
        return type(samples)._make(changed) if hasattr(samples, "_make") else changed
    return samples


def _with(samples: dict[Any, Any], parts: dict[Any, Any]) -> dict[Any, Any]:
    """A dictionary of a class of its own, whose entries may be read as attributes, with other entries."""
    try:
        changed = copy.copy(samples)
        for name, part in parts.items():
            changed[name] = part
        own = getattr(changed, "__dict__", {})
        own.update({name: part for name, part in parts.items() if own.get(name) is samples[name]})
    except Exception:  # it cannot be changed
        return parts
    return changed


def tensors(samples: Any) -> list[Tensor]:
    """Every tensor in the structure."""
    found: list[Tensor] = []
    each(samples, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def part(samples: Any, start: int, stop: int) -> Any:
    """Samples start .. stop."""
    return each(samples, lambda tensor: tensor[start:stop])


def copied(samples: Any) -> Any:
    """Copies that a model or a loss may work on in place."""
    return each(samples, torch.clone)


def count(samples: Any) -> int:
    """How many samples there are; the first dimension of every tensor counts them."""
    return len(tensors(samples)[0])


def run(model: nn.Module, x: Samples) -> Any:
    """One forward pass: several inputs as arguments, named ones by their names."""
    if isinstance(x, tuple):
        return model(*x)
    if isinstance(x, Mapping):
        return model(**x)
    return model(x)


def check(name: str, samples: Any) -> int:
    """How many samples there are, if they are usable.

    Raises:
        ConfigError: no tensors, or some without plain numbers, not equally many samples in each, none at all, or NaN among them.
    """
    found = tensors(samples)
    strangers = samples if isinstance(samples, tuple | Mapping) else [samples]
    for stranger in strangers.values() if isinstance(strangers, Mapping) else strangers:
        if not isinstance(stranger, Tensor | tuple | Mapping):
            raise ConfigError(f"{name} {_what(name, stranger, samples)}")
    if not found:
        raise ConfigError(f"{name} holds no tensor; give a tensor, or a tuple or dictionary of tensors")
    for tensor in found:
        if fault := _fault(tensor):
            raise ConfigError(f"{name} {'is' if tensor is samples else 'holds'} a tensor {fault}")
    lengths = {tensor.shape[0] if tensor.ndim else None for tensor in found}
    if lengths & {None, 0}:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found)
        raise ConfigError(f"{name} has shape {shapes}; it must hold at least one sample along its first dimension")
    if len(lengths) > 1:
        raise ConfigError(f"{name} holds tensors of {sorted(lengths)} samples; all must hold equally many")  # type: ignore[type-var]
    for tensor in found:
        if bad := int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).sum()):
            raise ConfigError(f"{name} holds NaN or infinite numbers in {bad} of {len(tensor)} samples")
    return len(found[0])


def _fault(tensor: Tensor) -> str | None:
    """Why a tensor is no plain array of numbers, and the way out."""
    if tensor.is_meta:
        return "on the meta device, which has no values; make it on the CPU"
    if tensor.is_nested:
        return "of samples of several lengths (nested); pad them to one: torch.nested.to_padded_tensor(tensor, 0.0)"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}; convert it with to_dense()"
    if tensor.is_quantized:
        return f"of quantised numbers ({tensor.dtype}); convert it with dequantize()"
    return None


def _what(name: str, stranger: Any, samples: Any) -> str:
    kind = f"is a {type(stranger).__module__}.{type(stranger).__qualname__}".replace("builtins.", "")
    if stranger is not samples:
        return f"holds something that {kind}, where a tensor is needed"
    if isinstance(stranger, list):
        numbers = all(isinstance(item, Tensor) for item in stranger)
        advice = (
            f"give torch.stack({name}) if these are samples, tuple({name}) if they are several inputs of the model"
            if numbers and stranger
            else f"give one tensor, e.g. torch.tensor({name}) if it holds numbers; text must be encoded first"
        )
        return f"is a list; {advice}"
    if hasattr(stranger, "__array__"):
        return f"{kind}; convert it with torch.as_tensor({name}{'' if kind.endswith('ndarray') else '.to_numpy()'})"
    return f"{kind}; it must be a tensor, a tuple of tensors (several inputs) or a dictionary of tensors (named inputs)"


def from_loader(source: DataLoader[Any] | Dataset[Any]) -> tuple[Samples, Any]:
    """Inputs and targets of all samples of a DataLoader or a map-style Dataset, read once and held in memory.

    Where a loader draws every sample of its Dataset once, the samples come in the Dataset's own order, so that a shuffling loader
    gives the same samples each time; random transforms act as they happen to at this reading.

    Raises:
        ConfigError: its batches are not pairs (inputs, targets), it is empty, or its samples have several shapes.
    """
    loader = source if isinstance(source, DataLoader) else _loader(source, default_collate)
    every = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler)
        and not loader.sampler.replacement
        and loader.sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    )
    if every and loader.batch_size is not None and not loader.drop_last:
        loader = _loader(loader.dataset, loader.collate_fn, loader.batch_size)
    with random_state_kept():
        batches = _batches(loader, type(source).__name__)
    if not batches:
        raise ConfigError(f"{type(source).__name__} gives no samples")
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            shape = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise ConfigError(
                f"{type(source).__name__} gives batches that are a {type(batch).__name__}{shape}; they must be pairs (inputs, targets)"
            )
    name = type(source).__name__
    inputs, targets = (_joined([_tuples(batch[i]) for batch in batches], name) for i in (0, 1))
    return inputs, targets


def _loader(dataset: Dataset[Any], collate: Callable[[Any], Any], batch: int = BATCH) -> DataLoader[Any]:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return DataLoader(dataset, batch_size=batch, collate_fn=collate)
    return DataLoader(dataset, batch_size=batch, collate_fn=collate, shuffle=False)


def _batches(loader: DataLoader[Any], name: str) -> list[Any]:
    try:
        return list(loader)
    except (RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else ""
        if not any(words in reason for words in UNLIKE):
            raise  # the user's own
        raise ConfigError(
            f"{name} gives samples that cannot be batched ({reason[:150]}); they must be tensors or numbers of one shape: convert or pad them, "
            "in the Dataset, or in the collate_fn of a DataLoader to one length for all batches"
        ) from error


def _tuples(batch: Any) -> Any:
    """The default collate function makes lists of tuples."""
    return tuple(_tuples(part) for part in batch) if isinstance(batch, list | tuple) else batch


def _joined(parts: list[Any], name: str) -> Any:
    """The batches of a structure as one."""
    first = parts[0]
    kinds = {_kind(part): None for part in parts}
    if len(kinds) > 1:
        raise ConfigError(
            f"{name} gives batches that differ: {' and '.join([*kinds][:2])}; all must be alike, padded to one length"
        )
    if isinstance(first, Tensor):
        return torch.cat([tensor if tensor.ndim else tensor.reshape(1) for tensor in parts])
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts], name) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(list(column), name) for column in zip(*parts, strict=True))
    raise ConfigError(f"{name} gives {kinds.popitem()[0]}; it must give tensors")


def _kind(part: Any) -> str:
    """What all batches must have in common, in words."""
    if isinstance(part, Tensor):
        return _fault(part) or f"samples of shape {tuple(part.shape[1:])}"
    if isinstance(part, Mapping):
        return f"a dictionary of {', '.join(sorted(map(str, part)))}"
    return f"a tuple of {len(part)}" if isinstance(part, tuple) else f"a {type(part).__name__}"
