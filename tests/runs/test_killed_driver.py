"""`kill -9` of a pipeline's driver in the middle of each stage: run again, and the numbers are those of an uninterrupted run."""

from __future__ import annotations

import base64
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from helpers import PIXEL, numbers, same_arrays, tiny

import minima_volume as mv
from minima_volume.files.yaml import write_yaml

SMALL = {
    "data.levels": [0, 20],
    "training.epochs": 20,
    "perturbation.shard_size": 2,
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": None,
    "volume.gaussian": {"sigma": 0.05, "num_particles": 40, "num_repeats": 2, "num_moves": 2},
}
KILLS = {"train": 1, "perturb": 2, "volume": 2, "cutoff": 1, "accuracy": 1}

# a process that forks drivers, so that imports are done once; a driver executes the stages in itself and counts what each one does
# to files: a kill leaves nothing but files behind, so that these moments are all there are, and they are the same on any machine
DRIVERS = """
import base64, json, os, shutil, signal, sys
import papermill, sklearn.datasets, torch, torch._dynamo
from minima_volume.plots import style
from pathlib import Path
from minima_volume.stages.run import STAGES
from minima_volume.stages.open import open_run
from minima_volume.runs.pipeline import run_pipeline
from minima_volume.runs.states import run_stage

style.figure_bytes = lambda *_, **__: base64.b64decode(sys.argv[4])
WRITES, count = os.O_WRONLY | os.O_RDWR | os.O_CREAT, {"done": 0, "last": None}

def counted(event, arguments):
    if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or event == "open" and arguments[2] & WRITES:
        count["done"] += 1
        if count["done"] == count["last"]:
            os.kill(os.getpid(), signal.SIGKILL)

def execute(source, target, **options):
    folder, stage = Path(source).parent, next(key for key, name in STAGES.items() if name == Path(source).name)
    count.update(done=0, last=last if stage == where else None)
    run_stage(open_run(folder, stage), stage, progress=False)
    os.write(said, f"{stage} {count['done']}\\n".encode())
    count["last"] = None
    shutil.copy(source, target)

def driver(condition, stage=None, at=None):
    global said, where, last
    heard, said = os.pipe()
    if pid := os.fork():
        os.close(said)
        return os.fdopen(heard).read().split(), os.waitpid(pid, 0)[1]
    torch.set_num_threads(1)
    papermill.execute_notebook, where, last = execute, stage, at
    sys.addaudithook(counted)
    outcomes = run_pipeline(condition, jobs=1, progress=False)
    os._exit(any(o.outcome == "failed" for o in outcomes))

whole, killed, kills = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
lines, code = driver(whole)
assert code == 0, lines
writes = dict(zip(lines[::2], map(int, lines[1::2])))
landed = {stage: 0 for stage in STAGES}
for stage, share in kills:
    landed[stage] += driver(killed, stage, max(1, round(share * writes[stage])))[1] == signal.SIGKILL
assert driver(killed)[1] == 0
print(json.dumps([landed, writes]))
"""


def same_models(first: Path, second: Path) -> None:
    a, b = (torch.load(path, weights_only=True) for path in (first, second))
    assert a.keys() == b.keys()
    for key in a.keys() - {"provenance"}:
        same = a[key].keys() == b[key].keys() if isinstance(a[key], dict) else None
        pairs = [(a[key][name], b[key][name]) for name in a[key]] if same else [(a[key], b[key])]
        assert all(torch.equal(x, y) if torch.is_tensor(x) else x == y for x, y in pairs), (
            f"{first.name}: {key} differs"
        )


def test_killed_in_every_stage_and_run_again(tmp_path):
    """Seven kills at seeded writes of a run; whichever half-done state each leaves, the next attempt goes on from it."""
    draw = random.Random(6)
    kills = []
    for stage, count in KILLS.items():  # each attempt goes on where the last one was killed
        moments = [0.0, *sorted(draw.random() for _ in range(count))]
        kills += [(stage, round(later - earlier, 3)) for earlier, later in itertools.pairwise(moments)]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        write_yaml(tmp_path / name / "config.yaml", tiny(SMALL))
        mv.new_runs(tmp_path / name, [(0, 10)])
    folders = [str(tmp_path / name) for name in ("whole", "killed")]
    command = [sys.executable, "-c", DRIVERS, *folders, json.dumps(kills), base64.b64encode(PIXEL).decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    landed, writes = json.loads(done.stdout.splitlines()[-1])
    assert landed == KILLS, (landed, writes)
    first, second = (tmp_path / name / "model_0_data_10" for name in ("whole", "killed"))
    files = [{path.relative_to(run) for path in run.rglob("*") if path.is_file()} for run in (first, second)]
    assert files[0] == files[1] and len(files[0]) > 20
    compare = {".pt": same_models, ".npz": same_arrays, ".json": same_json}
    for file in files[0]:
        if file.suffix in compare:
            compare[file.suffix](first / file, second / file)


def same_json(first: Path, second: Path) -> None:
    assert numbers(first) == numbers(second), first.name


# a driver whose workers leave their process numbers and then have hours to do
BUSY = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from minima_volume.config.run import Config, load_config
from minima_volume.execution.tasks import run_tasks

@dataclass(frozen=True)
class Piece:
    config: Config

def work(piece):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(3600)

list(run_tasks(work, [Piece(load_config(Path(sys.argv[2])))] * 2, 2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_driver_is_killed(how, tmp_path):
    """They hold memory and cores that nobody would give back."""
    (tmp_path / "pids").mkdir()
    write_yaml(tmp_path / "config.yaml", tiny())
    driver = subprocess.Popen([sys.executable, "-c", BUSY, str(tmp_path / "pids"), str(tmp_path / "config.yaml")])
    try:
        until(lambda: len(list((tmp_path / "pids").iterdir())) == 2, 120)
        workers = [psutil.Process(int(path.name)) for path in (tmp_path / "pids").iterdir()]
    finally:
        driver.send_signal(how)
        driver.wait(30)
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers), 30)


def test_the_command_line_takes_sigterm_as_ctrl_c(tmp_path):
    """As a batch system sends it: exit code 143, one line, no lock left, nothing that is finished lost."""
    write_yaml(tmp_path / "config.yaml", tiny({"training.epochs": 1_000_000}))
    (run,) = mv.new_runs(tmp_path, mv.seed_pairs(1))
    command = [sys.executable, "-m", "minima_volume.cli", "run", str(run), "-q"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until((run / "models_and_data" / "dataset.pt").is_file, 120)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and said == "interrupted; what is finished is kept, run again to go on\n"
    assert (run / "models_and_data" / "dataset.pt").is_file() and not list(run.glob(".lock"))


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
