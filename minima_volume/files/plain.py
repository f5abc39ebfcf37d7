"""Opening a file to read: a plain one, of a bounded size, without waiting for what may never come."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from minima_volume.errors import ConfigError, DamagedFileError


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; a named pipe, a folder or a device is refused instead of waited for.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is no plain file, or the system does not let it be read.
        ConfigError: the path is none.
    """
    if not isinstance(path, str | os.PathLike):
        shown = repr(path) if isinstance(path, int | float | bytes | None) else f"a {type(path).__name__}"
        raise ConfigError(f"path {shown} is not allowed: it must be the name of a file, as text or a Path")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFileError(f"{path} is not a plain file (a folder, a pipe or a device); put a file in its place")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_text(path: Path, limit: int) -> str:
    """The text of a UTF-8 file.

    Args:
        path: the file.
        limit: bytes it may have.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is no plain file, too large, or not UTF-8.
    """
    with open_plain(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DamagedFileError(f"{path} is larger than the {limit / 2**20:g} MiB that such a file may have")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not UTF-8 text ({error})") from error
