"""Trainings that cannot begin, because of where they should lie or how large they are: one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directory_cases import config, content, files, samples

from minima_volume.directories import directory
from minima_volume.directories import train as training
from minima_volume.directories.train import train_directory
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.yaml import write_yaml


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


@pytest.mark.parametrize("on_exists", ["overwrite", "timestamp", "error", "resume"])
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"experiment.output_dir": "x.npy"}, "error: x.npy/a: Not a directory. Check that the path is right"),
        ({"experiment.output_dir": "x.npy/b"}, "error: x.npy/b/a: Not a directory"),
        ({"experiment.output_dir": "x" * 300}, "File name too long"),
        ({"experiment.name": "x" * 300}, "is not allowed: the name of one folder, of at most 255 bytes"),
        ({"experiment.name": "é" * 128}, "of at most 255 bytes"),
        ({"model.params.latent_dim": 10**15}, "'latent_dim': 1000000000000000"),
        ({"model.params.latent_dim": 10**18}, "needs more memory than there is"),
        ({"model.params.hidden_dims": [10**15]}, "needs more memory than there is (tried to allocate"),
    ],
)
def test_a_training_that_cannot_begin(overrides: dict[str, Any], words: str, on_exists: str, cli):
    """Exit code 1, no folder, no file."""
    write_yaml(Path("c.yaml"), content({"experiment.on_exists": on_exists, **overrides}))
    code, _, err = cli("train", "c.yaml", "--quiet")
    assert code == 1 and words in err and err.count("\n") == 1, err
    assert files(Path()) == ["c.yaml", "x.npy"] and not [path for path in Path().iterdir() if path.is_dir()]


def test_a_step_that_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    """The message names the batch size; the log has it, too."""

    def train(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(ConfigError, match="loader_params.batch_size 8 needs more memory than there is"):
        train_directory(config(), say=lambda line: None)
    assert "stopped: training with loader_params.batch_size 8" in Path("runs/a/logs/training.log").read_text()


@pytest.mark.parametrize("on_exists", ["overwrite", "timestamp", "error", "resume"])
def test_a_place_that_is_a_file(on_exists: str):
    """From Python as from a shell: one message that names the file."""
    Path("runs").mkdir()
    Path("runs/a").write_text("mine")
    for place, file in (("x.npy", "x.npy"), ("x.npy/b", "x.npy"), ("runs", "runs/a")):
        if place == "runs" and on_exists == "timestamp":
            continue  # the new folder has another name
        given = config({"experiment.output_dir": place, "experiment.on_exists": on_exists})
        with pytest.raises(MissingStageError, match=rf"{place}/a[_0-9]*: .*\({file} is a file\)"):
            train_directory(given, say=lambda line: None)
    assert files(Path()) == ["runs/a", "x.npy"] and Path("runs/a").read_text() == "mine"


@pytest.mark.parametrize("on_exists", ["error", "timestamp"])
def test_a_directory_that_another_process_makes_meanwhile_is_not_overwritten(on_exists: str, monkeypatch):
    """Between the look at the folder and its lock."""
    given = config({"experiment.on_exists": on_exists, "train.epochs": 1})
    real = directory.locked

    def late(folder: Path):
        monkeypatch.setattr(directory, "locked", real)
        train_directory(config({"train.epochs": 2}), say=lambda line: None)
        return real(folder)

    monkeypatch.setattr(directory, "locked", late)
    with pytest.raises(ConfigError, match="runs/a exists since a moment ago; start again"):
        train_directory(given, say=lambda line: None)
    assert list(directory.Directory(Path("runs/a")).history()["train_loss"]) == [1, 2]
