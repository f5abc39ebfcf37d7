"""Folders of a kind, wherever they lie below another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def find_below(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """The folder itself if it is wanted, else every wanted folder below it, in order; links and hidden folders are not entered."""
    if wanted(folder):
        return [folder]
    if not folder.is_dir():
        return []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != ".")
    return [found for path in below for found in find_below(path, wanted)]
