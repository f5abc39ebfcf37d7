"""kill -9 of a command and all that it started, at random moments: no damaged file, and a resumed run is the same to the bit."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from helpers import tiny

from campaigns.common import SMALL, Tally, contents
from campaigns.same import differences
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.lock import lock_of
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.notebooks import SOURCES
from minima_volume.runs.states import stage_states
from minima_volume.stages.run import RUN_NOTEBOOKS

BAD = {"damaged", "invalid", "stale"}
END_SECONDS = 10.0  # for what a killed process has started to end by itself


def prepared(folder: Path) -> Path:
    """A condition with one run that has computed nothing."""
    condition = folder / "base"
    gaussian = dict(SMALL["volume.gaussian"])  # type: ignore[call-overload]
    content = tiny(SMALL | {"volume.gaussian": gaussian})
    write_yaml(condition / "config.yaml", content)
    run = condition / "model_0_data_10"
    write_yaml(run / "config.yaml", content)
    for name in RUN_NOTEBOOKS:
        shutil.copy(SOURCES / name, run)
    return run


def started(command: str, run: Path) -> subprocess.Popen[bytes]:
    """The command on a run, in a process group of its own."""
    words = ["run", str(run)] if command == "run" else ["pipeline", str(run.parent), "--jobs", "1"]
    call = [sys.executable, "-m", "minima_volume.cli", *words, "--quiet"]
    return subprocess.Popen(call, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def campaign(count: int, seed: int = 0, command: str = "run") -> Tally:
    """Kill a command `count` times; each case is killed up to three times, then finished.

    Args:
        count: kills.
        seed: of the moments.
        command: run, or pipeline: with kernels and a fork server, of which one, or the driver, or all are killed.
    """
    tally, chance = Tally(f"kill -9 of {command}"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = prepared(folder / "reference")
        start = time.monotonic()
        assert started(command, run).wait(600) == 0
        lasted, true = time.monotonic() - start, contents(run)
        number = 0
        while number < count:
            run = prepared(folder / f"case_{number}")
            for _ in range(min(3, count - number)):
                moment = chance.uniform(0.1, 0.9) * lasted
                tally.add(f"{number} at {moment:.1f} s", _killed(command, run, moment, chance), moment)
                number += 1
            code = started(command, run).wait(600)
            problems = [f"the resumed {command} ended with {code}"] if code else []
            problems += [f"it differs in {', '.join(other)}"] if (other := differences(contents(run), true)) else []
            problems += _left(run)
            if problems:
                tally.wrong.append(f"resumed after {number}: {'; '.join(problems)}")
            shutil.rmtree(run.parent)
    return tally


def _killed(command: str, run: Path, moment: float, chance: random.Random) -> list[str]:
    process = started(command, run)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    members = family(process.pid)
    victims = members if command == "run" else chance.choice([members, members[:1], members[-1:]])
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
    process.wait(600)
    _, alive = psutil.wait_procs(members, timeout=END_SECONDS)
    problems = [f"process {one.pid} lives on" for one in alive if one.is_running() and one.status() != "zombie"]
    try:
        contents(run)
    except MinimaVolumeError as error:
        problems.append(str(error))
    states = stage_states(run)
    problems += [f"{stage} is {state.name}: {state.reason}" for stage, state in states.items() if state.name in BAD]
    if lock_of(run) is not None:
        problems.append("the lock of the killed process counts as held")
    return problems


def _left(run: Path) -> list[str]:
    names: list[Any] = [path.name for path in run.rglob("*") if path.suffix == ".tmp" or "executing" in path.name]
    names += [name for name in (".lock", ".sweep_shards") if (run / name).exists()]
    return [f"left behind: {', '.join(names)}"] if names else []
