"""What a file must hold to be read: the hash of a JSON file's values, and one message where its content is not what it should be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from minima_volume.errors import DamagedFileError, MinimaVolumeError

HASH_KEY = "content_hash"  # of a JSON file; absent in files of earlier versions, which are unverified
EXACT = 2**53  # whole numbers below it are the same as floats and as integers
ADVICE = "Delete it and run its stage again"
_SKIMMED = ContextVar("_SKIMMED", default=False)


@contextmanager
def skimmed() -> Iterator[None]:
    """For looks at what is there, not at its numbers: files are taken to hold what they say, and no hash or checksum is computed."""
    token = _SKIMMED.set(True)
    try:
        yield
    finally:
        _SKIMMED.reset(token)


def skims() -> bool:
    """Whether hashes and checksums are left alone."""
    return _SKIMMED.get()


def content_hash(content: Mapping[str, Any]) -> str:
    """A short SHA-256 over the values of a JSON object, however they are laid out; the key of the hash itself does not count.

    >>> content_hash({"a": 1.0, "b": [2]}) == content_hash({"b": [2.0], "a": 1, "content_hash": "x"})
    True
    >>> content_hash({"a": 1}) == content_hash({"a": True})
    False
    """
    return _text_hash(json.dumps(dict(content)))


def _text_hash(text: str) -> str:
    """The hash of the object that JSON text holds; whole floats count as integers, which other programs write without a point."""
    content = json.loads(text, parse_float=_number)
    content.pop(HASH_KEY, None)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def checked(content: Any, text: str, path: Path, advice: str = ADVICE, hashed: bool = False) -> dict[str, Any]:
    """The object of a JSON file without its hash, if it has one (with `hashed` it must), and compared with it.

    Raises:
        DamagedFileError: it is no object, or the values are not those that were written.
    """
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} holds a {type(content).__name__}, not an object. {advice}.")
    if hashed and HASH_KEY not in content:
        raise DamagedFileError(f"{path} has no {HASH_KEY}: this package did not write it. {advice}.")
    has_hash, stated = HASH_KEY in content, content.pop(HASH_KEY, None)
    if has_hash and not skims() and stated != _text_hash(text):
        raise DamagedFileError(
            f"{path} was changed since it was written: its values do not match {HASH_KEY}. {advice}."
        )
    return content


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a file was made with.

    Raises:
        KeyError, TypeError: it has none, or they are no object; see `interpreted`.
    """
    if not isinstance(content["settings"], dict):
        raise TypeError(f"settings is a {type(content['settings']).__name__}, not an object")
    return content["settings"]


@contextmanager
def interpreted(path: Path, advice: str = ADVICE) -> Iterator[None]:
    """Take in what a file holds: if that is readable but not what it should be, the error names the file.

    Raises:
        DamagedFileError: a key is missing, or a value is of another kind or shape.
    """
    try:
        yield
    except MinimaVolumeError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DamagedFileError(
            f"{path} does not hold what this package writes into it ({type(error).__name__}: {reason}). {advice}."
        ) from error
