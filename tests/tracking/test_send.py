"""A journal reaches a tracker whole and once, whatever fails on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_tracker import Down, FakeServer

from minima_volume.tracking.journal import Journal
from minima_volume.tracking.send import send
from minima_volume.tracking.sync import find_journals, sync_all

URI = "https://mlflow.example.com"


def written(folder: Path) -> Journal:
    """A run that was interrupted once: 120 parameters, 400 epochs of 3 metrics, two files."""
    journal = Journal(folder)
    journal.begin("a", "some", URI, {f"p{i}": i for i in range(120)})
    for epoch in range(1, 401):
        if epoch == 200:
            journal.end("KILLED")
            journal.resume()
        journal.metrics(epoch, {"train_loss": 1 / epoch, "val_loss": 2 / epoch, "val_kl": float("nan")})
    for name in ("config.yaml", "checkpoints/best_model.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
        journal.artifact(name)
    journal.end("FINISHED")
    return journal


def complete(server: FakeServer) -> bool:
    """Whether the server knows all of it, once."""
    [run] = server.runs.values()
    numbers = [(m.name, m.step, m.value) for m in run["metrics"] if m.name != "val_kl"]
    assert run["params"] == {f"p{i}": i for i in range(120)} and run["status"] == "FINISHED" and run["name"] == "a"
    assert run["files"] == [("config.yaml", "."), ("best_model.pt", "checkpoints")]
    assert numbers == [row for e in range(1, 401) for row in (("train_loss", e, 1 / e), ("val_loss", e, 2 / e))]
    return sum(m.name == "val_kl" for m in run["metrics"]) == 400


@pytest.mark.parametrize("accepted", [False, True], ids=["not done", "done but not answered"])
@pytest.mark.parametrize("fails_at", range(11))
def test_whatever_call_fails_the_next_time_completes_it(tmp_path, fails_at, accepted):
    """Nothing is lost and nothing is there twice; a third time sends nothing."""
    journal, server = written(tmp_path), FakeServer(fails_at, accepted)
    with pytest.raises(Down):
        send(journal, server)
    send(journal, server)
    assert complete(server)
    before = server.calls
    assert send(journal, server) == [] and server.calls == before


def test_a_killed_writer_leaves_half_a_line(tmp_path):
    """It is skipped, and the next line begins anew; half a line at the end waits for its rest."""
    journal, server = Journal(tmp_path), FakeServer()
    journal.begin("a", "some", URI, {})
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + b'{"kind": "metrics", "st')
    assert journal.told().lines == journal.told().lines[:1]
    journal.metrics(2, {"train_loss": 1.0})
    send(journal, server)
    assert [m.step for m in server.runs["run0"]["metrics"]] == [2]


def test_sync_closes_what_was_killed_and_names_what_is_gone(tmp_path):
    """Every journal below a folder; a second time there is nothing new."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name)
    (tmp_path / "b" / "config.yaml").unlink()
    killed = Journal(tmp_path / "c")
    killed.begin("c", "some", None, {})
    server = FakeServer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", URI)
        first = sync_all(find_journals(tmp_path), {URI: server})
        again = sync_all(find_journals(tmp_path), {URI: server})
    assert [outcome.failed for outcome in first] == [False] * 3
    assert "gone since, not sent: config.yaml" in str(first[1]) and "gone" not in str(first[0])
    assert [run["status"] for run in server.runs.values()] == ["FINISHED", "FINISHED", "KILLED"]
    assert all(outcome.text == "nothing new" for outcome in again) and len(server.runs) == 3


def test_two_senders_at_once(tmp_path):
    """The second stands back, and says so."""
    journal = written(tmp_path)
    with journal.sending() as alone:
        assert alone
        [outcome] = sync_all([journal], {URI: FakeServer()})
    assert outcome.failed and "another process" in outcome.text


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What `sync` sets for MLflow is put back."""
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
