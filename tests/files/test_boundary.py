"""Nothing is written or removed through a link, out of a folder, or into one that is gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import ALL_STAGES, make_run, tree

import minima_volume as mv
from minima_volume.errors import BoundaryError, ConfigError, MinimaVolumeError
from minima_volume.files.atomic import write_json, write_text
from minima_volume.files.boundary import entered, remove_tree
from minima_volume.files.lock import LOCK_NAME, locked
from minima_volume.runs.clean import clean
from minima_volume.runs.states import run_stage
from minima_volume.runs.update import update_runs


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside, with a file in it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    write_text(folder / "precious", "precious")
    return folder


def test_a_linked_file_is_neither_followed_nor_replaced(tmp_path, victim):
    """The link stays a link, its target stays as it was; a dangling one makes no file."""
    for name in ("precious", "not there"):
        link = tmp_path / "results.json"
        link.symlink_to(victim / name)
        with pytest.raises(BoundaryError, match=r"results\.json is a link to .*, and links are not written through"):
            write_json(link, {})
        assert link.is_symlink() and tree(victim) == {"precious": b"precious"}
        link.unlink()


@pytest.mark.parametrize("name", ["data_0", "data_0/loss_0.5"])
def test_no_folder_on_the_way_is_a_link(name, tmp_path, victim):
    """At any depth below the folder with the config.yaml; that one itself may be reached through a link."""
    run = tmp_path / "run"
    write_text(run / "config.yaml", "x: 1")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(victim, target_is_directory=True)
    with pytest.raises(BoundaryError, match=f"{name} is a link to .*put a folder in its place"):
        write_json(run / name / "deep" / "results.json", {})
    with pytest.raises(BoundaryError, match="is a link"):
        remove_tree(run / name)
    assert tree(victim) == {"precious": b"precious"}
    (tmp_path / "short").symlink_to(run, target_is_directory=True)
    assert write_json(tmp_path / "short" / "fine.json", {}).is_file()


def test_what_is_no_plain_file_is_not_replaced(tmp_path):
    """A folder, a named pipe."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(BoundaryError, match=f"{name} is not a plain file"):
            write_text(tmp_path / name, "")


def test_a_folder_that_is_removed_does_not_come_back(tmp_path):
    """Nor is one that was put in its place written into."""
    run = tmp_path / "run"
    run.mkdir()
    with entered(run):
        write_text(run / "a" / "b", "")
        run.rename(tmp_path / "away")
        with pytest.raises(
            BoundaryError, match="run was removed or replaced while it was worked on; c was not written"
        ):
            write_text(run / "a" / "c", "")
        assert not run.exists()
        run.mkdir()
        with pytest.raises(BoundaryError, match="removed or replaced"):
            write_text(run / "a" / "c", "")
    assert write_text(run / "a" / "c", "").is_file()  # for somebody else it is a folder like any other


def test_a_run_that_is_removed_during_a_stage_stays_removed(copied, monkeypatch):
    """A stage that was at work says so and writes nothing."""
    from minima_volume.stages import cutoffs as stage

    def removed(*arguments):
        shutil.rmtree(copied.folder, ignore_errors=True)
        return prefix_losses(*arguments)

    prefix_losses = stage.prefix_losses
    monkeypatch.setattr(stage, "prefix_losses", removed)
    with pytest.raises(BoundaryError, match="removed or replaced"):
        mv.cutoffs(copied)
    assert not copied.folder.exists()


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "folder", "pipe"])
def test_a_strange_lock_is_not_written_to(kind, tmp_path, victim):
    """Neither by the lock itself nor by what takes it, and nothing waits for a pipe."""
    run = tmp_path / "run"
    run.mkdir()
    {
        "link": lambda: (run / LOCK_NAME).symlink_to(victim / "precious"),
        "dangling": lambda: (run / LOCK_NAME).symlink_to(victim / "new"),
        "hard link": lambda: (run / LOCK_NAME).hardlink_to(victim / "precious"),
        "folder": lambda: (run / LOCK_NAME).mkdir(),
        "pipe": lambda: os.mkfifo(run / LOCK_NAME),
    }[kind]()
    with pytest.raises(BoundaryError, match=r"\.lock is a link or no plain file"):
        locked(run).__enter__()
    assert tree(victim) == {"precious": b"precious"}


def test_every_stage_and_command_refuses_a_linked_folder_of_a_run(copied, victim):
    """SplittingStage by stage: one message that names the link, and nothing outside changes."""
    shutil.rmtree(copied.models)
    copied.models.symlink_to(victim, target_is_directory=True)
    with pytest.raises(BoundaryError, match="models_and_data is a link"):
        run_stage(copied, "train", progress=False)
    clean(copied.folder, "models")
    assert tree(victim) == {"precious": b"precious"}
    copied.models.unlink()
    run_stage(copied, "train", progress=False)
    copied.shards.symlink_to(victim, target_is_directory=True)
    for stage in ALL_STAGES[1:]:
        for path in (copied.landscape(0), copied.cutoffs_file.parent):
            if not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
                path.symlink_to(victim, target_is_directory=True)
        if stage == "accuracy":
            copied.accuracies_file.unlink(missing_ok=True)
            copied.accuracies_file.symlink_to(victim / "precious")
        with pytest.raises(MinimaVolumeError):
            run_stage(copied, stage, progress=False)
        assert tree(victim) == {"precious": b"precious"}


def test_a_linked_run_folder_is_not_written_through(tmp_path, cli):
    """By `new`, `new --overwrite`, `update` and `pipeline`; `run` takes the folder that its user names."""
    real = make_run(tmp_path / "elsewhere" / "model_0_data_10").folder
    condition = tmp_path / "condition"
    write_text(condition / "config.yaml", (real / "config.yaml").read_text(encoding="utf-8"))
    (condition / real.name).symlink_to(real, target_is_directory=True)
    before = tree(real)
    with pytest.raises(ConfigError, match="is a link and is not written through"):
        mv.new_runs(condition, [(0, 10)], overwrite=True, force=True)
    code, _, err = cli("pipeline", condition, "--quiet")
    assert code == 1 and "model_0_data_10 is a link to" in err
    text = (condition / "config.yaml").read_text(encoding="utf-8").replace("epochs: 30", "epochs: 31")
    write_text(condition / "config.yaml", text)
    (update,) = update_runs(condition, keys=["training.epochs"], dry_run=False)
    assert "links are not written through" in update.refused
    (real / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="is a link and is not written through"):
        mv.new_runs(condition, [(0, 10)])
    assert tree(real) == {}
    assert before


def test_what_has_computed_something_is_not_overwritten(copied):
    """Also if its models are gone: landscapes or executed notebooks are enough."""
    condition = copied.folder.parent
    write_text(condition / "config.yaml", (copied.folder / "config.yaml").read_text(encoding="utf-8"))
    text = (condition / "config.yaml").read_text(encoding="utf-8").replace("model: 0", "model: null")
    write_text(condition / "config.yaml", text)
    shutil.rmtree(copied.models)
    with pytest.raises(ConfigError, match=r"has computed something \(data_0, "):
        mv.new_runs(condition, [(0, 10)], overwrite=True, force=True)
