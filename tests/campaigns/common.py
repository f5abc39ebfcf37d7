"""What the campaigns share: a small run to attack, calling a command, and the tally."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from helpers import ALL_STAGES, make_run

from minima_volume.analysis.collect import collect
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import read_json, read_npz, read_pt
from minima_volume.runs.notebooks import SOURCES
from minima_volume.stages.run import RUN_NOTEBOOKS, Run

SMALL = {
    "data.levels": [0, 20],
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": [0.8],
    "volume.gaussian": {"sigma": 0.02, "num_particles": 20, "num_repeats": 2, "num_moves": 2},
}
MAX_SECONDS, PATIENCE = 5.0, 4.0  # of a command on a processor of its own; how much longer it may take by the clock


@dataclass
class Tally:
    """What a campaign has tried.

    Attributes:
        name: of the campaign.
        tried: cases.
        wrong: a line for each case that went wrong.
        slowest: seconds of the slowest one.
    """

    name: str
    tried: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.tried} tried, {self.tried - len(self.wrong)} right, {len(self.wrong)} wrong"]
        lines[0] += f"; the slowest took {self.slowest:.1f} s"
        return "\n".join([*lines, *(f"  {line}" for line in self.wrong[:20])])

    def add(self, case: str, problems: list[str], seconds: float) -> None:
        """Count a case."""
        self.tried += 1
        self.slowest = max(self.slowest, seconds)
        if problems:
            self.wrong.append(f"{case}: {'; '.join(problems)}")


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str
    seconds: float
    crash: str = ""

    def problems(self, lines: int = 1, limit: float = MAX_SECONDS) -> list[str]:
        """A traceback, more than one line of an error, an exit code of its own, or too long."""
        found = [self.crash] if self.crash else []
        if not self.crash and self.code not in (0, 1):
            found.append(f"exit code {self.code}")
        if len([line for line in self.err.splitlines() if not line.startswith("note:")]) > lines:
            found.append(f"{self.err.count(chr(10))} lines: {self.err[:200]!r}")
        if "Traceback" in self.out + self.err:
            found.append("a traceback was printed")
        return found + ([f"{self.seconds:.1f} s"] if self.seconds > limit else [])


def call(*arguments: object) -> Said:
    """A command of `minima-volume` in this process."""
    from minima_volume.cli.app import main

    out, err, crash, code = io.StringIO(), io.StringIO(), "", 0
    before, sys.argv = sys.argv, ["minima-volume", *map(str, arguments)]
    start, begun = time.process_time(), time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException as error:
        crash = f"{type(error).__name__}: {error}"[:200] + " at " + traceback.format_exc().splitlines()[-3].strip()
    finally:
        sys.argv = before
    # a busy machine is not the command's fault; one that waits is
    seconds = max(time.process_time() - start, (time.perf_counter() - begun) / PATIENCE)
    return Said(code, out.getvalue(), err.getvalue(), seconds, crash)


def analyzed(condition: Path) -> list[str]:
    """What is wrong with how the results of a condition are read: anything but an error of the package."""
    try:
        collect(condition)
    except MinimaVolumeError:
        pass
    except Exception as error:
        return [f"collect: {type(error).__name__}: {error}"]
    return []


def small_run(folder: Path) -> Run:
    """A whole run with its notebooks, in a condition with a config.yaml."""
    run = make_run(folder / "base" / "model_0_data_10", SMALL, ALL_STAGES)
    for name in RUN_NOTEBOOKS:
        shutil.copy(SOURCES / name, run.folder)
    text = (run.folder / "config.yaml").read_text(encoding="utf-8")
    text = text.replace("model: 0", "model: null").replace("data: 10", "data: null")
    (run.folder.parent / "config.yaml").write_text(text, encoding="utf-8")
    return run


def restore(folder: Path, pristine: Path) -> None:
    """Make a folder what another one is; its links are removed and not followed."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(pristine, folder, symlinks=True)


def contents(folder: Path) -> dict[str, object]:
    """What every array, model and JSON file below a folder holds, without what may differ between two equal runs."""
    read = {".json": read_json, ".npz": read_npz, ".pt": read_pt}
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in read:
            content = read[path.suffix](path)
            content.pop("provenance", None)
            found[str(path.relative_to(folder))] = content
    return found
