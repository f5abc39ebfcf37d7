"""Locks of run folders: owner and age, dead owners are taken over, others are explained."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import pytest
from helpers import tree

import minima_volume as mv
from minima_volume.errors import MissingStageError
from minima_volume.files.lock import LOCK_NAME, OWNER_VARIABLE, Lock, LockedError, _process, lock_of, locked, owner
from minima_volume.plots.run_figures import save_volume_figures
from minima_volume.runs.states import run_stage
from minima_volume.stages.run import STAGES

HOLD = "import sys,time; from pathlib import Path; from minima_volume.files.lock import locked\nwith locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def hold(folder, **environment):
    """Another process that holds the folder's lock."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_live_process_keeps_others_out_and_a_killed_one_does_not(tmp_path):
    """SIGKILL leaves the file; the next one takes it over and leaves nothing behind."""
    process = hold(tmp_path)
    try:
        with pytest.raises(
            LockedError, match=rf"in use by process {process.pid} of .* on {socket.gethostname()}, for \d+ s"
        ):
            locked(tmp_path).__enter__()
        assert lock_of(tmp_path).pid == process.pid
        with locked(tmp_path, lock_of(tmp_path).owner):  # on behalf of the one who holds it
            pass
        assert (tmp_path / LOCK_NAME).exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK_NAME).exists() and lock_of(tmp_path) is None
    with locked(tmp_path):
        assert lock_of(tmp_path).pid == os.getpid()
    assert not (tmp_path / LOCK_NAME).exists()


def test_half_written_files_of_killed_writers_go(tmp_path):
    """With the next one who takes the lock; a user's own files stay, and nothing goes while the lock is held."""
    killed = (
        "import os, signal, sys; from pathlib import Path; from minima_volume.files.atomic import write_atomic\n"
        "write_atomic(Path(sys.argv[1]), lambda file: os.kill(os.getpid(), signal.SIGKILL))"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "data_0" / "data_0.npz")], check=False)
    own = [tmp_path / name for name in (".notes.tmp", "x.0123abcd.tmp", ".a.0123abcd.txt")]
    for path in own:
        path.write_text("mine", encoding="utf-8")
    (left,) = (tmp_path / "data_0").iterdir()
    with locked(tmp_path):
        assert not left.exists()
        left.touch()
        with locked(tmp_path):  # a stage within a pipeline
            assert left.exists()
    assert all(path.exists() for path in own)


def test_a_process_with_the_same_id_is_another_one(tmp_path):
    """The boot and the ticks at its start tell them apart, not the clock: a live lock outlives a step of it."""
    me = _process(os.getpid())
    for gone in ({"ticks": me.ticks - 100}, {"boot": "an earlier one"}, {"pid": 2**22 + 1}):
        write(tmp_path, replace(me, owner="other", **gone))
        assert lock_of(tmp_path) is None
        with locked(tmp_path):
            pass
    for live in ({}, {"started": me.started - 1000}, {"started": me.started + 5}, {"namespace": "of a container"}):
        write(tmp_path, replace(me, owner="other", **live))
        with pytest.raises(LockedError):
            locked(tmp_path).__enter__()


def test_a_lock_of_an_earlier_version_is_known_by_its_start(tmp_path):
    """It has no boot and no ticks."""
    old = replace(_process(os.getpid()), owner="other", boot="", ticks=0, namespace="")
    write(tmp_path, old)
    with pytest.raises(LockedError):
        locked(tmp_path).__enter__()
    write(tmp_path, replace(old, started=old.started - 1000))
    with locked(tmp_path):
        pass


def test_of_another_host_nothing_is_known(tmp_path):
    """Not taken over: who, where, how long, and what to delete."""
    write(tmp_path, Lock("x", "far-away", 1, 0.0, "ada", 0.0))
    with pytest.raises(LockedError) as error:
        locked(tmp_path).__enter__()
    message = str(error.value)
    assert "process 1 of ada on far-away, for " in message and f"delete {tmp_path / LOCK_NAME}" in message


def test_kernels_work_under_the_lock_of_their_pipeline(tmp_path):
    """Let in by the variable, and the lock stays the pipeline's."""
    with locked(tmp_path):
        child = hold(tmp_path, **{OWNER_VARIABLE: owner()})
        child.kill()
        child.wait()
        assert lock_of(tmp_path).pid == os.getpid()
    assert not list(tmp_path.iterdir())


ODD = Lock("x", "h", 1, 0.0, "ada", 0.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        json.dumps({"pid": 3}),
        "[]",
        "3",
        "[" * 4000,
        "\x00" * 300,
        *(
            json.dumps(asdict(ODD) | {key: value})
            for key, value in [
                ("pid", "1"), ("pid", -1), ("pid", 2**70), ("pid", True), ("host", 3), ("started", "x"), ("since", None),
                ("ticks", 1.5), ("owner", []), ("more", 1),
            ]
        ),
        json.dumps(asdict(ODD)).replace('"since": 0.0', '"since": NaN'),
    ],
)  # fmt: skip
def test_an_unreadable_lock_is_free(content, tmp_path):
    """As a full disk leaves it, or a hand that wrote something else: no traceback, and nobody is kept out."""
    (tmp_path / LOCK_NAME).write_text(content, encoding="utf-8")
    assert lock_of(tmp_path) is None
    with locked(tmp_path):
        assert lock_of(tmp_path) is not None


def test_of_many_who_find_a_stale_lock_one_takes_it(tmp_path):
    """Sixteen at once, each an owner of its own."""
    write(tmp_path, Lock("gone", socket.gethostname(), 2**22 + 1, 0.0, "ada", 0.0))
    inside, most, refused, gate = [], [], [], threading.Barrier(16)

    def take(name):
        gate.wait()
        try:
            with locked(tmp_path, name):
                inside.append(name)
                most.append(len(inside))
                gate.wait(timeout=20)  # until all have tried
                inside.remove(name)
        except LockedError:
            refused.append(name)
            gate.wait(timeout=20)

    threads = [threading.Thread(target=take, args=(f"owner {i}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and len(refused) == 15


def test_a_folder_that_is_gone_or_cannot_be_written(tmp_path, monkeypatch):
    """One error that names it; a folder deleted while it was locked is no error."""
    with pytest.raises(MissingStageError, match="nowhere cannot be written to: No such file"):
        locked(tmp_path / "nowhere").__enter__()
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        (folder / LOCK_NAME).unlink()
        folder.rmdir()


def test_a_sweep_is_refused_while_another_process_works_on_the_run(copied):
    """And nothing changes."""
    write(copied.folder, Lock("x", "far-away", 1, 0.0, "ada", 0.0))
    copied.sweep_file(0, 0).unlink()
    with pytest.raises(LockedError, match="model_0_data_10 is in use by process 1 of ada on far-away"):
        mv.sweep(copied, progress=False)
    assert not copied.sweep_file(0, 0).exists()


@pytest.mark.parametrize("stage", [*STAGES, "figures", "views", "config"])
def test_everything_that_writes_takes_the_lock(stage, copied, cli):
    """Stages one by one, as notebooks call them, figures, views and the resolved config.yaml: refused, and nothing changes."""
    write(copied.folder, Lock("x", "far-away", 1, 0.0, "ada", 0.0))
    shutil.rmtree(copied.output / "cutoffs")
    before = tree(copied.folder)
    work = {
        "figures": lambda: save_volume_figures(copied, []),
        "views": lambda: mv.views_table(copied, progress=False),
        "config": lambda: mv.open_run(copied.folder, "train", {"perturbation.memory_gib": 1.5}),
    }.get(stage, lambda: run_stage(copied, stage, progress=False))
    with pytest.raises(LockedError, match="in use by process 1 of ada on far-away"):
        work()
    code, _, err = cli("run", copied.folder, *(["--stage", stage] if stage in STAGES else []), "--quiet")
    assert code == 1 and "in use by process 1 of ada" in err and err.count("\n") == 1
    assert tree(copied.folder) == before


def write(folder, lock):
    (folder / LOCK_NAME).write_text(json.dumps(asdict(lock)), encoding="utf-8")


@pytest.mark.parametrize("written", [None, 0, 10])
def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch, written):
    """Whether the system says so, or writes a part; the folder can be taken as soon as there is room."""

    def full(descriptor, content, place):
        if written is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[:written], place)

    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(MissingStageError, match="cannot be written to: No space left on device"):
            locked(tmp_path).__enter__()
    assert tree(tmp_path) == {}
    with locked(tmp_path):
        assert lock_of(tmp_path) is not None
