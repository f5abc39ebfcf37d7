"""Every write that a run makes fails once: one line, whole files, and a resumed run is the same to the bit."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import tiny

from campaigns.common import SMALL, Tally, call, contents
from campaigns.same import differences
from minima_volume.errors import DamagedFileError
from minima_volume.files.yaml import write_yaml

MOST = 100  # cases of a kind: a file is written in many pieces, the other calls are all tried
KINDS = ("open", "write", "fsync", "rename")


class Counter:
    """Counts the calls of one kind, and lets one of them, or all from it on, fail as a full disk does."""

    def __init__(self, fails_at: int | None, for_good: bool) -> None:
        self.calls, self.fails_at, self.for_good = 0, fails_at, for_good

    def __call__(self) -> None:
        self.calls += 1
        if self.fails_at is not None and (
            self.calls == self.fails_at or (self.for_good and self.calls > self.fails_at)
        ):
            raise OSError(28, "No space left on device")


class Writing(io.FileIO):
    """A file whose writes are counted."""

    counter: Counter

    def write(self, content: Any) -> int:
        self.counter()
        return super().write(content)


@contextlib.contextmanager
def failing(kind: str, counter: Counter) -> Iterator[None]:
    """Put a counter before every call of a kind."""
    opened, replaced, synced = Path.open, Path.replace, os.fsync

    def open_(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "x" not in mode and "w" not in mode:
            return opened(self, mode, *arguments, **options)
        if kind == "open":
            counter()
        if kind == "write" and "b" in mode:
            file = Writing(self, mode.replace("b", ""))
            file.counter = counter
            return file
        return opened(self, mode, *arguments, **options)

    def replace(self: Path, target: Any) -> Any:
        if kind == "rename":
            counter()
        return replaced(self, target)

    def fsync(descriptor: int) -> None:
        if kind == "fsync":
            counter()
        synced(descriptor)

    Path.open, Path.replace, os.fsync = open_, replace, fsync  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Path.open, Path.replace, os.fsync = opened, replaced, synced  # type: ignore[method-assign]


def campaign(cases: int | None = None, seed: int = 0) -> Tally:
    """Fail at each of the calls of a small run, in turn once and for good.

    Args:
        cases: how many, evenly spread over all; None: all.
        seed: shifts which ones.
    """
    tally = Tally("failing writes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        true = _whole(folder / "reference" / "model_0_data_10")
        counts = {kind: _count(folder / f"count_{kind}" / "model_0_data_10", kind) for kind in KINDS}
        every = [(kind, k) for kind in KINDS for k in range(1, counts[kind] + 1, max(1, counts[kind] // MOST))]
        step = 1 if cases is None else max(1, len(every) // cases)
        for number, (kind, k) in enumerate(every[seed % step :: step][:cases]):
            run = folder / f"case_{number}" / "model_0_data_10"
            start = time.perf_counter()
            problems = _case(run, kind, k, for_good=number % 2 == 1, true=true)
            tally.add(f"{kind} {k} of {counts[kind]}", problems, time.perf_counter() - start)
    return tally


def left_behind(run: Path) -> list[str]:
    """Temporary files, locks and damaged files that a command which has ended left there."""
    left = [path.name for path in run.rglob("*") if path.suffix == ".tmp" or path.name == ".lock"]
    problems = [f"left behind: {left}"] if left else []
    try:
        contents(run)
    except DamagedFileError as error:
        problems.append(str(error))
    return problems


def prepared(run: Path) -> Path:
    """A run folder that holds its config.yaml."""
    write_yaml(run / "config.yaml", tiny(_settings()))
    return run


def _settings() -> dict[str, Any]:
    gaussian = dict(SMALL["volume.gaussian"])  # type: ignore[call-overload]
    return SMALL | {"volume.gaussian": gaussian, "training.epochs": 10}


def _whole(run: Path) -> dict[str, object]:
    said = call("run", prepared(run), "--quiet")
    assert said.code == 0 and not said.crash, said
    return contents(run)


def _count(run: Path, kind: str) -> int:
    counter = Counter(None, for_good=False)
    prepared(run)
    with failing(kind, counter):
        call("run", run, "--quiet")
    return counter.calls


def _case(run: Path, kind: str, k: int, *, for_good: bool, true: dict[str, object]) -> list[str]:
    prepared(run)
    with failing(kind, Counter(k, for_good)):
        said = call("run", run, "--quiet")
    problems = said.problems(limit=120)
    if said.code != 1 or "No space left on device" not in said.err:
        problems.append(f"the failure was not said: {said.code} {said.err[:200]!r}")
    problems += left_behind(run)
    again = call("run", run, "--quiet")
    if again.code or again.crash:
        problems.append(f"the resumed run failed: {again.err[:200]}{again.crash}")
    elif other := differences(contents(run), true):
        problems.append(f"the resumed run differs in {', '.join(other)}")
    return problems
