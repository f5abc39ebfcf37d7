"""Dataclasses as plain JSON values and back, bit for bit: what their type hints say decides how a value is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

UNSAVED = "unsaved"  # metadata of a field that is not written: what it is when it is read
KIND = "result"  # key of the class's name, in objects of classes that can be saved alone
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain(value: Any) -> Any:
    """A value as JSON can say it: dataclasses as objects, arrays with their type and shape, NaN and infinities as words.

    >>> plain((1, float("nan"), np.array([[True]])))
    [1, 'NaN', {'dtype': 'bool', 'shape': [1, 1], 'values': [True]}]
    """
    if is_dataclass(value) and not isinstance(value, type):
        saved = {part.name: plain(getattr(value, part.name)) for part in fields(value) if UNSAVED not in part.metadata}
        return {KIND: type(value).__name__} | saved if hasattr(value, "to_dict") else saved
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        values = [plain(item) for item in value.reshape(-1).tolist()]
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": values}
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def restored(hint: Any, value: Any) -> Any:
    """The value that `plain` wrote, of the type that a hint states.

    Raises:
        ValueError, KeyError, TypeError: it is not of this type.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return None if value is None else restored(_chosen(get_args(hint), value), value)
    if is_dataclass(hint):
        return _restored_object(hint, value)
    if hint is np.ndarray:
        values = [NOT_FINITE.get(item, item) if isinstance(item, str) else item for item in value["values"]]
        return np.array(values, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    if origin in (tuple, Sequence) or hint is tuple:
        return _restored_tuple(get_args(hint), value)
    if origin in (dict, Mapping):
        return {key: restored(get_args(hint)[1], item) for key, item in _of(dict, value).items()}
    return _number(hint, value) if hint in (int, float) else _of(hint, value)


def _restored_object(kind: Any, value: Any) -> Any:
    hints, given = get_type_hints(kind), dict(_of(dict, value))
    if given.pop(KIND, kind.__name__) != kind.__name__:
        raise ValueError(f"it is a {value[KIND]}, not a {kind.__name__}")
    found = {}
    for part in fields(kind):
        if UNSAVED in part.metadata:
            found[part.name] = part.metadata[UNSAVED]
        elif part.name in given:
            found[part.name] = restored(hints[part.name], given.pop(part.name))
        elif part.default is MISSING and part.default_factory is MISSING:
            raise KeyError(part.name)
    if given:
        raise ValueError(f"{kind.__name__} has no {', '.join(given)}")
    return kind(**found)


def _chosen(hints: Sequence[Any], value: Any) -> Any:
    """Which member of a union a value is of."""
    kinds = [hint for hint in hints if hint is not NoneType]
    if len(kinds) == 1:
        return kinds[0]
    if isinstance(value, str) or not isinstance(value, Mapping):
        return next(hint for hint in kinds if (hint is str) == isinstance(value, str))
    return next(hint for hint in kinds if hint.__name__ == value[KIND])


def _restored_tuple(hints: Sequence[Any], value: Any) -> tuple[Any, ...]:
    items = _of(list, value)
    if len(hints) == 1 or (len(hints) == 2 and hints[1] is Ellipsis):
        return tuple(restored(hints[0], item) for item in items)
    return tuple(restored(hint, item) for hint, item in zip(hints, items, strict=True))


def _number(kind: type, value: Any) -> Any:
    """Other programs may write whole floats without a point, or whole numbers with one."""
    number = NOT_FINITE[value] if kind is float and isinstance(value, str) else value
    whole = kind is float or (isinstance(number, int | float) and int(number) == number)
    if isinstance(number, bool) or not isinstance(number, int | float) or not whole:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return int(number) if kind is int else number


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.60} is no {kind.__name__}")
    return value
