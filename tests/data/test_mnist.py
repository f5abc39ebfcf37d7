"""MNIST: the message if it is missing, files placed by hand, damaged files, and the real one."""

from __future__ import annotations

import pytest
import torch
import torchvision
from helpers import make_run, tree
from original_files import write_idx

import minima_volume as mv
from minima_volume.data import SOURCES
from minima_volume.data.mnist import FILES
from minima_volume.data.root import data_root
from minima_volume.errors import DataError
from minima_volume.files.atomic import read_pt


def test_missing_data_without_network_says_what_to_do(tmp_path, monkeypatch, cli):
    """What, where, how large, the reason, and three ways out; exit code 1 and nothing in the run folder."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path / "empty"))

    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", no_network)
    run = make_run(tmp_path / "model_0_data_10", {"data.source": "mnist"})
    code, _, err = cli("run", run.folder, "--quiet")
    error = err.splitlines()[-1]
    assert code == 1 and error.startswith("error: MNIST is not in ")
    for word in (
        str(tmp_path / "empty" / "MNIST" / "raw"),
        *FILES,
        "by hand",
        "12 MB",
        "make data",
        "MINIMA_VOLUME_DATA",
    ):
        assert word in error
    assert set(tree(run.folder)) == {"config.yaml"}


@pytest.mark.parametrize("error", [RuntimeError(), TimeoutError("slow"), OSError("two\nlines")])
def test_any_failed_download_is_one_line(error, tmp_path, monkeypatch):
    """An exception without a text, too."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path))

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(DataError, match="FashionMNIST is not in") as failure:
        SOURCES["fashion_mnist"](0, 0)
    assert "\n" not in str(failure.value)
    assert (" ".join(str(error).split()) or "RuntimeError") in str(failure.value)


@pytest.mark.parametrize("pack", [False, True])
def test_files_placed_by_hand_are_read(pack, tmp_path, monkeypatch):
    """The four IDX files, or their .gz, and no network."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path))
    write_idx(tmp_path / "MNIST" / "raw", pack)
    pool = SOURCES["mnist"](0, 0)
    assert pool.x_train.shape == (30, 1, 28, 28) and pool.y_test.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert pool.x_train[0, 0, 0, 3].item() == pytest.approx((3 / 255 - 0.1307) / 0.3081, rel=1e-5)


@pytest.mark.parametrize("pack", [False, True])
def test_truncated_data_files_are_named(pack, tmp_path, monkeypatch):
    """A half-copied file is a DataError with the folder and the way out."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, pack)
    file = next(raw.glob("train-images*"))
    file.write_bytes(file.read_bytes()[: 60 if pack else 5000])
    with pytest.raises(DataError, match=r"MNIST.*raw.*delete"):
        SOURCES["mnist"](0, 0)


@pytest.mark.real_data
def test_real_mnist_trains_and_is_swept(tmp_path):
    """60,000 + 10,000 real images; a tiny model on 60 of them through training and the sweep."""
    raw = data_root() / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in FILES):
        pytest.skip(f"real MNIST is not in {raw}; `make data` places it")
    options = {
        "data.source": "mnist",
        "data.base_size": 60,
        "data.levels": [0, 60],
        "perturbation.num_directions": 4,
        "training.epochs": 10,
        "training.learning_rate": 0.01,
        "model.options": {"hidden": [16]},
    }
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb"))
    trained = mv.load_models_and_data(run)
    assert len(trained.dataset.x_test) == 10_000 and trained.dataset.x_base_train.shape == (60, 1, 28, 28)
    pool = SOURCES["mnist"](0, 0)
    assert len(pool.x_train) == 60_000 and read_pt(run.dataset_file)["x_test"].dtype == torch.uint8
    assert torch.equal(pool.x_test, trained.dataset.x_test)
    assert pool.x_train.mean().item() == pytest.approx(0, abs=2e-3) and pool.x_train.std().item() == pytest.approx(
        1, abs=2e-3
    )
    assert torch.bincount(pool.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert trained.records[60]["test_accs"][-1] > 0.5
    assert mv.read_sweep(run.sweep_file(0, 60)).loss.shape == (4, 12)
