"""Arguments of many functions, from any library: numbers, seeds, names; what is not allowed is refused in one message."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from minima_volume.errors import ConfigError

SEEDS = 2**32  # as many as PyTorch's CPU generator tells apart: it takes larger ones, and forgets their upper half

Value = TypeVar("Value")


def is_number(value: object) -> bool:
    """Whether a setting is one number; True and False are not."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Whether a setting is one whole number; True and False are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def as_path(value: Any, what: str = "path") -> Path:
    """A file or folder by its name, whatever kind of path that is.

    Raises:
        ConfigError: it is no name.

    >>> as_path("runs/a").name
    'a'
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        shown = repr(value) if isinstance(value, int | float | bytes | None) else f"a {type(value).__name__}"
        raise ConfigError(f"{what} {shown} is not allowed: it must be the name of a file or folder, as text or a Path")
    return Path(value)


def as_folder(value: Any, what: str = "folder") -> Path:
    """A folder that is there, by its name.

    Raises:
        ConfigError: it is no name, or there is no such folder.
    """
    folder = as_path(value, what)
    if not folder.is_dir():
        raise ConfigError(f"{what} {folder} {'is a file' if folder.exists() else 'does not exist'}")
    return folder


def known_names(names: Sequence[str] | None, allowed: Sequence[str], what: str) -> list[str]:
    """Those of the allowed names that are wanted, in their order; all of them for None or nothing.

    Raises:
        ConfigError: one is not known.

    >>> known_names(["b", "a"], ["a", "b", "c"], "stage"), known_names(None, ["a", "b"], "stage")
    (['a', 'b'], ['a', 'b'])
    """
    if unknown := sorted(set(names or ()) - set(allowed)):
        raise ConfigError(f"{what} {unknown[0]!r} is not known; allowed: {', '.join(allowed)}")
    return [name for name in allowed if not names or name in names]


def check_count(name: str, value: Any, smallest: int) -> int:
    """A whole number of at least `smallest`, as an int.

    Raises:
        ConfigError: it is none, or is less.
    """
    if not is_whole(value) or value < smallest:
        raise ConfigError(f"{name} {value!r} is not allowed: it must be a whole number of at least {smallest}")
    return int(value)


def check_positive(
    name: str, value: Any, allowed: str = "it must be a positive number", below: float = math.inf
) -> float:
    """One number above 0 and below a limit, as a float; a tensor or array of one is one.

    Raises:
        ConfigError: it is none; says what is `allowed`.
    """
    number = _one_number(value)
    if not 0 < number < below:
        raise ConfigError(f"{name} {value!r} is not allowed: {allowed}")
    return number


def check_finite(name: str, value: Any, allowed: str = "it must be a finite number") -> float:
    """One number of any sign, as a float; a tensor or array of one is one.

    Raises:
        ConfigError: it is none, or infinite; says what is `allowed`.

    >>> check_finite("threshold", np.float32(-2.5))
    -2.5
    """
    number = _one_number(value)
    if not math.isfinite(number):
        raise ConfigError(f"{name} {value!r} is not allowed: {allowed}")
    return number


def _one_number(value: Any) -> float:
    """NaN for what is none."""
    try:
        return math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan


def check_seed(seed: Any, count: int = 1, name: str = "seed") -> int:
    """The first of `count` seeds that follow each other, as an int.

    Raises:
        ConfigError: it is no whole number of at least 0, or one of them is too large for a generator.

    >>> check_seed(np.int64(3))
    3
    """
    first = check_count(name, seed, 0)
    if first > SEEDS - count:
        more = "" if count == 1 else f", since {count:,} seeds follow each other from it"
        raise ConfigError(f"{name} {first} is not allowed: it must be at most {SEEDS - count}{more}")
    return first


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Several seeds, as ints.

    Raises:
        ConfigError: there are none, or one is not allowed.
    """
    try:
        listed = list(seeds)
    except TypeError:
        listed = []
    if not listed:
        raise ConfigError(
            f"seeds {seeds!r} are not allowed: give whole numbers of at least 0, at least one, such as [1, 2]"
        )
    return tuple(check_seed(seed, name="seeds:") for seed in listed)


def check_names(names: Any) -> str | tuple[str, ...]:
    """Names of parameters: a word, or several from any iterable; those of a set in alphabetical order.

    Raises:
        ConfigError: it is neither, or an entry is no text.

    >>> check_names({"b", "a"}), check_names(name for name in ["b", "a"]), check_names("all")
    (('a', 'b'), ('b', 'a'), 'all')
    """
    if isinstance(names, str):
        return str(names)
    try:
        entries = list(names)
    except TypeError as error:
        raise ConfigError(
            f"names {names!r} is not allowed: it must be a word such as 'all', or a list of names or globs"
        ) from error
    for entry in entries:
        if not isinstance(entry, str):
            shown = repr(entry) if isinstance(entry, int | float | None) else f"a {type(entry).__name__}"
            raise ConfigError(f"names: {shown} is not text; each entry must name a parameter or a module, or be a glob")
    texts = tuple(map(str, entries))  # an array's are of NumPy's own type
    return tuple(sorted(texts)) if isinstance(names, Set) else texts


def by_text(what: str, given: Mapping[Any, Value]) -> dict[str, Value]:
    """The same with each name as text.

    Raises:
        ConfigError: two names are the same text.
    """
    named: dict[str, Value] = {}
    for name, value in given.items():
        if str(name) in named:
            raise ConfigError(f"two {what} are called {str(name)!r}; give each a name that differs as text")
        named[str(name)] = value
    return named
