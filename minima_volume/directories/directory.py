"""Layout of an experiment directory, and how a training takes hold of one that may exist."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from io import SEEK_END, RawIOBase
from pathlib import Path
from typing import Any

from minima_volume.config.directory import Experiment, TrainConfig, resolved
from minima_volume.config.errors import parse
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.atomic import make_folder, write_text
from minima_volume.files.boundary import check_way
from minima_volume.files.lock import LOCK_NAME, locked
from minima_volume.files.plain import open_plain, read_text
from minima_volume.files.yaml import dotted, dumped, read_yaml

MARKER = "# The resolved config of an experiment directory of minima_volume."
ENTRIES = ("checkpoints", "logs", "embeddings", "predictions", "figures", "config.yaml")
NEW, OLD = (
    ".new",
    ".old",
)  # a run that has no checkpoint yet, beside the one that it will replace; and that one on its way out
MAX_LOG = 2**28  # bytes
NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf)"
EPOCH_LINE = re.compile(rf"\S+ \S+ epoch (\d+): (\w+={NUMBER}(?: \w+={NUMBER})*)\n")
LONGEST_LINE = 2**16  # bytes


@dataclass(frozen=True)
class Directory:
    """Where the files of one directory lie.

    Attributes:
        folder: `{output_dir}/{name}`.
    """

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def state_file(self) -> Path:
        """All that an interrupted training needs to go on; removed at its end."""
        return self.checkpoints / ".state.pt"

    @property
    def log_file(self) -> Path:
        return self.folder / "logs" / "training.log"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def checkpoint(self, strategy: str) -> Path:
        """The file of `best`, `last` or `epoch_<N>`."""
        if strategy in ("best", "last"):
            return self.checkpoints / f"{strategy}_model.pt"
        return self.checkpoints / f"epoch_{int(strategy.removeprefix('epoch_')):03d}.pt"

    @property
    def saved(self) -> list[Path]:
        """Every checkpoint there is."""
        return sorted(self.checkpoints.glob("[!.]*.pt")) if self.checkpoints.is_dir() else []

    @property
    def marked(self) -> bool:
        """Whether its config.yaml was written by a training of this package."""
        try:
            with open_plain(self.config_file) as file:
                return file.read(len(MARKER.encode())) == MARKER.encode()
        except (FileNotFoundError, DamagedFileError):
            return False

    @property
    def finished(self) -> bool:
        """Whether its training has come to its end."""
        return self.marked and bool(self.saved) and not self.state_file.exists()

    def config(self) -> TrainConfig:
        """The resolved config of its training.

        Raises:
            MissingStageError: there is none.
        """
        if not self.marked:
            raise MissingStageError(f"{self.folder} is no experiment directory: it has no config.yaml of a training")
        return parse(TrainConfig, read_yaml(self.config_file), str(self.config_file))

    def write_config(self, config: TrainConfig) -> None:
        """Write the resolved config, with the line by which such directories are known."""
        write_text(self.config_file, f"{MARKER}\n{dumped(resolved(config))}")

    def log(self, line: str) -> None:
        """Append a line with its time to the log, whole or not at all; what a killed process left of a line is removed.

        Raises:
            MissingStageError: it cannot be written.
        """
        try:
            check_way(self.log_file)
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("ab+", buffering=0) as file:
                _append(file, f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n".encode())
        except OSError as error:
            raise MissingStageError(
                f"{self.log_file} cannot be written: {error.strerror or error}. Check that the folder is writable and the disk has space"
            ) from error

    def history(self) -> dict[str, dict[int, float]]:
        """Metric -> epoch -> value, read from the log's whole lines; of an epoch that was trained again after an interruption the last value."""
        found: dict[str, dict[int, float]] = {}
        if self.log_file.is_file():
            for line in read_text(self.log_file, MAX_LOG).splitlines(keepends=True):
                if match := EPOCH_LINE.fullmatch(line):
                    for name, value in (pair.split("=") for pair in match[2].split()):
                        found.setdefault(name, {})[int(match[1])] = float(value)
        return found


def _append(file: RawIOBase, line: bytes) -> None:
    """Write a line after the last whole one; an error leaves nothing of it."""
    size = file.seek(0, SEEK_END)
    start = file.seek(max(0, size - LONGEST_LINE))
    tail = file.read() or b""
    end = start + tail.rfind(b"\n") + 1 if b"\n" in tail or not start else size
    if end < size:
        file.truncate(end)
    left = memoryview(line)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        with suppress(OSError):
            file.truncate(end)
        raise


def epoch_line(epoch: int, values: Mapping[str, float]) -> str:
    """What the log says of an epoch; `Directory.history` reads it."""
    return f"epoch {epoch}: " + " ".join(f"{name}={value:.6g}" for name, value in values.items())


@dataclass
class Opened:
    """A directory that a training holds.

    Attributes:
        directory: where it writes now.
        final: where that will lie from its first checkpoint on.
        config: with the name that the directory has.
    """

    directory: Directory
    final: Directory
    config: TrainConfig

    def settle(self) -> None:
        """Called after the first checkpoint: what was there before is replaced."""
        if self.directory != self.final:
            (self.final.folder / OLD).mkdir(exist_ok=True)  # from here on an interrupted replacement goes forward
            _replace(self.final.folder)
            self.directory = self.final


@contextmanager
def opened(config: TrainConfig, say: Callable[[str], object]) -> Iterator[Opened]:
    """Take hold of a config's directory, as `experiment.on_exists` says, under its lock.

    Raises:
        ConfigError: it exists and must not be touched, or is of another config and cannot be resumed.
        LockedError: another process works in it.
    """
    experiment = config.experiment
    final = Directory(experiment.folder)
    if _occupied(final.folder):
        if experiment.on_exists == "error":
            raise ConfigError(f"{final.folder} exists; give another experiment.name, or set experiment.on_exists")
        if experiment.on_exists == "timestamp":
            final = Directory(_stamped(experiment))
            config = config.model_copy(update={"experiment": _renamed(experiment, final.folder.name)})
        else:
            _refuse_strange(final)
    make_folder(final.folder)
    with locked(final.folder):
        _recover(final.folder)
        if not _occupied(final.folder):
            yield Opened(final, final, config)
        elif experiment.on_exists == "resume" and (final.saved or final.state_file.exists()):
            _same_config(final, config)
            yield Opened(final, final, config)
        elif experiment.on_exists in ("error", "timestamp"):  # another process made it since we looked
            raise ConfigError(f"{final.folder} exists since a moment ago; start again, or give another experiment.name")
        else:
            _refuse_strange(final)
            say(_loudly(final))
            yield Opened(Directory(final.folder / NEW), final, config)


@contextmanager
def held(directory: Directory) -> Iterator[None]:
    """The lock of a directory to which something is added.

    Raises:
        LockedError: another process works in it.
    """
    make_folder(directory.folder)
    with locked(directory.folder):
        _recover(directory.folder)
        yield


def _renamed(experiment: Experiment, name: str) -> Experiment:
    return experiment.model_copy(update={"name": name})


def _occupied(folder: Path) -> bool:
    """Whether anything but our own hidden files lies in it."""
    return folder.is_dir() and any(entry.name not in (LOCK_NAME, NEW) for entry in folder.iterdir())


def _refuse_strange(directory: Directory) -> None:
    if not directory.marked and not (directory.folder / OLD).is_dir():
        raise ConfigError(
            f"{directory.folder} exists and was not made by a training of this package, so it is left alone; give another "
            "experiment.name or output_dir, or remove it yourself"
        )


def _stamped(experiment: Experiment) -> Path:
    """A new folder, made here, so that no two trainings get the same."""
    stamp = f"{experiment.name}_{datetime.now():%Y%m%d_%H%M%S}"
    for number in range(1, 10_000):
        folder = Path(experiment.output_dir) / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            make_folder(folder, exist_ok=False)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{experiment.output_dir} has 10,000 folders {stamp}*")


def _loudly(directory: Directory) -> str:
    counts = [
        f"{sum(path.is_file() for path in place.rglob('*'))} in {entry}/"
        for entry in ENTRIES
        if (place := directory.folder / entry).is_dir()
    ]
    return (
        f"{directory.folder} EXISTS AND WILL BE OVERWRITTEN (files: {', '.join(counts) or 'none'}); it stays as it is until the first "
        "checkpoint of this training. experiment.on_exists: timestamp, error or resume keeps it"
    )


def _recover(folder: Path) -> None:
    """Finish a replacement that was interrupted; forget a training that was interrupted before its first checkpoint."""
    if (folder / OLD).is_dir():
        _replace(folder)
    shutil.rmtree(folder / NEW, ignore_errors=True)


def _replace(folder: Path) -> None:
    """Put what lies in NEW in place of what was there; may be interrupted anywhere and called again."""
    new, old = folder / NEW, folder / OLD
    for entry in ENTRIES:
        if (new / entry).exists() or entry in ("embeddings", "predictions", "figures"):
            if (folder / entry).exists():
                shutil.rmtree(old / entry, ignore_errors=True)
                (folder / entry).rename(old / entry)
            if (new / entry).exists():
                (new / entry).rename(folder / entry)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old)


def _same_config(directory: Directory, config: TrainConfig) -> None:
    before, now = _deciding(directory.config()), _deciding(config)
    if differing := [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]:
        shown = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing[:3])
        raise ConfigError(
            f"{directory.folder} cannot be resumed with another config: {shown}. Take its own config.yaml, or another name"
        )


def _deciding(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value of what decides the numbers up to an epoch; paths, tracking and the number of epochs do not."""
    free = ("experiment.name", "experiment.output_dir", "experiment.on_exists", "train.epochs")
    flat = dotted({name: section for name, section in resolved(config).items() if name != "mlflow"})
    return {key: value for key, value in flat.items() if key not in free}
