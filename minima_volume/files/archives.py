"""Zip archives (.npz and .pt files) that are not trusted: every checksum, and no more memory than their headers promise."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import torch

CHUNK = 2**20
FREE_BYTES = 2**28  # an archive may always unpack to so much,
MAX_RATIO = 8  # and to so many times its own size: weights do not compress, what compresses better is small
VERSION_1 = b"\x01\x00"  # of a .npy whose header's length has two bytes; later ones have four
MAX_HEADER = 10_000  # bytes; numpy reads no longer ones
MAX_PICKLE = 2**26  # bytes of the part of a .pt that is not tensors
END, END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"  # of an archive without a comment
MANY = 2**16 - 1  # and more members: their number stands elsewhere
EMPTY_ITEMS = 10**6  # items of no size
COMPRESSED = "{} is compressed in a way that this package does not use"


def check_archive(file: BinaryIO, whole: bool = True) -> None:
    """Check the members of an archive in which nothing is compressed, as in a .pt.

    Args:
        file: at its beginning afterwards.
        whole: read each member and compare it with its checksum.

    Raises:
        ValueError: it promises more than it may hold, has two members of one name, or a member is not what it says; or it is
            TorchScript, which torch would not only read.
        BadZipFile: it is no zip archive, or a checksum differs.
    """
    with _opened(file) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(COMPRESSED.format(member.filename))
            if member.filename.endswith("constants.pkl"):
                raise ValueError("it is TorchScript, not numbers alone")
            if member.filename.endswith(".pkl") and member.file_size > MAX_PICKLE:
                raise ValueError(
                    f"{member.filename} has {member.file_size / 2**20:.0f} MiB, {MAX_PICKLE / 2**20:g} are allowed"
                )
            if whole:
                with archive.open(member) as content:
                    while content.read(CHUNK):
                        pass  # the checksum is compared at the end
    file.seek(0)


def read_arrays(file: BinaryIO, keys: Sequence[str] | None, listed: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz, each compared with its checksum as it is read.

    Args:
        file: the open archive.
        keys: which; None: all.
        listed: further ones that must be there.

    Raises:
        ValueError: as `check_archive`; or an array is missing, or holds Python objects.
        BadZipFile: it is no zip archive, or a checksum differs.
    """
    with _opened(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if missing := [key for key in (*(keys or ()), *listed) if key not in members]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return {key: _array(archive, members[key]) for key in (members if keys is None else keys)}


@contextmanager
def _opened(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """An archive whose list of members is what it says."""
    size = file.seek(0, 2)
    counted = _stated_members(file, size)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if counted not in (len(members), MANY):  # a damaged length of one entry can hide those behind it
            raise ValueError(f"it says that it has {counted} parts, and has {len(members)}")
        if len({member.filename for member in members}) != len(members):
            raise ValueError("two parts have the same name")
        promised = sum(member.file_size for member in members)
        if promised > max(FREE_BYTES, MAX_RATIO * size):
            raise ValueError(f"it would unpack to {promised / 2**30:.1f} GiB from {size / 2**20:.1f} MiB")
        yield archive


def _stated_members(file: BinaryIO, size: int) -> int:
    """How many members the end of an archive says there are."""
    file.seek(max(0, size - END.size))
    end = file.read(END.size)
    if len(end) < END.size or not end.startswith(END_SIGNATURE):
        raise zipfile.BadZipFile("the end of the archive is not there")
    return END.unpack(end)[4]


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array. The header may not promise more than there is, since room is made for it before it is read."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(COMPRESSED.format(member.filename))
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename} is no array")
    with archive.open(member) as content:
        start = content.read(10)
        if start[6:8] != VERSION_1:
            start += content.read(2)
        length = min(MAX_HEADER, int.from_bytes(start[8:], "little"))
        shape, fortran, dtype = _header(start + content.read(length))
        count = math.prod(shape)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if content.tell() + count * dtype.itemsize != member.file_size or (dtype.itemsize == 0 and count > EMPTY_ITEMS):
            raise ValueError(f"{member.filename} says that its shape is {shape}, which is not what it holds")
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        room, place = array.reshape(-1).view(np.uint8) if array.nbytes else np.empty(0, np.uint8), 0
        while part := content.read(CHUNK):  # the checksum is compared at the end
            room[place : place + len(part)] = np.frombuffer(part, np.uint8)
            place += len(part)
    return array.T if fortran else array


@lru_cache(maxsize=256)
def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type that the start of a .npy states; the same ones in file after file, and numpy compiles each."""
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def check_tensors(value: Any) -> None:
    """Refuse tensors that say they are larger than what holds their numbers.

    Raises:
        ValueError: gives the shape.
    """
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            if not isinstance(item, float | int | str):  # histories are long
                check_tensors(item)
    elif isinstance(value, torch.Tensor) and (
        value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ):
        raise ValueError(f"a tensor says that its shape is {tuple(value.shape)}, which is not what it holds")
