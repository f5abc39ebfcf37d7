"""Plain arrays in .npy files: written chunk by chunk, read through a memory map, without pickles."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import write_atomic


def write_npy(path: Path, rows: int, chunks: Iterable[np.ndarray]) -> Path:
    """Write an array atomically while it is computed; no more than one chunk is in memory.

    Args:
        path: the .npy file.
        rows: length of the whole array.
        chunks: consecutive parts of it, of one type.

    Raises:
        ValueError: the chunks do not have so many rows.
    """

    def write(file: BinaryIO) -> None:
        done = 0
        for chunk in chunks:
            if not done:
                header = {"descr": np.lib.format.dtype_to_descr(chunk.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, header | {"shape": (rows, *chunk.shape[1:])})
            file.write(np.ascontiguousarray(chunk).tobytes())
            done += len(chunk)
        if done != rows:
            raise ValueError(f"{path.name}: {done} rows were computed, {rows} expected")

    return write_atomic(path, write)


def read_npy(path: Path) -> np.ndarray:
    """An array that is read from the disk as it is needed; of a .npy.gz, also one that lies where a .npy is asked for, all at once.

    Raises:
        MissingStageError: neither is there.
        DamagedFileError: no plain array.
    """
    packed = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    if not path.is_file() and not packed.is_file():
        raise MissingStageError(f"{path} does not exist, nor does {packed.name} beside it")
    try:
        if path.is_file() and path != packed:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with gzip.open(packed) as file:
                found = np.load(io.BytesIO(file.read()), allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError(
                f"it is an archive of the arrays {', '.join(found.files) or '(none)'}; save one with np.save"
            )
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise DamagedFileError(f"{path} cannot be read as a plain .npy array ({error})") from error
    return found
