"""What is done in experiment directories, and removing or packing what they hold."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minima_volume.directories.directory import ENTRIES, Directory, held
from minima_volume.errors import ConfigError, DamagedFileError
from minima_volume.files.atomic import read_pt, write_atomic
from minima_volume.files.lock import lock_of
from minima_volume.files.walk import find_below

# what is lost
KINDS = {
    "epochs": "checkpoints of single epochs; best and last stay",
    "logs": "the record of the training, and with it the loss curves and what MLflow was not told yet",
    "embeddings": "embeddings: extracted again by `minima-volume embed`",
    "predictions": "predictions: made again by `minima-volume predict`",
    "figures": "figures: drawn again by `minima-volume draw`",
}
PATTERNS = {
    "epochs": "checkpoints/epoch_*.pt",
    "logs": "logs/*",
    "embeddings": "embeddings/*",
    "predictions": "predictions/*",
    "figures": "figures/*",
}


@dataclass(frozen=True)
class State:
    """What is done in one directory.

    Attributes:
        folder: the directory.
        state: finished, interrupted, training, or empty (no checkpoint yet).
        epochs: epochs that are done, or None.
        wanted: epochs that the config asks for.
        saved: names of the checkpoints.
        others: how many embeddings and predictions.
        working: who works in it now.
    """

    folder: Path
    state: str
    epochs: int | None
    wanted: int
    saved: tuple[str, ...]
    others: dict[str, int]
    working: str


def find_directories(folder: Path) -> list[Directory]:
    """The folder itself, or every experiment directory below it; links are not followed."""
    return [Directory(found) for found in find_below(folder, lambda path: Directory(path).marked)]


def state_of(directory: Directory) -> State:
    """Read from the files alone."""
    lock = lock_of(directory.folder)
    state = "finished" if directory.finished else "interrupted" if directory.state_file.is_file() else "empty"
    epochs = None
    try:
        if directory.state_file.is_file():
            epochs = read_pt(directory.state_file)["progress"]["epoch"]
        elif directory.saved:
            logged = directory.history().get("train_loss", {})
            epochs = max(logged) if logged else max(read_pt(path)["epoch"] for path in directory.saved)
    except DamagedFileError:
        state = "damaged"
    return State(
        directory.folder,
        "training" if lock is not None and state == "interrupted" else state,
        epochs,
        directory.config().train.epochs,
        tuple(path.name for path in directory.saved),
        {kind: len(_of_kind(directory, kind)) for kind in ("embeddings", "predictions")},
        "" if lock is None else str(lock),
    )


def describe(states: Iterable[State]) -> str:
    """A line per directory."""
    lines = []
    for one in states:
        done = f"{'no' if one.epochs is None else one.epochs} of {one.wanted} epochs"
        saved = ", ".join(one.saved) if len(one.saved) < 4 else f"{len(one.saved)} checkpoints"
        others = [f"{count} files of {kind}" for kind, count in one.others.items() if count]
        working = [f"in use by {one.working}"] if one.working else []
        lines.append(f"{one.folder}: {one.state}, " + "; ".join([done, saved or "no checkpoint", *others, *working]))
    return "\n".join(lines)


def files_of(directory: Directory, what: str) -> list[Path]:
    """The files of one kind.

    Raises:
        ConfigError: no such kind.
    """
    if what not in KINDS:
        raise ConfigError(f"what: {what!r} is not known; allowed for experiment directories: {', '.join(KINDS)}")
    return _of_kind(directory, what)


def clean(directory: Directory, what: str) -> list[Path]:
    """Remove the files of one kind, and the folder that is left empty.

    Raises:
        LockedError: another process works in the directory.
        ConfigError: no such kind.
    """
    with held(directory):
        files = files_of(directory, what)
        for file in files:
            file.unlink()
        for folder in {file.parent for file in files}:
            if not any(folder.iterdir()):
                folder.rmdir()
    return files


def archive(directory: Directory, output: Path | None = None) -> Path:
    """Pack a directory into a .tar.gz, whole or not at all; it stays where it is.

    Args:
        directory: to pack.
        output: the file, .tar.gz or .tgz; `{name}.tar.gz` beside the directory by default.

    Raises:
        ConfigError: no experiment directory, or the file exists, is of another kind, or would lie in the directory.
        LockedError: another process works in it.
    """
    if not directory.marked:
        raise ConfigError(f"{directory.folder} is no experiment directory: it has no config.yaml of a training")
    named = directory.folder if directory.folder.name not in ("", "..") else directory.folder.resolve()
    path = named.with_name(f"{named.name}.tar.gz") if output is None else output
    if not path.name.endswith((".tar.gz", ".tgz")):
        raise ConfigError(f"--output {path}: what is written is a gzipped tar file; call it .tar.gz or .tgz")
    if path.resolve().is_relative_to(named.resolve()):
        raise ConfigError(f"--output {path} lies in the directory that is packed; give a place outside of {named}")
    if path.exists():
        raise ConfigError(f"{path} exists; remove it, or give another --output")

    def write(file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w:gz") as packed:
            for entry in ENTRIES:
                if (directory.folder / entry).exists():
                    packed.add(directory.folder / entry, f"{named.name}/{entry}")

    with held(directory):
        return write_atomic(path, write)


def _of_kind(directory: Directory, what: str) -> list[Path]:
    folder = directory.folder
    return sorted(
        path
        for path in folder.glob(PATTERNS[what])
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink()
    )
