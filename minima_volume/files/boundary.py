"""The folder that work was given: nothing is written or removed through a link below it, or once it is gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minima_volume.errors import BoundaryError

MARK = "config.yaml"  # a folder that holds one may itself have been reached through a link: that is the user's word
_ENTERED: dict[Path, tuple[int, int]] = {}  # folders this process works in -> device and inode


@contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Work in a folder: if it is removed or replaced meanwhile, `check_way` refuses to write below it.

    Args:
        folder: an absolute path.

    Raises:
        BoundaryError: there is no such folder.
    """
    before, now = _ENTERED.get(folder), _identity(folder)
    if now is None:
        raise BoundaryError(f"{folder} is gone; nothing was written")
    _ENTERED[folder] = now
    try:
        yield
    finally:
        if before is not None:
            _ENTERED[folder] = before
        else:
            _ENTERED.pop(folder, None)


def check_way(path: Path) -> None:
    """Refuse a file to write or remove that lies behind a link, is no plain file, or whose folder is gone.

    Links are looked for below the folder that was entered, else below the nearest one with a config.yaml; how that one was
    reached is the user's choice.

    Raises:
        BoundaryError: names the link, the file or the folder.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve would follow the links that are looked for)
    if path.is_symlink():
        raise BoundaryError(
            f"{path} is a link to {path.readlink()}, and links are not written through; replace it by a file"
        )
    if path.exists() and not path.is_file():
        raise BoundaryError(f"{path} is not a plain file, so it is neither written nor removed; move it away")
    root = _root(path)
    if root is None:
        return
    if root in _ENTERED and _identity(root) != _ENTERED[root]:
        raise BoundaryError(f"{root} was removed or replaced while it was worked on; {path.name} was not written")
    for folder in _between(path, root):
        if folder.is_symlink():
            raise BoundaryError(
                f"{folder} is a link to {folder.readlink()}, and nothing is written or removed through a link below "
                f"{root}; put a folder in its place"
            )


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, unless it is a link or lies behind one; what cannot be removed stays.

    Raises:
        BoundaryError: names the link.
    """
    if folder.is_dir():
        check_way(folder / "any file")
        shutil.rmtree(folder, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _root(path: Path) -> Path | None:
    above = list(path.parents)
    return next((folder for folder in above if folder in _ENTERED), None) or next(
        (folder for folder in above if (folder / MARK).is_file()), None
    )


def _between(path: Path, root: Path) -> list[Path]:
    """The folders from below the root down to the file's own."""
    folders = list(path.parents)
    return folders[: folders.index(root)][::-1]


def confined(folder: Path, name: str) -> Path:
    """A folder by a relative name that stays below another one.

    Args:
        folder: the other one.
        name: relative, without `..`, and on no way through a link.

    Raises:
        BoundaryError: it leads elsewhere.
    """
    inner = Path(name)
    target = folder / inner
    if inner.is_absolute() or ".." in inner.parts or target.resolve() != folder.resolve() / inner:
        raise BoundaryError(
            f"experiment.output_dir: {name!r} leads out of {folder}; give a folder below it, or set experiment.allow_outside: true"
        )
    return target
