"""Reading and writing: whole files or none, no pickles, strict JSON, one clear error for a damaged file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.archives import check_archive, check_tensors, read_arrays
from minima_volume.files.boundary import check_way
from minima_volume.files.content import ADVICE, HASH_KEY, checked, content_hash, skims
from minima_volume.files.plain import open_plain, read_text
from minima_volume.files.skimming import load_skimmed

MAX_JSON = 2**25  # bytes of a .json
NAME_SHOWN = 50  # characters of a file's name in that of its temporary, so that every name that a file can have will do
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # as write_atomic calls files that are not whole yet


def make_folder(folder: Path, exist_ok: bool = True) -> None:
    """Make a folder and those above it.

    Raises:
        MissingStageError: it cannot be made.
        FileExistsError: it is there, and must not be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if not exist_ok and folder.is_dir():
            raise
        file = next((str(place) for place in (folder, *folder.parents) if os.path.isfile(place)), "")  # noqa: PTH113  (never raises)
        found = f" ({file} is a file)" if file else ""
        raise MissingStageError(
            f"{folder}: {error.strerror or error}. Check that the path is right{found} and that you may write there, or give another "
            "experiment.output_dir; nothing was changed."
        ) from error


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file under a temporary name in its own folder, then rename it into place.

    A process killed at any moment leaves either the old file or the new one, never half of one.

    Args:
        path: the file to write; its folder is made when absent.
        write: called with the open binary file.

    Raises:
        BoundaryError: the file is a link, no plain file, lies behind a link, or its run folder is gone.
        MissingStageError: the folder cannot be written to, or the name is too long.
    """
    temporary = path.with_name(f".{path.name[:NAME_SHOWN]}.{secrets.token_hex(4)}.tmp")
    try:
        check_way(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        long = error.errno == errno.ENAMETOOLONG
        advice = "Give it a shorter name" if long else "Check that the folder is writable and the disk has space"
        raise MissingStageError(
            f"{path} cannot be written: {error.strerror or error}. {advice}; nothing was changed."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left below a folder; nobody may be writing there."""
    for path in folder.rglob(".*.tmp"):
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write bytes atomically."""
    return write_atomic(path, lambda file: file.write(content))


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write strict JSON atomically, with a hash of its values: NaN and Infinity are refused, what is undefined must be None.

    Raises:
        ValueError: content holds a number that JSON cannot say.
    """
    return write_text(path, json_text(content))


def json_text(content: Mapping[str, Any]) -> str:
    """What `write_json` writes.

    Raises:
        ValueError: content holds a number that JSON cannot say.
    """
    plain = jsonable(content)
    return json.dumps(plain | {HASH_KEY: content_hash(plain)}, indent=2, allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """Turn numpy scalars, arrays, tuples and paths into what JSON can say; numbers stay exact.

    >>> jsonable({"a": np.float64(0.5), "b": (1, np.int64(2)), "c": np.array([True])})
    {'a': 0.5, 'b': [1, 2], 'c': [True]}
    """
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def finite_or_none(value: Any) -> Any:
    """A number, a list of numbers, or something else, as JSON can say it, which has no NaN and no Infinity.

    >>> finite_or_none([0.5, math.nan, [-math.inf]]), finite_or_none("text")
    ([0.5, None, [None]], 'text')
    """
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float | np.floating) and not math.isfinite(value) else value


def read_json(path: Path, *, advice: str = ADVICE, hashed: bool = False) -> dict[str, Any]:
    """Read the object of a strict JSON file and compare it with its hash, which is left out; a file from before has none.

    Args:
        path: the file.
        advice: what to do about a damaged one.
        hashed: refuse a file that has no hash.

    Raises:
        MissingStageError: there is no such file.
        DamagedFileError: the file is not strict JSON, holds no object, is too large, or was changed since it was written.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        text = read_text(path, MAX_JSON)
        content = json.loads(text, parse_constant=refuse)
    except FileNotFoundError as error:
        raise MissingStageError(f"{path} does not exist") from error
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}). {advice}.") from error
    return checked(content, text, path, advice, hashed)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write plain arrays to a compressed .npz atomically.

    Raises:
        TypeError: an entry would need a pickle.
    """
    plain = {key: np.asarray(value) for key, value in arrays.items()}
    for key, array in plain.items():
        if array.dtype.hasobject:
            raise TypeError(f"{path.name}: {key} holds Python objects; .npz files carry plain arrays only")
    return write_atomic(path, lambda file: np.savez_compressed(file, allow_pickle=False, **plain))


def read_npz(path: Path, keys: Sequence[str] | None = None, *, listed: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read a .npz without pickles.

    Args:
        path: the file.
        keys: the entries to read and to compare with their checksums; all by default.
        listed: further entries that must be there.

    Raises:
        MissingStageError: there is no such file.
        DamagedFileError: truncated, not a .npz, an entry is missing, or it holds pickled objects.
    """
    try:
        with open_plain(path) as file:
            return read_arrays(file, keys, listed)
    except FileNotFoundError as error:
        raise MissingStageError(f"{path} does not exist") from error
    except (ConfigError, DamagedFileError):
        raise
    except Exception as error:  # zipfile, zlib, numpy and OS errors all mean the same here
        raise DamagedFileError(
            f"{path} cannot be read as a plain .npz ({type(error).__name__}: {' '.join(str(error).split())[:160]}). "
            "It is truncated or was not written by this package; delete it and run its stage again."
        ) from error


def write_pt(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a dictionary of tensors, numbers, strings, lists and dictionaries atomically.

    The content is refused when `torch.load(weights_only=True)` would refuse to read it back.
    """
    _check_plain(content, path.name)
    return write_atomic(path, lambda file: _save(dict(content), file))


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    """`torch.save`; what stops the writing is raised after it has come back, since it makes a long traceback of its own of it."""
    guard = _Guarded(file)
    torch.save(content, cast(BinaryIO, guard))
    if guard.error is not None:
        raise guard.error


class _Guarded(io.RawIOBase):
    """A file that keeps its first error, and takes what comes after it without writing."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.error = file, None  # type: BinaryIO, OSError | None

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)


def read_pt(path: Path) -> dict[str, Any]:
    """Read a .pt file with `weights_only=True`: opening it cannot run code.

    Raises:
        MissingStageError: there is no such file.
        DamagedFileError: truncated, not a .pt file, or it needs pickled code.
    """
    try:
        with open_plain(path) as file:
            check_archive(file, whole=not skims())
            content = load_skimmed(file) if skims() else torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a dictionary")
        check_tensors(content)
        return content
    except FileNotFoundError as error:
        raise MissingStageError(f"{path} does not exist") from error
    except (ConfigError, DamagedFileError):
        raise
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, zipfile errors ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedFileError(
            f"{path} cannot be read with weights_only=True ({reason[:160]}). "
            "It is truncated or was not written by this package; delete it and run its stage again."
        ) from error


def hash_arrays(arrays: Mapping[str, torch.Tensor | None]) -> str:
    """A short SHA-256 over names, shapes, types and bytes, in the given order.

    >>> hash_arrays({"a": torch.zeros(2)}) == hash_arrays({"a": torch.zeros(2)})
    True
    >>> hash_arrays({"a": torch.zeros(2)}) == hash_arrays({"a": torch.zeros(1, 2)})
    False
    """
    digest = hashlib.sha256()
    for name, tensor in arrays.items():
        if tensor is None:
            continue
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, where)
    elif not (value is None or isinstance(value, bool | int | float | str | torch.Tensor)):
        raise TypeError(f"{where}: {type(value).__name__} would need a pickle; .pt files carry plain data only")
