"""The pipeline when things go wrong: the rest finishes, nothing complete is lost, table and exit code say what happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill
import pytest
from helpers import tiny, tree

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.files.lock import LOCK_NAME, Lock
from minima_volume.files.verify import read_notebook
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.create import notebook_source
from minima_volume.runs.execute import Outcome, execute_stage
from minima_volume.runs.pipeline import PipelineError, PipelineInterrupted, raise_failures, run_pipeline
from minima_volume.runs.progress import Progress
from minima_volume.runs.states import run_stage, stage_states
from minima_volume.runs.status import BAD, describe_status, executed, status
from minima_volume.stages.run import RUN_NOTEBOOKS, STAGES, TRAIN

QUICK = {
    "data.levels": [0],
    "perturbation.num_directions": 2,
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": None,
    "training.epochs": 20,
}
SKIPPED, NOT_REACHED = ["skipped"] * 5, ["not reached"] * 4


@pytest.fixture
def condition(tmp_path):
    """Three runs."""
    write_yaml(tmp_path / "config.yaml", tiny(QUICK))
    mv.new_runs(tmp_path, mv.seed_pairs(3))
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Notebooks are executed by running their stages here; `before` is called with the run folder and the stage first."""
    hooks = []

    def execute(source, target, **options):
        folder, stage = Path(source).parent, next(key for key, name in STAGES.items() if name == Path(source).name)
        for hook in hooks:
            hook(folder, stage)
        run_stage(mv.open_run(folder, stage), stage, progress=False)
        shutil.copy(source, target)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return hooks.append


def outcomes_of(condition, **options):
    found = run_pipeline(condition, jobs=1, progress=False, **options)
    return {run.name: [o.outcome for o in found if o.run == run.name] for run in mv.find_runs(condition)}, found


def test_a_run_folder_deleted_while_it_is_worked_on(condition, in_process):
    """It fails, says so, and comes back in no form; the others finish."""

    def delete(folder, stage):
        if (folder.name, stage) == ("model_1_data_11", "perturb"):
            shutil.rmtree(folder)

    in_process(delete)
    found = run_pipeline(condition, jobs=1, progress=False)
    by_run = {name: [o for o in found if o.run == name] for name in dict.fromkeys(o.run for o in found)}
    assert [o.outcome for o in by_run["model_1_data_11"]] == ["done", "failed", *["not reached"] * 3]
    assert "does not exist" in by_run["model_1_data_11"][1].error
    assert all(o.outcome == "done" for name in ("model_0_data_10", "model_2_data_12") for o in by_run[name])
    assert not (condition / "model_1_data_11").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_and_a_read_only_folder(code, condition, in_process, monkeypatch):
    """The sweep of one run cannot be written: its models stay, no half file; with space again it goes on from there."""
    replace = Path.replace
    full = [True]

    def fail(self, target):
        if full and "model_0" in str(target) and Path(target).suffix == ".npz":
            raise OSError(code, os.strerror(code))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    in_process(lambda folder, stage: None)
    found, outcomes = outcomes_of(condition)
    assert found["model_0_data_10"] == ["done", "failed", *["not reached"] * 3]
    assert found["model_2_data_12"] == ["done"] * 5
    with pytest.raises(PipelineError, match=rf"1 of 3 runs failed: model_0_data_10, .*{os.strerror(code)}"):
        raise_failures(outcomes)
    left = {path.name for path in (condition / "model_0_data_10").rglob("*") if path.is_file()}
    assert left == {"config.yaml", *RUN_NOTEBOOKS, "dataset.pt", "model_additional_0.pt"}
    full.clear()
    found, _ = outcomes_of(condition)
    assert found["model_0_data_10"] == ["skipped", *["done"] * 4] and found["model_1_data_11"] == SKIPPED


@pytest.mark.parametrize("files", ["missing", "whole"])
def test_a_disk_that_fills_up_while_a_notebook_is_written(files, condition, in_process, monkeypatch):
    """What a user wrote into it stays, and with space again it is executed, also where its files were whole already."""
    run = condition / "model_0_data_10"
    notebook, execute = run / STAGES["perturb"], papermill.execute_notebook
    notebook.write_text(notebook.read_text().replace("# ", "# mine: ", 1))
    written = notebook.read_bytes()

    def fill(source, target, **options):
        if Path(source) == notebook:
            if files == "whole":
                run_stage(mv.open_run(run, "perturb"), "perturb", progress=False)
            Path(target).write_bytes(written[:2000])
            raise OSError(errno.ENOSPC, "No space left on device")
        execute(source, target, **options)

    monkeypatch.setattr(papermill, "execute_notebook", fill)
    found, outcomes = outcomes_of(condition)
    assert found[run.name] == ["done", "failed", *["not reached"] * 3]
    assert next(o.error for o in outcomes if o.outcome == "failed") == "OSError: [Errno 28] No space left on device"
    assert notebook.read_bytes() == written
    monkeypatch.setattr(papermill, "execute_notebook", execute)
    found, _ = outcomes_of(condition)
    assert found[run.name] == ["skipped", *["done"] * 4] and not list(run.glob(".*"))


def test_a_notebook_that_cannot_be_read(condition, in_process):
    """The message says what to do with it."""
    (condition / "model_0_data_10" / STAGES["train"]).write_text('{"cells": [')
    _, outcomes = outcomes_of(condition)
    assert outcomes[0].error == f"{TRAIN} is no notebook, or damaged: replace it by another run's"


def test_a_run_that_another_pipeline_works_on(condition, in_process):
    """It is left alone and named with the owner; in the status table, too."""
    in_process(lambda folder, stage: None)
    lock = Lock("x", "far-away", 7, 0.0, "ada", time.time() - 200)
    (condition / "model_1_data_11" / LOCK_NAME).write_text(json.dumps(asdict(lock)), encoding="utf-8")
    before = tree(condition / "model_1_data_11")
    found, outcomes = outcomes_of(condition)
    assert found["model_1_data_11"] == ["failed", *NOT_REACHED] and tree(condition / "model_1_data_11") == before
    assert "in use by process 7 of ada on far-away, for 3 min" in next(o.error for o in outcomes if o.error)
    assert "model_1_data_11: in use by process 7" in describe_status(status(condition))
    assert not (condition / "model_0_data_10" / LOCK_NAME).exists()


def test_two_pipelines_in_two_processes(condition, in_process):
    """The second one finds the first one's lock in every run that is being worked on."""
    seen = []

    def second(folder, stage):
        if stage == "train" and not seen:
            command = [
                sys.executable,
                "-m",
                "minima_volume.cli",
                "pipeline",
                str(condition),
                "--stage",
                "train",
                "-q",
            ]
            environment = {k: v for k, v in os.environ.items() if k != "MINIMA_VOLUME_OWNER"}
            fake = "import papermill; papermill.execute_notebook = None; from minima_volume.cli.app import main; main()"
            command = [sys.executable, "-c", fake, *command[3:]]
            for run in mv.find_runs(condition)[1:]:
                shutil.move(run, condition / f"aside_{run.name}")
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            seen.append((done.returncode, done.stderr))

    in_process(second)
    found = run_pipeline(condition, mv.find_runs(condition)[:1], jobs=1, stages=["train"], progress=False)
    assert [o.outcome for o in found] == ["done"]
    assert seen[0][0] == 1 and f"model_0_data_10 is in use by process {os.getpid()}" in seen[0][1], seen


def test_some_stages(condition, in_process):
    """Only those asked for, in their order; what they need and is missing is named."""
    in_process(lambda folder, stage: None)
    found, _ = outcomes_of(condition, stages=["perturb", "train"])
    assert set(map(tuple, found.values())) == {("done", "done")}
    assert {stage: s.name for stage, s in mv.stage_states(condition / "model_0_data_10").items()} == {
        "train": "complete",
        "perturb": "complete",
        **dict.fromkeys(("volume", "cutoff", "accuracy"), "missing"),
    }
    with pytest.raises(ConfigError, match="stage 'walk' is not known; allowed: train, perturb"):
        run_pipeline(condition, stages=["walk"], progress=False)


# ---- what is shown


def test_the_status_table(condition, in_process):
    """State, what is done, time and the error's last line; an error that was mended since is not shown."""
    in_process(lambda folder, stage: None)
    run_pipeline(condition, mv.find_runs(condition)[:1], jobs=1, progress=False)
    run = condition / "model_1_data_11"
    notebook = nbformat.reads(notebook_source(TRAIN), as_version=4)
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("error", ename="DataError", evalue="no samples\nmore", traceback=["x"])]
    notebook.metadata["papermill"] = {"duration": 200.0}
    nbformat.write(notebook, run / TRAIN)
    assert executed(read_notebook(run / TRAIN)) == (200.0, "DataError: no samples")
    table = mv.status_table(condition)
    assert list(table.columns) == [*STAGES, "done", "time", "working", "error"]
    assert table.loc["model_0_data_10", list(STAGES)].tolist() == ["complete"] * 5
    row = table.loc["model_1_data_11"]
    assert (row["train"], row["error"], row["time"]) == ("failed", "DataError: no samples", "3 min")
    text = describe_status(status(condition))
    assert "model_1_data_11, train: DataError: no samples" in text
    run_stage(mv.open_run(run, "train"), "train", progress=False)
    assert mv.status_table(condition).loc["model_1_data_11", ["train", "error"]].tolist() == ["complete", ""]


def test_shards_of_an_unfinished_sweep_are_counted(condition, in_process):
    """Directions that are walked but not yet merged."""
    folder = condition / "model_0_data_10"
    run = mv.open_run(folder, "train")
    mv.train_models(run, progress=False)
    (run.shards / "level_0").mkdir(parents=True)
    (run.shards / "level_0" / "directions_1_1.npz").write_bytes(b"")
    assert mv.status_table(folder).loc["model_0_data_10", "done"] == "1 of 2 directions"


def test_shards_of_a_finished_minimum_are_not_counted(copied):
    """A process killed between writing a minimum's files and removing its shards leaves both."""
    copied.sweep_file(0, 40).unlink()
    for minimum in (0, 40):
        (copied.shards / f"level_{minimum}").mkdir(parents=True)
        (copied.shards / f"level_{minimum}" / "directions_1_5.npz").write_bytes(b"")
    assert stage_states(copied.folder)["perturb"].reason == "29 of 36 directions"


def test_a_notebook_that_a_killed_pipeline_left_half_executed(copied, monkeypatch):
    """Its files are there, but the record is not: it is executed again."""
    executed = []
    monkeypatch.setattr("minima_volume.runs.execute._execute", lambda *arguments: executed.append(arguments[1]) or "")
    assert execute_stage(copied.folder, "cutoff").outcome == "skipped"
    (copied.folder / ".cutoff.executing.ipynb").write_text("{}")
    assert execute_stage(copied.folder, "cutoff").outcome == "done" and executed == ["cutoff"]


def test_the_time_left_comes_from_what_was_executed():
    """No estimate before a notebook is done; skipped ones take no time."""
    bars = Progress(total=15, places=2, show=False)
    for _ in range(5):
        bars.end(0, Outcome("a", "train", "skipped"))
    assert bars.remaining() == ""
    bars.end(0, Outcome("b", "train", "done", 100.0))
    bars.end(1, Outcome("b", "perturb", "done", 300.0))
    assert bars.remaining() == "about 13 min left"  # 8 notebooks of 200 s in two places
    assert bars.left == 8


def test_a_log_gets_a_line_when_something_changed_and_half_a_minute_has_passed(monkeypatch, capsys):
    """No terminal: an hour of a notebook is no line, a hundred short ones are a line each half minute; the end is one."""
    now = [1000.0]
    monkeypatch.setattr("minima_volume.runs.progress.time.monotonic", lambda: now[0])

    def tick(bars, seconds):
        for _ in range(seconds):
            now[0] += 1
            bars.refresh()

    with Progress(total=102, places=1, show=True) as bars:
        bars.begin(0, "a", "train")
        tick(bars, 3600)
        for _ in range(100):
            bars.end(0, Outcome("a", "train", "done", 3.0))
            bars.begin(0, "a", "perturb")
            tick(bars, 3)
        bars.end(0, Outcome("a", "perturb", "failed", 3.0))
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "\r" not in err
    assert lines[0] == "pipeline: 0/102 notebooks | 0 s | a: train"
    assert lines[1] == "pipeline: 1/102 notebooks | 60 min | about 5 min left"
    assert lines[2] == "pipeline: 10/102 notebooks | 60 min | about 5 min left | a: perturb"
    assert lines[-1] == "pipeline: 101/102 notebooks | 65 min | about 3 s left" and len(lines) == 2 + 10 + 1
    with Progress(total=2, places=1, show=False) as bars:
        bars.begin(0, "a", "train")
        bars.end(0, Outcome("a", "train", "done", 3.0))
    assert capsys.readouterr() == ("", "")


def test_what_was_not_reached_is_not_counted(monkeypatch, capsys):
    """After a failure, and after an interruption, which the last line names."""
    with Progress(total=5, places=1, show=True) as bars:
        for stage, outcome in zip(STAGES, ("done", "failed", *["not reached"] * 3), strict=True):
            bars.end(0, Outcome("a", stage, outcome, 1.0))
    assert capsys.readouterr().err.splitlines()[-1] == "pipeline: 2/5 notebooks | 0 s"
    bars = Progress(total=5, places=1, show=True)
    bars.end(0, Outcome("a", "train", "skipped"))
    bars.begin(0, "a", "perturb")
    bars.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err.splitlines()[-1] == "pipeline interrupted: 1/5 notebooks | 0 s"
    assert bars.ended == 1


def test_an_interruption_keeps_what_is_done(condition, in_process, cli):
    """The outcomes say how far each run came; what is there stays, and the next pipeline goes on from it."""

    def interrupt(folder, stage):
        if (folder.name, stage) == ("model_1_data_11", "perturb") and not again:
            raise KeyboardInterrupt

    again = []
    in_process(interrupt)
    with pytest.raises(PipelineInterrupted, match="^6 of 15 notebooks are done$") as stop:
        run_pipeline(condition, jobs=1, progress=False)
    found = [o.outcome for o in stop.value.outcomes]
    assert found == ["done"] * 6 + ["not reached"] * 9
    assert not list(condition.rglob(LOCK_NAME))
    code, out, err = cli("pipeline", condition, "--jobs", 1, "--quiet")
    assert (
        code == 130 and err == "6 of 15 notebooks are done\ninterrupted; what is finished is kept, run again to go on\n"
    )
    assert out.split()[:6] == ["stage", "train", "perturb", "volume", "cutoff", "accuracy"]
    again.append(True)
    outcomes, _ = outcomes_of(condition)
    assert outcomes == {
        "model_0_data_10": SKIPPED,
        "model_1_data_11": ["skipped", *["done"] * 4],
        "model_2_data_12": ["done"] * 5,
    }


def test_the_status_after_an_interruption(condition):
    """By the record of the notebook, or without one by the copy that was being executed; while somebody works, not."""
    run = condition / "model_0_data_10"
    notebook = nbformat.read(run / TRAIN, as_version=4)
    error = nbformat.v4.new_output(
        "error", ename="KeyboardInterrupt", evalue="the pipeline was interrupted", traceback=[]
    )
    notebook.cells[1].outputs = [error]
    nbformat.write(notebook, run / TRAIN)
    (condition / "model_1_data_11" / ".train.executing.ipynb").write_text("{}", encoding="utf-8")
    (condition / "model_2_data_12" / ".train.executing.ipynb").write_text("{}", encoding="utf-8")
    lock = Lock("x", "far-away", 7, 0.0, "ada", time.time())
    (condition / "model_2_data_12" / LOCK_NAME).write_text(json.dumps(asdict(lock)), encoding="utf-8")
    table = mv.status_table(condition)
    assert table["train"].tolist() == ["interrupted", "interrupted", "missing"] and table["error"].tolist() == [""] * 3
    assert not {row.state for row in status(condition)} & set(BAD)
    assert describe_status(status(condition)).splitlines()[1].split()[:3] == [run.name, "interrupted", "missing"]


def test_a_kernel_that_is_interrupted_alone(condition, monkeypatch):
    """No failure, but the run is not whole: said so, with what to do."""
    monkeypatch.setattr("minima_volume.runs.execute._execute", lambda *_: "KeyboardInterrupt: ")
    outcomes = run_pipeline(condition, mv.find_runs(condition)[:1], jobs=1, progress=False)
    assert [o.outcome for o in outcomes] == ["interrupted", *NOT_REACHED]
    with pytest.raises(
        PipelineError, match=r"^1 of 1 runs were interrupted, run again to go on: model_0_data_10, 'Train"
    ):
        raise_failures(outcomes)


# a cell that starts a process of its own, says that it is there, and has hours to do
