"""Where downloaded data sets lie, and how they come to be there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from minima_volume.errors import DataError

Read = TypeVar("Read")


def data_root() -> Path:
    """Where data sets lie: the environment variable MINIMA_VOLUME_DATA, else `data` in the working folder or the
    nearest folder above it that holds one beside a pyproject.toml."""
    if chosen := os.environ.get("MINIMA_VOLUME_DATA"):
        return Path(chosen)
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)
    return project / "data"


def read_or_download(
    name: str,
    folder: Path,
    present: bool,
    download: Callable[[], object],
    read: Callable[[], Read],
    size: str,
    by_hand: str,
) -> Read:
    """Read a data set, downloading it first where it is absent.

    Args:
        name: what messages call it.
        folder: where its files lie.
        present: whether they are there.
        download: fetches them through torchvision, which compares them with their checksums.
        read: reads them.
        size: how large the files are.
        by_hand: which files to place, for the message when the download fails.

    Raises:
        DataError: the files are absent and cannot be downloaded, or they cannot be read.
    """
    if not present:
        print(f"{name} is not in {folder}: downloading it ({size}) through torchvision ...", file=sys.stderr)
        try:
            download()
        except Exception as error:  # URLError, RuntimeError, OSError: whatever stops a download
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{name} is not in {folder} and could not be downloaded ({reason}). {by_hand} by hand ({size}), "
                "or point MINIMA_VOLUME_DATA at a folder that has them."
            ) from error
    try:
        return read()
    except Exception as error:  # torchvision, pickle and scipy raise many kinds for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} in {folder} cannot be read ({reason}): delete the folder and fetch it again"
        ) from error
