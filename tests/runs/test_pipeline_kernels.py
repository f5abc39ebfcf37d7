"""The pipeline with real kernels: one that dies, and an interruption of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import nbformat
import psutil
import pytest
from helpers import tiny

import minima_volume as mv
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.pipeline import run_pipeline
from minima_volume.runs.states import run_stage
from minima_volume.stages.run import RUN_NOTEBOOKS, TRAIN

QUICK = {
    "data.levels": [0],
    "perturbation.num_directions": 2,
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": None,
    "training.epochs": 20,
}


BUSY = """run_folder = "."
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "3600"])
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(3600)"""


@pytest.mark.notebooks
def test_a_kernel_that_dies(tmp_path):
    """Its notebook says so, and the status counts it as failed."""
    write_yaml(tmp_path / "config.yaml", tiny(QUICK))
    run = mv.new_runs(tmp_path, [(0, 10)])[0]
    notebook = nbformat.read(run / TRAIN, as_version=4)
    notebook.cells[1].source += "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    nbformat.write(notebook, run / TRAIN)
    (outcome,) = run_pipeline(tmp_path, stages=["train"], progress=False)
    assert outcome.outcome == "failed" and "DeadKernelError" in outcome.error
    assert "DeadKernelError" in mv.status_table(tmp_path).loc[run.name, "error"]


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("how", "code", "execution"),
    [(signal.SIGINT, 130, {}), (signal.SIGTERM, 143, {"cluster": "local", "options": {"n_workers": 2}})],
)
def test_a_pipeline_that_is_interrupted(how, code, execution, tmp_path):
    """One of two runs is done, the other at its work, here and on a cluster: it ends in seconds with all its processes, and says so."""
    write_yaml(tmp_path / "config.yaml", tiny(QUICK) | {"execution": execution})
    first, second = mv.new_runs(tmp_path, mv.seed_pairs(2))
    run_stage(mv.open_run(first, "train"), "train", progress=False)
    notebook = nbformat.read(second / TRAIN, as_version=4)
    whole = notebook.cells[1].source
    notebook.cells[1].source = BUSY
    nbformat.write(notebook, second / TRAIN)
    command = [sys.executable, "-m", "minima_volume.cli", "pipeline", str(tmp_path), "-q", "--stage", "train"]
    # in a group of their own, as a terminal has them; tests in the background of a shell have Ctrl-C ignored
    default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, preexec_fn=default, start_new_session=True)
    until = time.monotonic() + 500
    while not (second / "pids").exists() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    started = [
        *psutil.Process(process.pid).children(recursive=True),
        *map(psutil.Process, map(int, (second / "pids").read_text().split())),
    ]
    begun = time.monotonic()
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    out, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 15  # 1 to 2 s, unless the machine is busy
    assert process.returncode == code
    assert errors == "1 of 2 notebooks are done\ninterrupted; what is finished is kept, run again to go on\n"
    assert out.split()[-5:-2] == ["skipped", second.name, "interrupted"]
    gone, alive = psutil.wait_procs(started, timeout=15)
    assert not alive and len(gone) >= 3
    assert {p.name for p in second.iterdir()} == {"config.yaml", "pids", *RUN_NOTEBOOKS}
    assert mv.status_table(tmp_path)["train"].tolist() == ["complete", "interrupted"]
    record = nbformat.read(second / TRAIN, as_version=4)
    errors = [
        (cell.source, output.ename)
        for cell in record.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert errors == [(BUSY, "KeyboardInterrupt")]
    record.cells = [cell for cell in record.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    record.cells[1].source = whole
    nbformat.write(record, second / TRAIN)
    write_yaml(tmp_path / "config.yaml", tiny(QUICK))
    outcomes = run_pipeline(tmp_path, stages=["train"], progress=False)
    assert [o.outcome for o in outcomes] == ["skipped", "done"]
