"""Zip archives (.npz and .pt files) that are not trusted: every checksum, and no more memory than their headers promise."""

from __future__ import annotations

import math
import struct
import zipfile
from typing import Any, BinaryIO

import numpy as np
import torch

CHUNK = 2**20
FREE_BYTES = 2**28  # an archive may always unpack to so much,
MAX_RATIO = 8  # and to so many times its own size: weights do not compress, what compresses better is small
MAX_PICKLE = 2**26  # bytes of the part of a .pt that is not tensors
END, END_SIGNATURE = struct.Struct("<4s4H2LH"), b"PK\x05\x06"  # of an archive without a comment
MANY = 2**16 - 1  # and more members: their number stands elsewhere
EMPTY_ITEMS = 10**6  # items of no size


def check_archive(file: BinaryIO, *, stored: bool = False) -> None:
    """Read every member of an archive once and compare it with its checksum; the file is at its beginning afterwards.

    Args:
        file: the open archive.
        stored: nothing in it may be compressed, as in a .pt.

    Raises:
        ValueError: it promises more than it may hold, has two members of one name, or a member is not what it says.
        BadZipFile: it is no zip archive, or a checksum differs.
    """
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
        for member in members:
            _check_member(archive, member, stored)
    file.seek(0)


def _stated_members(file: BinaryIO, size: int) -> int:
    """How many members the end of an archive says there are."""
    file.seek(max(0, size - END.size))
    end = file.read(END.size)
    if len(end) < END.size or not end.startswith(END_SIGNATURE):
        raise zipfile.BadZipFile("the end of the archive is not there")
    return END.unpack(end)[4]


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, stored: bool) -> None:
    allowed = (zipfile.ZIP_STORED,) if stored else (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if member.compress_type not in allowed:
        raise ValueError(f"{member.filename} is compressed in a way that this package does not use")
    if stored and member.filename.endswith(".pkl") and member.file_size > MAX_PICKLE:
        raise ValueError(
            f"{member.filename} has {member.file_size / 2**20:.0f} MiB, {MAX_PICKLE / 2**20:g} are allowed"
        )
    with archive.open(member) as content:
        if member.filename.endswith(".npy"):
            _check_array(content, member)
        while content.read(CHUNK):
            pass  # the checksum is compared at the end


def _check_array(content: Any, member: zipfile.ZipInfo) -> None:
    """The header of a .npy may not promise more than there is: numpy makes room for it before it reads."""
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(content)
    count = math.prod(shape)
    if not dtype.hasobject and (
        content.tell() + count * dtype.itemsize != member.file_size or (dtype.itemsize == 0 and count > EMPTY_ITEMS)
    ):
        raise ValueError(f"{member.filename} says that its shape is {shape}, which is not what it holds")


def check_tensors(value: Any) -> None:
    """Refuse tensors that say they are larger than what holds their numbers.

    Raises:
        ValueError: gives the shape.
    """
    if isinstance(value, dict):
        for item in value.values():
            check_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_tensors(item)
    elif isinstance(value, torch.Tensor) and (
        value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ):
        raise ValueError(f"a tensor says that its shape is {tuple(value.shape)}, which is not what it holds")
