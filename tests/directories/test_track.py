"""What a training tells a tracker, without MLflow: the journal is whole whatever becomes of the sending."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from directory_cases import interrupted, samples, trained
from fake_tracker import FakeServer

from minima_volume.directories import track
from minima_volume.directories.directory import Directory
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import read_pt
from minima_volume.tracking.journal import Journal
from minima_volume.tracking.send import send

DOWN = {"mlflow": {"tracking_uri": "http://127.0.0.1:1", "experiment_name": "e"}}  # nobody listens there


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


def test_without_mlflow_nothing_is_touched(monkeypatch):
    """The way out is named before the directory is made."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else real(name, *rest)
    )
    with pytest.raises(ConfigError, match=r"pip install 'minima_volume\[mlflow\]'"):
        trained(DOWN)
    assert not Path("runs").exists()


def test_an_address_of_the_environment_is_checked(monkeypatch):
    """A folder of files is refused there, too."""
    monkeypatch.setattr(track, "require_mlflow", lambda: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is 'file:./mlruns'"):
        trained({"mlflow": {"experiment_name": "e"}})


@pytest.mark.parametrize("logs", ["kept", "removed"])
def test_a_training_whose_server_is_down_and_that_is_interrupted(monkeypatch, logs):
    """It goes on as one run: every epoch once, files and status at the end; no password in the directory."""
    monkeypatch.setattr(track, "require_mlflow", lambda: None)
    interrupted(DOWN, epoch=3)
    first = Journal(Path("runs/a")).told()
    assert first.lines[-1]["status"] == "KILLED" and first.steps == {1, 2} and first.sent == 0
    if logs == "removed":
        shutil.rmtree("runs/a/logs")
    directory = trained(DOWN | {"experiment.on_exists": "resume"})
    journal, server = Journal(directory.folder), FakeServer()
    assert send(journal, server) == []
    [run] = server.runs.values()
    assert run["status"] == "FINISHED" and run["key"] == ("e", first.begin["key"])
    assert run["files"] == [("config.yaml", "."), ("best_model.pt", "checkpoints")]
    steps = [metric.step for metric in run["metrics"] if metric.name == "val_elbo"]
    assert steps == ([1, 2, 3] if logs == "kept" else [2, 3])  # what was removed cannot be told
    assert {read_pt(path)["mlflow"]["key"] for path in directory.saved} == {first.begin["key"]}
    assert "Nothing is lost" in directory.log_file.read_text(encoding="utf-8")


def test_a_password_of_the_environment_is_kept_nowhere(monkeypatch):
    """Neither in the journal nor in the log, which says that the server is down."""
    monkeypatch.setattr(track, "require_mlflow", lambda: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    directory: Directory = trained({"mlflow": {"experiment_name": "e"}})
    assert Journal(directory.folder).told().begin["uri"] is None
    texts = [path.read_bytes() for path in directory.folder.rglob("*") if path.is_file()]
    assert len(texts) > 3 and not any(b"secret" in text for text in texts)
