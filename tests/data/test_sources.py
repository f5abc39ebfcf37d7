"""Sources: CIFAR-10 and SVHN from files in the original formats, modular addition, and text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from helpers import make_run, tiny
from original_files import CIFAR_NAMES, pictures, write_cifar10, write_svhn

from minima_volume.config.run import parse_config
from minima_volume.data import SOURCES, make_dataset
from minima_volume.errors import ConfigError, DataError
from minima_volume.losses.registry import get_loss
from minima_volume.stages.minimum import num_outputs

TEXT = "".join(chr(97 + (i * i) % 23) for i in range(1000)) + "é\n"


def with_checksums_of(monkeypatch, sums):
    """torchvision's own loaders, told the checksums of the small files."""
    cifar, svhn = torchvision.datasets.CIFAR10, torchvision.datasets.SVHN
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(cifar, name, [[file, sums.get(file)] for file, _ in getattr(cifar, name)])
    monkeypatch.setattr(cifar, "meta", cifar.meta | {"md5": sums.get("batches.meta")})
    split_list = {split: [url, file, sums.get(file)] for split, (url, file, _) in svhn.split_list.items()}
    monkeypatch.setattr(svhn, "split_list", split_list)


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.mark.parametrize("checksums", [True, False])
def test_cifar10_in_the_original_format(checksums, data_root, monkeypatch):
    """Five batches in order, the published normalisation by channel, the class names."""
    sums = write_cifar10(data_root)
    if checksums:
        with_checksums_of(monkeypatch, sums)
    pool = SOURCES["cifar10"](0, 0, checksums=checksums)
    x, y = pictures(40, 1)  # of data_batch_2
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    wanted = (x / 255 - mean[:, None, None]) / std[:, None, None]
    assert pool.x_train.shape == (200, 3, 32, 32) and pool.x_train.dtype == torch.float32
    np.testing.assert_allclose(pool.x_train[40:80].numpy(), wanted, atol=1e-5)
    assert pool.y_train[40:80].tolist() == y.tolist() and pool.y_train.dtype == torch.int64
    assert len(pool.x_test) == 50 and pool.num_classes == 10 and pool.label_names == CIFAR_NAMES


@pytest.mark.parametrize("checksums", [True, False])
def test_svhn_in_the_original_format(checksums, data_root, monkeypatch):
    """Label 10 is the digit 0; pictures stand upright."""
    sums = write_svhn(data_root)
    if checksums:
        with_checksums_of(monkeypatch, sums)
    pool = SOURCES["svhn"](0, 0, checksums=checksums)
    x, y = pictures(200, 10)
    mean, std = np.array([0.4377, 0.4438, 0.4728]), np.array([0.1980, 0.2010, 0.1970])
    np.testing.assert_allclose(pool.x_train.numpy(), (x / 255 - mean[:, None, None]) / std[:, None, None], atol=1e-5)
    assert pool.y_train.tolist() == y.tolist() and set(y.tolist()) == set(range(10))
    assert len(pool.x_test) == 50


@pytest.mark.parametrize(("name", "write"), [("cifar10", write_cifar10), ("svhn", write_svhn)])
def test_other_files_than_the_published_ones_are_refused(name, write, data_root):
    """The checksums are compared by default."""
    write(data_root)
    with pytest.raises(DataError, match=r"cannot be read .*corrupted.*delete the folder"):
        SOURCES[name](0, 0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10", ["CIFAR-10 is not in", "cifar-10-python.tar.gz", "170 MB", "by hand", "MINIMA_VOLUME_DATA"]),
        ("svhn", ["SVHN is not in", "train_32x32.mat and test_32x32.mat", "182 MB", "by hand", "MINIMA_VOLUME_DATA"]),
    ],
)
def test_absent_files_without_network(name, words, data_root, monkeypatch):
    """What is missing, how large it is, where it goes; nothing is half there afterwards."""

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    for module in ("cifar.download_and_extract_archive", "svhn.download_url"):
        monkeypatch.setattr(f"torchvision.datasets.{module}", no_network)
    with pytest.raises(DataError) as failure:
        SOURCES[name](0, 0)
    assert all(word in str(failure.value) for word in [*words, "no route to host", str(data_root)])
    assert "\n" not in str(failure.value)


def test_modulo_arithmetic_is_its_table():
    """Every pair once, the right sum, and the trivial predictor's loss of 1 / p."""
    pool = SOURCES["modulo_arithmetic"](3, 5)
    a, b = pool.x_train[:, :97].argmax(1), pool.x_train[:, 97:].argmax(1)
    assert pool.x_train.shape == (9409, 194) and pool.y_train.shape == (9409, 97)
    assert torch.equal(pool.y_train.argmax(1), (a + b) % 97)
    assert len(set(zip(a.tolist(), b.tolist(), strict=True))) == 9409
    assert bool((pool.x_train.sum(1) == 2).all()) and bool((pool.y_train.sum(1) == 1).all())
    assert get_loss("mse").per_sample(torch.zeros(9409, 97), pool.y_test).mean().item() == pytest.approx(1 / 97)
    with pytest.raises(ConfigError, match="modulus: 1 is not allowed"):
        SOURCES["modulo_arithmetic"](0, 0, modulus=1)


def test_modulo_arithmetic_through_a_configuration():
    """Vector targets: as many outputs as the modulus."""
    config = {"data.source": "modulo_arithmetic", "data.options": {"modulus": 11}, "training.loss": "mse"}
    dataset = make_dataset(parse_config(tiny({**config, "seeds.model": 0, "seeds.data": 10})))
    assert num_outputs(dataset) == 11 and dataset.x_train.shape == (60, 22) and len(dataset.x_test) == 121


# ---- text


def test_text_windows_do_not_overlap_and_the_test_text_is_held_out(tmp_path):
    """Every training character is a target at most once; train and test windows share no character of the text."""
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    pool = SOURCES["text"](0, 0, path=str(file), block_size=7, test_fraction=0.2)
    names = pool.label_names
    assert names == tuple(sorted(set(TEXT))) and pool.num_classes == len(names)
    cut = 1002 - 200
    train = "".join(names[i] for i in pool.y_train.flatten())
    test = "".join(names[i] for i in pool.y_test.flatten())
    assert train == TEXT[1 : 1 + len(train)] and cut - 8 < 1 + len(train) <= cut
    assert test == TEXT[cut + 1 : cut + 1 + len(test)] and 1002 - cut - 8 < len(test) <= 200
    assert torch.equal(pool.x_train[:, 1:], pool.y_train[:, :-1])
    closer = SOURCES["text"](0, 0, path=str(file), block_size=7, stride=2, test_fraction=0.2)
    assert torch.equal(closer.x_train[7::7][:5], pool.x_train[2::2][:5]) and len(closer.x_train) == (cut - 8) // 2 + 1
    assert torch.equal(closer.x_train[:, 2:][:-1], closer.x_train[1:, :-2])


@pytest.mark.parametrize("place", ["run", "condition", "root"])
def test_a_text_is_found_beside_the_configuration(place, tmp_path, data_root):
    """Relative paths: the run folder, its condition folder, the data root."""
    run = make_run(
        tmp_path / "condition" / "model_0_data_10", {"data.source": "text", "data.options": {"path": "a.txt"}}
    )
    data_root.mkdir()
    folder = {"run": run.folder, "condition": run.folder.parent, "root": data_root}[place]
    (folder / "a.txt").write_text(TEXT * 30, encoding="utf-8")
    dataset = make_dataset(run.config, run.folder)
    assert dataset.x_train.shape == (60, 256) and dataset.label_names[0] == "\n"


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (TEXT.encode(), {"block_size": 200}, ["1,002 characters", "test part 100", "block_size + 1 = 201"]),
        (b"\xff\xfe", {}, ["not UTF-8"]),
        (b"", {}, ["0 characters"]),
        (None, {}, ["no text file", "looked at"]),
        (TEXT.encode(), {"block_size": 0}, ["data.options.block_size: 0 is not allowed"]),
        (TEXT.encode(), {"stride": 1.5}, ["data.options.stride: 1.5 is not allowed"]),
        (TEXT.encode(), {"test_fraction": 1.0}, ["data.options.test_fraction: 1.0 is not allowed"]),
        (TEXT.encode(), {"block_size": 7}, ["base_size 20 + largest of data.levels 400 = 420", "128 training"]),
    ],
)
def test_texts_that_do_not_do(content, options, words, tmp_path, data_root):
    """One clear error each."""
    overrides = {"data.source": "text", "data.options": {"path": "a.txt", **options}, "data.levels": [400]}
    run = make_run(tmp_path / "model_0_data_10", overrides)
    if content is not None:
        (run.folder / "a.txt").write_bytes(content)
    with pytest.raises((ConfigError, DataError)) as failure:
        make_dataset(run.config, run.folder)
    assert all(word in str(failure.value) for word in words), failure.value
