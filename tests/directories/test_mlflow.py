"""Trainings that real MLflow follows: a database, a server on this machine, and one that is down or dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from directory_cases import config, interrupted, prediction, samples, trained

from minima_volume.config.tracking import absolute
from minima_volume.directories.directory import Directory
from minima_volume.directories.embed import predict_directory
from minima_volume.directories.train import train_directory
from minima_volume.errors import DataError
from minima_volume.files.atomic import read_pt
from minima_volume.tracking.journal import Journal
from minima_volume.tracking.sync import find_journals, sync_all

pytest.importorskip("mlflow", reason="the extra mlflow is not installed (365 MB, which CI leaves out)")

EXPERIMENT = "tests"
MORE = 10.0  # seconds that a server that is down may cost a training


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    np.save("x.npy", samples())


def section(uri: str | None = None) -> dict:
    return {"mlflow": {"tracking_uri": uri, "experiment_name": EXPERIMENT}}


def runs(uri: str) -> list:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=absolute(uri))
    found = client.get_experiment_by_name(EXPERIMENT)
    return [] if found is None else client.search_runs([found.experiment_id])


def series(uri: str, run_id: str, metric: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    return [(m.step, m.value) for m in MlflowClient(tracking_uri=absolute(uri)).get_metric_history(run_id, metric)]


def files(uri: str, run_id: str) -> list[str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=absolute(uri))
    return sorted(
        inner.path
        for entry in client.list_artifacts(run_id)
        for inner in (client.list_artifacts(run_id, entry.path) if entry.is_dir else [entry])
    )


def holds(uri: str, directory: Directory, status: str = "FINISHED") -> bool:
    """One run, which knows every epoch of the log once."""
    [run] = runs(uri)
    assert run.info.status == status and run.info.run_name == directory.folder.name
    for metric, values in directory.history().items():
        told = series(uri, run.info.run_id, metric)
        assert [step for step, _ in told] == list(values)
        assert [value for _, value in told] == pytest.approx(list(values.values()), rel=1e-5)
    assert run.data.params["model.params.latent_dim"] == "2"
    return files(uri, run.info.run_id) == ["checkpoints/best_model.pt", "config.yaml"]


@contextmanager
def server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A tracking server on loopback, of this test's own."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "./server_files"]
    with Path("server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if process.poll() is not None:
                raise RuntimeError(Path("server.log").read_text())
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_database_by_default():
    """mlflow.db in the working directory; metrics of predictions follow; the checkpoint knows its run; a training in place is another run."""
    directory, uri = trained(section()), "sqlite:///mlflow.db"
    assert holds(uri, directory)
    [run] = runs(uri)
    assert read_pt(directory.checkpoint("best"))["mlflow"]["run_id"] == run.info.run_id
    test = {"data_path": "x.npy:test", "loader_class": "EmbeddingDataLoader", "metrics": {"compute": True}}
    predict_directory(prediction(test=test), say=lambda line: None)
    assert len(series(uri, run.info.run_id, "test_loss")) == 1
    assert [o.text for o in sync_all(find_journals(Path("runs")))] == ["nothing new"]
    train_directory(directory.config(), say=lambda line: None)
    assert len(runs(uri)) == 2


def test_an_interrupted_training_and_one_that_diverges():
    """KILLED, then the same run goes on and is FINISHED, every epoch once; a training that raises is FAILED."""
    uri = "sqlite:///mlflow.db"
    interrupted(section())
    [outcome] = sync_all(find_journals(Path("runs")))
    assert not outcome.failed and runs(uri)[0].info.status == "KILLED"
    directory = trained(section() | {"experiment.on_exists": "resume"})
    assert holds(uri, directory)
    with pytest.raises(DataError, match="diverged"):
        trained(section() | {"experiment.name": "b", "train.optimizer_config.learning_rate": 1e30})
    assert {run.info.run_name: run.info.status for run in runs(uri)} == {"a": "FINISHED", "b": "FAILED"}


def test_a_server_and_one_that_dies_midway(monkeypatch):
    """Training takes at most ten seconds longer; what was not sent is sent later, and a second time nothing is."""
    from minima_volume.directories import train as training

    port, real = free_port(), training.save_checkpoint
    uri = f"http://127.0.0.1:{port}"
    with server(port) as process:
        directory = trained(section(uri))
        sync_all(find_journals(directory.folder))  # a machine that is busy may have left something over
        assert holds(uri, directory)
        alive = directory.folder.rename(directory.folder.with_name("alive"))
        plain = timed(lambda: trained({"experiment.name": "plain", "train.epochs": 30}))

        def dying(path, parts, progress, more):
            if progress.epoch == 15:
                end(process)
            return real(path, parts, progress, more)

        monkeypatch.setattr(training, "save_checkpoint", dying)
        took = timed(lambda: trained(section(uri) | {"train.epochs": 30}))
        assert took < plain + MORE + 5  # the server's own end, and this machine's noise
    log = directory.log_file.read_text(encoding="utf-8")
    assert "finished after epoch 30" in log and f"track sync {directory.folder}" in log
    [outcome] = sync_all([Journal(directory.folder)])
    assert outcome.failed and "cannot be reached" in outcome.text
    with server(port):
        first, again = (sync_all([Journal(directory.folder)])[0] for _ in range(2))
        assert not first.failed and again.text == "nothing new"
        known = {run.info.run_id: run for run in runs(uri)}
        run_id = Journal(directory.folder).told().run_id
        assert len(known) == 2 and known[run_id].info.status == "FINISHED"
        assert [step for step, _ in series(uri, run_id, "val_loss")] == list(range(1, 31))
    assert Directory(alive).finished


def timed(work) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["refuses", "silent"])
def test_a_server_that_is_dead_at_the_start(kind):
    """Nobody listens, or somebody who never answers: the training is as it was, and nothing is lost."""
    plain = timed(lambda: trained({"experiment.name": "plain"}))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if kind == "silent":
            listener.listen(8)
        took = timed(lambda: trained(section(uri)))
    assert took < plain + MORE + 5
    directory = Directory(Path("runs/a"))
    assert directory.finished and Journal(directory.folder).told().sent == 0
    assert "Nothing is lost" in directory.log_file.read_text(encoding="utf-8")
    assert read_pt(directory.checkpoint("best"))["mlflow"]["run_id"] is None


def test_a_training_that_is_killed_outright():
    """kill -9: the process that sends closes the run."""
    code = (
        "import os, signal\nfrom directory_cases import trained\nfrom minima_volume.directories import train\nreal = train.save_checkpoint\n"
        "def stop(path, parts, progress, more):\n    os.kill(os.getpid(), signal.SIGKILL) if progress.epoch == 3 else real(path, parts, progress)\n"
        f"train.save_checkpoint = stop\ntrained({section()!r})"
    )
    path = os.pathsep.join([*sys.path])
    result = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    journal = Journal(Path("runs/a"))
    until = time.monotonic() + 60
    while (journal.told().open or journal.told().pending) and time.monotonic() < until:
        time.sleep(0.1)
    assert [run.info.status for run in runs("sqlite:///mlflow.db")] == ["KILLED"]
    config_again = config(section() | {"experiment.on_exists": "resume"})
    assert holds("sqlite:///mlflow.db", Directory(train_directory(config_again, say=lambda line: None)))
