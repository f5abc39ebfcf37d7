"""The log of a directory has whole lines only, whatever stops the writing of one."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest
from directory_cases import samples, trained

from minima_volume.directories import directory as layout
from minima_volume.directories.directory import Directory, epoch_line
from minima_volume.directories.keep import state_of
from minima_volume.errors import MissingStageError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


class Full(io.FileIO):
    """A disk that takes so many bytes, and then no more."""

    room = 0

    def write(self, content) -> int:
        if not Full.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(content)[: Full.room]
        Full.room -= len(part)
        return super().write(part)


@pytest.mark.parametrize("room", [0, 1, 25, 40])
def test_a_full_disk_leaves_no_part_of_a_line(room: int, monkeypatch: pytest.MonkeyPatch):
    """What was there stays; the message says what to look at."""
    log = Directory(Path("a"))
    log.log(epoch_line(1, {"train_loss": 5.2}))
    before = log.log_file.read_bytes()
    Full.room = room
    real = Path.open

    def opened(path: Path, mode: str = "r", *args, **kwargs):
        return Full(path, "a+") if mode.startswith("a") else real(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(
        MissingStageError, match=r"training\.log cannot be written: No space left on device\. Check that"
    ):
        log.log(epoch_line(2, {"train_loss": 5.1834}))
    assert log.log_file.read_bytes() == before


@pytest.mark.parametrize("kept", range(1, 49))
def test_a_line_that_a_killed_process_left_half_written(kept: int):
    """It is no value of an epoch, before and after the next line; a cut number would be another number."""
    log = Directory(Path("a"))
    log.log(epoch_line(1, {"train_loss": 5.2}))
    whole = log.log_file.read_bytes()
    log.log_file.write_bytes(whole + b"2026-11-28 10:00:00 epoch 2: train_loss=5.183421"[:kept])
    assert log.history() == {"train_loss": {1: 5.2}}
    log.log("resumed after epoch 1")
    assert log.log_file.read_bytes().startswith(whole) and log.log_file.read_bytes().count(b"\n") == 2
    log.log(epoch_line(2, {"train_loss": 5.1}))
    assert log.history() == {"train_loss": {1: 5.2, 2: 5.1}}


@pytest.mark.parametrize("cut", [3, 5, 12])
def test_lines_that_earlier_versions_ran_together(cut: int):
    """They are no values, and no traceback of `status`."""
    directory = trained()
    lines = directory.log_file.read_text().splitlines(keepends=True)
    joined = lines[3][:-cut] + "2026-11-28 10:00:00 resumed after epoch 2\n"
    directory.log_file.write_text("".join([*lines[:3], joined]))
    assert state_of(directory).epochs == 2 and list(directory.history()["train_loss"]) == [1, 2]


def test_the_start_of_a_log_without_a_line_end(monkeypatch: pytest.MonkeyPatch):
    """Something long that somebody wrote into it is not removed."""
    monkeypatch.setattr(layout, "LONGEST_LINE", 16)
    log = Directory(Path("a"))
    log.log_file.parent.mkdir(parents=True)
    log.log_file.write_text("x" * 40)
    log.log("training begins")
    assert log.log_file.read_text().startswith("x" * 40)


def test_every_number_that_is_written_is_read():
    values = {"a": 1e-12, "b": -3.5e20, "c": float("nan"), "d": float("-inf"), "e": 7, "f": 0.1}
    log = Directory(Path("a"))
    log.log(epoch_line(3, values))
    read = {name: found[3] for name, found in log.history().items()}
    assert repr(read) == repr({name: float(value) for name, value in values.items()})
