"""What a module's forward pass leaves behind: attributes, containers and buffers, so that every pass starts from the same state."""

from __future__ import annotations

import copy
import sys
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OPAQUE = (
    type,
    types.ModuleType,
    torch.Generator,
    torch.dtype,
    torch.device,
    torch.jit.ScriptModule,
    str,
    bytes,
    int,
    float,
    complex,
)
LARGEST = 2**26  # bytes of one kept tensor that is copied; a larger one is a constant as far as we can tell
# objects of these packages have a life of their own (progress bars, locks, figures)
MODULE_OWN = set(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs"}
FOREIGN = set(sys.stdlib_module_names) - {"types"} | {"torch", "numpy", "matplotlib", "tqdm", "IPython", "mlflow"}


@dataclass
class Place:
    """One place that holds something, and how to put it back.

    Attributes:
        path: as a person would write it, e.g. "layers.0.cache".
        changed: whether it differs from what it held.
        put_back: make it hold that again.
        prepare: before a pass: let the pass work on a copy, so that what it computed from the original stays valid.
        empty: make it hold nothing; None if it cannot be empty.
    """

    path: str
    changed: Callable[[], bool]
    put_back: Callable[[], None]
    prepare: Callable[[], None] | None = None
    empty: Callable[[], None] | None = None


@dataclass
class Slot:
    """Where a tensor hangs: a key of a dictionary, or a place in a list."""

    container: Any
    key: Any

    def get(self) -> Any:
        try:
            return self.container[self.key]
        except (KeyError, IndexError):
            return None

    def set(self, value: Any) -> None:
        self.container[self.key] = value


class KeptState:
    """Everything that a module holds besides its parameters, as it is now.

    Seen are buffers, attributes of all modules, arrays, lists, dictionaries, sets and plain objects in them, and what functions that hang on
    the modules (hooks, a replaced forward) close over. Not seen are globals and the insides of compiled code.
    """

    def __init__(self, module: nn.Module) -> None:
        self._seen: set[int] = {id(parameter) for parameter in module.parameters()}
        self._alive: list[Any] = []  # else a freed address could be handed out again
        self.places = list(self._of(module, "", None))

    def changed(self) -> set[str]:
        """Paths of what differs now."""
        return {place.path for place in self.places if place.changed()}

    def put_back(self) -> None:
        """Restore everything that differs."""
        for place in self.places:
            if place.changed():
                place.put_back()

    def prepare(self) -> None:
        """Hand out copies of the tensors that a pass may write to."""
        for place in self.places:
            if place.prepare is not None:
                place.prepare()

    def only(self, paths: Collection[str]) -> KeptState:
        """The same state of fewer places."""
        fewer = object.__new__(KeptState)
        fewer._seen, fewer._alive = self._seen, self._alive
        fewer.places = [place for place in self.places if place.path in paths]
        return fewer

    def _of(self, thing: Any, path: str, slot: Slot | None) -> Iterator[Place]:
        if thing is None or isinstance(thing, OPAQUE) or id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        self._alive.append(thing)
        if isinstance(thing, Tensor):
            if not isinstance(thing, nn.Parameter) and thing.numel() * thing.element_size() <= LARGEST:
                yield _tensor(thing, path, slot)
        elif isinstance(thing, np.ndarray):
            if thing.nbytes <= LARGEST and thing.flags.writeable and not thing.dtype.hasobject:
                yield _array(thing, path)
        elif isinstance(thing, nn.Module):
            yield from self._module(thing, path)
        elif isinstance(thing, MutableMapping):
            yield _mapping(thing, path)
            for key, value in list(thing.items()):
                yield from self._of(value, f"{path}[{key!r}]", Slot(thing, key))
        elif isinstance(thing, list | deque):
            yield _sequence(thing, path)
            for i, value in enumerate(list(thing)):
                yield from self._of(value, f"{path}[{i}]", Slot(thing, i))
        elif isinstance(thing, set | tuple | frozenset):
            if isinstance(thing, set):
                yield _sequence(thing, path)
            for i, value in enumerate(list(thing)):
                yield from self._of(value, f"{path}[{i}]", None)
        elif isinstance(thing, types.MethodType):
            yield from self._of(thing.__self__, path, None)
        elif isinstance(thing, partial):
            yield from self._of((thing.func, thing.args, thing.keywords), path, None)
        elif isinstance(thing, types.FunctionType):
            for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=False):
                yield from self._cell(cell, f"{path} ({name})")
        elif isinstance(getattr(thing, "__dict__", None), dict) and type(thing).__module__.split(".")[0] not in FOREIGN:
            yield from self._attributes(thing, path, frozenset())

    def _module(self, module: nn.Module, path: str) -> Iterator[Place]:
        for mapping in (module._parameters, module._modules, module._buffers):
            yield _mapping(mapping, path or "the model")
        for name, buffer in list(module._buffers.items()):
            yield from self._of(buffer, _join(path, name), Slot(module._buffers, name))
        yield from self._attributes(module, path, frozenset({"_parameters", "_modules", "_buffers", "training"}))
        for name, child in module._modules.items():
            yield from self._of(child, _join(path, name), None)

    def _attributes(self, thing: Any, path: str, skipped: frozenset[str]) -> Iterator[Place]:
        held = {name: value for name, value in vars(thing).items() if name not in skipped}
        yield _new_attributes(vars(thing), {*held, *skipped}, path or "the model")
        for name, value in held.items():
            yield _attribute(vars(thing), name, value, _join(path, name))
            yield from self._of(value, _join(path, name), Slot(vars(thing), name))

    def _cell(self, cell: types.CellType, path: str) -> Iterator[Place]:
        try:
            held = cell.cell_contents
        except ValueError:  # empty
            return

        def put_back() -> None:
            cell.cell_contents = held

        def empty() -> None:
            cell.cell_contents = _emptied(held)

        yield Place(path, lambda: cell.cell_contents is not held, put_back, None, empty if _keeps(held) else None)
        yield from self._of(held, path, None)


def _attribute(attributes: dict[str, Any], name: str, held: Any, path: str) -> Place:
    def put_back() -> None:
        attributes[name] = held

    def empty() -> None:
        attributes[name] = _emptied(held)

    keeps = name not in MODULE_OWN and _keeps(held)
    return Place(path, lambda: attributes.get(name, attributes) is not held, put_back, None, empty if keeps else None)


def _keeps(held: Any) -> bool:
    """Whether it may be something that an earlier pass left."""
    if isinstance(held, Tensor):
        return not isinstance(held, nn.Parameter)
    return isinstance(held, tuple | list | dict) and any(_tensors_in(held))


def _emptied(held: Any) -> Any:
    if isinstance(held, Tensor | tuple):
        return None
    fresh = copy.copy(held)
    fresh.clear()
    return fresh


def _tensors_in(held: Any) -> Iterator[bool]:
    """Whether a container holds tensors, a level or two down."""
    for value in held.values() if isinstance(held, dict) else held:
        yield isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
        if isinstance(value, tuple | list | dict):
            yield from _tensors_in(value)


def _new_attributes(attributes: dict[str, Any], known: set[str], path: str) -> Place:
    def new() -> list[str]:
        return [name for name in attributes if name not in known]

    def remove() -> None:
        for name in new():
            del attributes[name]

    return Place(path, lambda: bool(new()), remove)


def _tensor(tensor: Tensor, path: str, slot: Slot | None) -> Place:
    saved = tensor.detach().clone()

    def changed() -> bool:
        moved = slot is not None and slot.get() is not tensor
        return moved or tensor.shape != saved.shape or not same(tensor.detach(), saved)

    def put_back() -> None:
        if slot is not None:
            slot.set(tensor)
        tensor.data = tensor.data.copy_(saved) if tensor.shape == saved.shape else saved.clone()

    return Place(path, changed, put_back, None if slot is None else lambda: slot.set(saved.clone()))


def _array(array: np.ndarray, path: str) -> Place:
    saved = array.copy()

    def put_back() -> None:
        array[...] = saved

    return Place(path, lambda: array.tobytes() != saved.tobytes(), put_back)


def same(first: Tensor, second: Tensor) -> bool:
    """Equal bit for bit, NaN included."""
    if first.is_floating_point() or first.is_complex():
        return bool(((first == second) | (first.isnan() & second.isnan())).all())
    return bool((first == second).all())


def _mapping(mapping: MutableMapping[Any, Any], path: str) -> Place:
    held = dict(mapping)

    def changed() -> bool:
        return list(mapping) != list(held) or any(mapping[key] is not held[key] for key in held)

    def put_back() -> None:
        mapping.clear()
        mapping.update(held)

    return Place(path, changed, put_back)


def _sequence(container: Any, path: str) -> Place:
    held = list(container)

    def changed() -> bool:
        return len(container) != len(held) or any(a is not b for a, b in zip(container, held, strict=True))

    def put_back() -> None:
        container.clear()
        container.update(held) if isinstance(container, set) else container.extend(held)

    return Place(path, changed, put_back)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
