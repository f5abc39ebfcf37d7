"""status, clean and archive know experiment directories; what is left after each clean-up still works."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from directory_cases import config, embedding, files, interrupted, prediction, samples, trained

from minima_volume.directories.directory import Directory
from minima_volume.directories.embed import embed_directory, predict_directory
from minima_volume.directories.train import train_directory
from minima_volume.errors import MinimaVolumeError

SOURCE = {"data_path": "x.npy", "loader_class": "EmbeddingDataLoader"}


def silent(line: str) -> None:
    return None


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    made = trained()
    embed_directory(embedding(train=SOURCE), say=silent)
    predict_directory(prediction(test=SOURCE), say=silent)
    return made


def test_status_is_read_from_the_files(cli, directory):
    """Of one directory, or of all below a folder; exit code 1 for a damaged one."""
    interrupted({"experiment.name": "b", "checkpoint.save_strategy": "last"})
    code, out, _ = cli("status", "runs")
    assert code == 0 and out.splitlines() == [
        "runs/a: finished, 3 of 3 epochs; 5 checkpoints; 1 files of embeddings; 1 files of predictions",
        "runs/b: interrupted, 1 of 3 epochs; last_model.pt",
    ]
    (directory.folder / "checkpoints" / ".state.pt").write_bytes(b"half")
    code, out, _ = cli("status", "runs/a")
    assert code == 1 and out.startswith("runs/a: damaged")


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        ("epochs", [f"checkpoints/epoch_00{i}.pt" for i in (1, 2, 3)]),
        ("logs", ["logs/training.log"]),
        ("embeddings", ["embeddings/train_embeddings.npy"]),
        ("predictions", ["predictions/test_predictions.npy"]),
    ],
)
def test_cleaning_removes_a_kind_and_the_rest_still_works(cli, directory, what, gone):
    """First only listed, with sizes. Afterwards embeddings and predictions are made as before."""
    before = files(directory.folder)
    code, out, _ = cli("clean", "runs", "--what", what)
    assert code == 0 and files(directory.folder) == before
    assert out.count("MB") == len(gone) + 1 and f"{len(gone)} files" in out and "add --yes" in out
    code, out, _ = cli("clean", "runs", "--what", what, "--yes")
    assert code == 0 and out.startswith(f"{len(gone)} files removed")
    assert files(directory.folder) == sorted(set(before) - set(gone))
    assert cli("status", "runs")[1].startswith("runs/a: finished, 3 of 3 epochs")
    embed_directory(embedding(train=SOURCE), say=silent)
    predict_directory(prediction(test=SOURCE), say=silent)
    assert set(files(directory.folder)) >= set(before) - set(gone)


def test_kinds_of_runs_and_of_directories_are_told_apart(cli, tmp_path):
    """An unknown kind names both; a folder without directories has none to clean."""
    code, _, text = cli("clean", "runs", "--what", "epoch")
    assert code == 1 and "datasets" in text and "of experiment directories epochs, logs" in text
    Path("empty").mkdir()
    code, _, text = cli("clean", "empty", "--what", "logs")
    assert code == 1 and "empty is no experiment directory and holds none" in text


def test_the_clean_up_commands_by_hand(directory):
    """rm of epochs, rm of all logs, gzip of embeddings: the directory is used and trained again."""
    for path in directory.checkpoints.glob("epoch_*.pt"):
        path.unlink()
    shutil.rmtree(directory.folder / "logs")
    plain = directory.folder / "embeddings" / "train_embeddings.npy"
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    overrides = {"experiment.name": "next", "train.data_path": str(plain), "val": None}
    assert trained(overrides).finished
    predict_directory(prediction(test=SOURCE), say=silent)
    assert directory.finished
    train_directory(config({"experiment.on_exists": "resume"}), say=silent)
    assert not directory.log_file.exists()
    assert trained().log_file.exists()


def test_an_archive_holds_the_directory(cli, directory):
    """Every visible file, under the directory's name; an existing one is not overwritten."""
    code, out, _ = cli("archive", "runs/a")
    assert code == 0 and "runs/a.tar.gz" in out
    with tarfile.open("runs/a.tar.gz") as packed:
        packed.extractall("unpacked", filter="data")
    assert files(Path("unpacked/a")) == files(directory.folder) and Directory(Path("unpacked/a")).finished
    assert cli("archive", "runs/a")[2].startswith("error: runs/a.tar.gz exists")
    Path("other").mkdir()
    assert "other is no experiment directory" in cli("archive", "other")[2]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("a b.zip", "--output a b.zip: what is written is a gzipped tar file; call it .tar.gz or .tgz"),
        ("runs/a/logs/a.tgz", "lies in the directory that is packed; give a place outside of runs/a"),
        ("runs/b/../a/a.tar.gz", "lies in the directory that is packed"),
    ],
)
def test_an_archive_that_cannot_be(output, words, cli, directory):
    """Of another kind by its name, or part of itself: nothing is written."""
    before = files(Path())
    code, _, err = cli("archive", "runs/a", "-o", output)
    assert code == 1 and words in err and err.count("\n") == 1 and files(Path()) == before
    assert cli("archive", "runs/a", "-o", "a.tgz")[0] == 0


@pytest.mark.parametrize(("where", "name"), [("runs/a", "."), ("runs/a/logs", "..")])
def test_the_archive_of_the_working_directory(where, name, cli, tmp_path, monkeypatch):
    """Under the directory's name and beside it, as from outside."""
    monkeypatch.chdir(tmp_path / where)
    assert cli("archive", name)[0] == 0
    with tarfile.open(tmp_path / "runs/a.tar.gz") as packed:
        assert "a/config.yaml" in packed.getnames()


@pytest.mark.parametrize("kind", ["pipe", "folder", "bytes"])
def test_what_is_no_config_is_not_waited_for(kind: str, tmp_path: Path):
    """A named pipe, a folder or bytes in the place of config.yaml: no experiment directory, at once."""
    path = tmp_path / "odd" / "config.yaml"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(bytes(range(128, 256)))
    assert not Directory(path.parent).marked


def test_a_log_is_not_written_through_a_link(directory: Directory, tmp_path: Path):
    """The line is refused, and what the link leads to stays as it was."""
    outside = tmp_path / "outside.txt"
    outside.write_text("precious", encoding="utf-8")
    directory.log_file.unlink()
    directory.log_file.symlink_to(outside)
    with pytest.raises(MinimaVolumeError):
        directory.log("a line")
    assert outside.read_text(encoding="utf-8") == "precious"
