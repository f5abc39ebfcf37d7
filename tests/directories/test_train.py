"""A directory holds what its strategy says, goes on to the bit after being killed anywhere, and stops at NaN."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from directory_cases import config, content, files, same_checkpoints, samples, trained

from minima_volume.config.directory import load_train_config
from minima_volume.directories import train as training
from minima_volume.directories.directory import Directory
from minima_volume.directories.train import train_directory
from minima_volume.errors import ConfigError, DataError, MissingStageError
from minima_volume.files.lock import LockedError, locked
from minima_volume.files.yaml import read_yaml, write_yaml

KEYS = ["config", "epoch", "metric_value", "model_state_dict", "optimizer_state_dict", "random_state"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    return tmp_path


class Killed(BaseException):
    """A process ends at once: nothing in the package catches this."""


def killed_at(operation: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """End before the n-th change of the file system that training makes; the count of them."""
    count = [0]

    def counted(function):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == operation:
                raise Killed
            return function(*args, **kwargs)

        return call

    for owner, name in ((Path, "replace"), (Path, "rename"), (Path, "mkdir"), (shutil, "rmtree"), (Directory, "log")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return count


@pytest.mark.parametrize(
    ("strategy", "saved"),
    [
        ("best", ["best_model.pt"]),
        ("last", ["last_model.pt"]),
        ("all", ["best_model.pt", "epoch_001.pt", "epoch_002.pt", "epoch_003.pt", "last_model.pt"]),
    ],
)
def test_a_finished_directory_holds_exactly_these_files(strategy, saved):
    """Config, log, the strategy's checkpoints; no hidden state, no lock. Checkpoints have the named keys and load with weights_only."""
    directory = trained({"checkpoint.save_strategy": strategy})
    assert files(directory.folder) == sorted(
        ["config.yaml", "logs/training.log", *(f"checkpoints/{name}" for name in saved)]
    )
    for path in directory.saved:
        held = torch.load(path, weights_only=True)
        assert sorted(held) == KEYS and held["config"]["train"]["epochs"] == 3
        assert set(held["random_state"]) == {"generators", "torch"}
    last = torch.load(directory.saved[-1], weights_only=True)
    history = directory.history()
    assert list(history["train_loss"]) == [1, 2, 3]
    assert history["val_loss"][last["epoch"]] == pytest.approx(last["metric_value"], rel=1e-5)
    best = min(history["val_loss"], key=history["val_loss"].__getitem__)
    if strategy != "last":
        assert torch.load(directory.checkpoint("best"), weights_only=True)["epoch"] == best
    assert directory.finished and directory.config().experiment.name == "a"


def test_the_optimiser_in_the_best_checkpoint_is_that_of_its_epoch():
    """Not of a later one."""
    directory = trained({"train.optimizer_config.learning_rate": 0.3, "train.epochs": 6})
    best = torch.load(directory.checkpoint("best"), weights_only=True)
    steps = {int(state["step"]) for state in best["optimizer_state_dict"]["state"].values()}
    assert steps == {best["epoch"] * 5}


@pytest.mark.parametrize("strategy", ["best", "last", "all"])
def test_a_training_killed_anywhere_resumes_to_the_bit(strategy, monkeypatch):
    """Before each of its changes to the file system; afterwards the same checkpoints, and the same history in the log."""
    overrides = {"checkpoint.save_strategy": strategy, "experiment.on_exists": "resume"}
    whole = trained({**overrides, "experiment.output_dir": "whole"})
    for operation in range(1, 100):
        shutil.rmtree("runs", ignore_errors=True)
        with monkeypatch.context() as patch:
            count = killed_at(operation, patch)
            try:
                trained(overrides)
            except Killed:
                assert count[0] == operation
            else:
                break
        again = trained(overrides)
        assert same_checkpoints(again, whole), operation
        assert again.history() == whole.history() and files(again.folder) == files(whole.folder)
    assert operation > 15


def test_an_old_run_survives_until_the_new_one_has_its_first_checkpoint(monkeypatch):
    """Killed anywhere while it is overwritten: what is left is the whole old run or the new one with a checkpoint, never a mixture."""
    overrides = {"train.epochs": 2, "val.frequency": 2, "checkpoint.save_strategy": "best"}
    outcomes = []
    for operation in range(1, 100):
        shutil.rmtree("runs", ignore_errors=True)
        old = trained({"train.epochs": 2, "experiment.seed": 1})
        (old.folder / "embeddings").mkdir()
        (old.folder / "embeddings" / "train_embeddings.npy").write_bytes(b"old")
        with monkeypatch.context() as patch:
            killed_at(operation, patch)
            try:
                trained(overrides)
            except Killed:
                pass
            else:
                break
        resumed = (
            trained({"train.epochs": 2, "experiment.seed": 1, "experiment.on_exists": "resume"})
            if (_seed(old) == 1)
            else trained({**overrides, "experiment.on_exists": "resume"})
        )
        outcomes.append(_seed(resumed))
        assert resumed.finished and len(resumed.saved) == (4 if outcomes[-1] else 1)
        assert (resumed.folder / "embeddings").is_dir() == (outcomes[-1] == 1)
        assert not any(name.startswith(".") for name in files(resumed.folder))
    assert outcomes == sorted(outcomes, reverse=True) and set(outcomes) == {0, 1}
    assert not (old.folder / "embeddings").exists()


def _seed(directory: Directory) -> int:
    """Of the run that whoever opens the directory next will find."""
    if (directory.folder / ".old").is_dir():
        return 0
    return directory.config().experiment.seed


def test_a_process_that_is_killed_leaves_a_directory_that_resumes_to_the_bit(here):
    """kill -9 from outside, with the lock of the dead process in place."""
    slow = content({"train.epochs": 60, "checkpoint.save_strategy": "last"})
    write_yaml(here / "slow.yaml", slow)
    command = [sys.executable, "-m", "minima_volume.cli", "train", "slow.yaml", "--quiet"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        directory, deadline = Directory(Path("runs/a")), time.monotonic() + 120
        while not directory.saved and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert directory.state_file.is_file() and (directory.folder / ".lock").is_file()
    first = {"train.epochs": 60, "checkpoint.save_strategy": "last"}
    again = trained({**first, "experiment.on_exists": "resume"})
    assert same_checkpoints(again, trained({**first, "experiment.output_dir": "whole"}))
    assert (directory.folder / ".lock").exists() is False and "resumed after epoch" in directory.log_file.read_text()


def test_a_config_of_a_finished_run_gives_identical_metrics():
    """In place, and copied elsewhere."""
    first = trained()
    history = first.history()
    shutil.copytree(first.folder, "kept")
    shutil.copy(first.config_file, "copy.yaml")
    for file in ("runs/a/config.yaml", "copy.yaml"):
        again = Directory(train_directory(load_train_config(Path(file)), say=lambda line: None))
        assert again.history() == history and same_checkpoints(again, Directory(Path("kept")))
    other = trained({"experiment.seed": 1, "experiment.name": "b"})
    assert other.history() != history


def test_nan_stops_with_its_epoch_and_is_never_the_best(monkeypatch):
    """The checkpoints of earlier epochs stay, also if the metric of validation is NaN and not the training loss."""
    with pytest.raises(DataError, match="diverged"):
        trained({"train.optimizer_config": {"optimizer": "sgd", "learning_rate": 1e6}, "train.epochs": 50})
    measured = training.measure
    values = iter([1.0, 2.0, math.nan])
    monkeypatch.setattr(training, "measure", lambda *args: {**measured(*args), "loss": next(values)})
    with pytest.raises(DataError, match="val_loss was nan after epoch 3"):
        trained({"train.epochs": 9})
    directory = Directory(Path("runs/a"))
    assert [path.name for path in directory.saved] == ["best_model.pt", "epoch_001.pt", "epoch_002.pt", "last_model.pt"]
    best = torch.load(directory.checkpoint("best"), weights_only=True)
    assert best["epoch"] == 1 and best["metric_value"] == 1.0
    assert "stopped: training diverged: val_loss was nan after epoch 3" in directory.log_file.read_text()
    assert not directory.finished


def test_early_stopping_and_the_frequency_of_validation(monkeypatch):
    """Values count, not epochs: measured after epochs 2, 4, ..., two without a new best end it."""
    values = iter([3.0, 1.0, 2.0, 2.5, 0.0])
    measured = training.measure
    monkeypatch.setattr(training, "measure", lambda *args: {**measured(*args), "loss": next(values)})
    directory = trained({"train.epochs": 20, "val.frequency": 2, "val.early_stopping": {"patience": 2}})
    assert list(directory.history()["val_loss"]) == [2, 4, 6, 8] and len(directory.history()["train_loss"]) == 8
    assert torch.load(directory.checkpoint("best"), weights_only=True)["epoch"] == 4
    assert "finished after epoch 8: val_loss was best after epoch 4" in directory.log_file.read_text()


def test_what_exists_is_treated_as_the_config_says():
    """error, timestamp (no two alike), resume of a finished run, overwriting said loudly."""
    first = trained()
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="runs/a exists; give another experiment.name"):
        trained({"experiment.on_exists": "error"})
    stamped = [trained({"experiment.on_exists": "timestamp", "train.epochs": 1}) for _ in range(3)]
    assert len({directory.folder for directory in stamped}) == 3
    assert all(directory.config().experiment.name == directory.folder.name for directory in stamped)
    trained({"experiment.on_exists": "resume"})
    with pytest.raises(ConfigError, match=r"experiment.seed was 0, is 5"):
        trained({"experiment.on_exists": "resume", "experiment.seed": 5})
    assert before == {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    said: list[str] = []
    train_directory(config({"train.epochs": 1}), say=said.append)
    assert "runs/a EXISTS AND WILL BE OVERWRITTEN (files: 5 in checkpoints/, 1 in logs/)" in said[0]
    assert len(first.history()["train_loss"]) == 1


def test_nothing_moves_for_a_config_that_cannot_be_trained():
    """Whatever is wrong with config and data is found before."""
    first = trained()
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    for overrides, words in BAD:
        with pytest.raises((ConfigError, MissingStageError, DataError)) as failure:
            trained(overrides)
        assert all(word in str(failure.value) for word in words), failure.value
        assert before == {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}


SAE = {"class": "SAE", "params": {"hidden_dim": 8, "input_dim": 5}}
BAD = [
    ({"checkpoint.metric": "val_los"}, ["checkpoint.metric: 'val_los' is not measured", "val_loss, val_elbo"]),
    ({"train.data_path": "y.npy"}, ["y.npy does not exist", "y.npy.gz"]),
    ({"train.optimizer_config": {"optimizer": "adm"}}, ["'adm' is not known (did you mean adam?)"]),
    ({"train.optimizer_config": {"weight_deca": 0.1}}, ["weight_deca", "did you mean weight_decay?"]),
    ({"train.optimizer_config": {"betas": 3}}, ["{'betas': 3} does not fit adam"]),
    ({"model": SAE, "train.loss": {"class": "SAELoss"}}, ["input_dim is 5", "x.npy have 4 features"]),
    ({"model": {"class": "mine:Model"}, "train.loss": {"class": "mine:loss"}}, ["model.class: 'mine:Model'", "mine"]),
    ({"train.optimizer_config": {"optimizer": "lbfgs"}}, ["'lbfgs' is not known", "allowed: adadelta"]),
    ({"train.optimizer_config": {"optimizer": "SparseAdam"}}, ["'SparseAdam' is not known"]),
    (
        {"model.params.likelihood": "bernoulli"},
        ["'bernoulli' takes numbers from 0 to 1", "x.npy holds -", "set it to gaussian"],
    ),
    ({"model.params.likelihood": "columns"}, ["'columns' needs a table"]),
    ({"model.params.channels": [2]}, ["channels needs samples of shape (channels, height, width)"]),
    ({"train.data_path": "digits"}, ["'digits' are images; loader_class must be ImageDataLoader"]),
    (
        {"val.data_path": "digits", "val.loader_class": "ImageDataLoader"},
        ["samples of val have shape (1, 8, 8)", "(4,)"],
    ),
]


def test_only_our_own_directories_are_touched():
    """A folder with other things in it is left alone; an empty one is taken."""
    Path("runs/a").mkdir(parents=True)
    trained({"train.epochs": 1})
    Path("runs/b").mkdir()
    Path("runs/b/thesis.tex").write_text("years of work")
    for how in ("overwrite", "resume"):
        with pytest.raises(ConfigError, match="runs/b exists and was not made by a training"):
            trained({"experiment.name": "b", "experiment.on_exists": how})
    assert Path("runs/b/thesis.tex").read_text() == "years of work"
    Path("runs/a/notes.txt").write_text("mine")
    trained({"train.epochs": 1})
    assert Path("runs/a/notes.txt").read_text() == "mine"


def test_two_processes_do_not_share_a_directory():
    """Who works there is named."""
    directory = trained()
    with locked(directory.folder, "another"), pytest.raises(LockedError, match="a is in use by process"):
        trained()


def test_a_full_disk_leaves_the_last_checkpoint(monkeypatch):
    """One message; what was there stays whole, and the training goes on from there when there is space again."""
    whole = trained({"experiment.output_dir": "whole", "checkpoint.save_strategy": "last"})
    real, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 6:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MissingStageError, match="No space left on device"):
            trained({"checkpoint.save_strategy": "last"})
    held = Directory(Path("runs/a"))
    assert torch.load(held.checkpoint("last"), weights_only=True)["epoch"] in (1, 2)
    again = trained({"checkpoint.save_strategy": "last", "experiment.on_exists": "resume"})
    assert same_checkpoints(again, whole)


def test_the_resolved_config_is_read_by_the_schema():
    """It has the marker, every default, and what was found in the data."""
    directory = trained()
    saved = read_yaml(directory.config_file)
    assert directory.config_file.read_text().startswith("# The resolved config of an experiment directory")
    assert saved["model"]["params"]["likelihood"] == "gaussian" and saved["train"]["loader_params"]["shuffle"] is True
