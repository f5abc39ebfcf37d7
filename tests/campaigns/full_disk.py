"""A disk that is full at every size, page by page: one line, whole files, and a run that is resumed with room is the same to the bit."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from campaigns.common import Tally, call, contents
from campaigns.failing_writes import left_behind, prepared
from campaigns.same import differences

PAGE, ROOM = 4096, 2**26  # bytes


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own that holds no more than `size` bytes."""
    folder.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)
        folder.rmdir()


def possible() -> bool:
    """Whether small file systems can be mounted here; that takes the rights of root."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with disk(Path(name) / "disk", PAGE):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def campaign(cases: int | None = None, seed: int = 0) -> Tally:
    """Run a small run on disks of all sizes that are too small for it, then give it room and run it again.

    Args:
        cases: how many, evenly spread over all sizes; None: all.
        seed: shifts which ones.
    """
    can = possible()
    tally = Tally("full disk" if can else "full disk (not tried: mounting a small file system takes root)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes: list[int] = []
        if can:
            with disk(folder / "reference", ROOM) as place:
                run = prepared(place / "model_0_data_10")
                assert call("run", run, "--quiet").code == 0
                true, sizes = contents(run), list(range(PAGE, shutil.disk_usage(place).used, PAGE))
        step = 1 if cases is None else max(1, len(sizes) // cases)
        for number, size in enumerate(sizes[seed % step :: step][:cases]):
            start = time.perf_counter()
            with disk(folder / f"case_{number}", size) as place:
                problems = _case(place, true)
            tally.add(f"{size // PAGE} of {len(sizes)} pages", problems, time.perf_counter() - start)
    return tally


def _case(place: Path, true: dict[str, object]) -> list[str]:
    run = place / "model_0_data_10"
    try:
        prepared(run)
    except OSError:  # not even its config.yaml has room
        return []
    said = call("run", run, "--quiet")
    problems = said.problems(limit=120)
    if said.code and "No space left on device" not in said.err:
        problems.append(f"the failure was not said: {said.code} {said.err[:200]!r}")
    problems += left_behind(run)
    if said.code:
        _mount("-o", f"remount,size={ROOM}", str(place))
        again = call("run", run, "--quiet")
        if again.code or again.crash:
            return [*problems, f"the resumed run failed: {again.err[:200]}{again.crash}"]
    if other := differences(contents(run), true):
        problems.append(f"the resumed run differs in {', '.join(other)}")
    return problems


def _mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True, capture_output=True)
