"""dataset.pt: the seeds' keys, images as the bytes of their source, and what becomes of a run when `data.store` changes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ALL_STAGES, edit_config, make_run, tiny, volume_configs
from original_files import write_cifar10, write_idx, write_svhn

import minima_volume as mv
from minima_volume.config.run import Config, load_config, parse_config
from minima_volume.data import Dataset, load_dataset, make_dataset, save_dataset
from minima_volume.data.cifar10 import PIXELS as CIFAR10
from minima_volume.data.mnist import PIXELS as MNIST
from minima_volume.data.pixels import Pixels
from minima_volume.data.svhn import PIXELS as SVHN
from minima_volume.data.text import windows
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.runs.states import run_stage
from minima_volume.stages.run import Run

SAMPLE_KEYS = ("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test")
INPUTS = SAMPLE_KEYS[::2]
LIMIT = 256e6
IMAGES = {
    "mnist": lambda root: write_idx(root / "MNIST" / "raw"),
    "fashion_mnist": lambda root: write_idx(root / "FashionMNIST" / "raw"),
    "cifar10": write_cifar10,
    "svhn": write_svhn,
}


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def config_of(source: str, variant: str = "data", store: str = "full") -> Config:
    options = {"checksums": False} if source in ("cifar10", "svhn") else {}
    data = {
        "source": source,
        "options": options,
        "variant": variant,
        "base_size": 10,
        "levels": [0, 15],
        "store": store,
    }
    overrides = {f"data.{key}": value for key, value in data.items()}
    return parse_config(tiny({**overrides, "seeds.model": 0, "seeds.data": 10}))


def same_bits(first: Dataset, second: Dataset) -> bool:
    return all(
        getattr(first, key).dtype == getattr(second, key).dtype
        and torch.equal(getattr(first, key), getattr(second, key))
        for key in SAMPLE_KEYS
    )


# ---- images


@pytest.mark.parametrize("pixels", [MNIST["MNIST"], MNIST["FashionMNIST"], CIFAR10, SVHN])
def test_every_byte_there_and_back(pixels):
    """All 256 of each channel, against the same three steps in numpy's float32; what is between two bytes has none."""
    images = torch.arange(256, dtype=torch.uint8).reshape(16, 1, 4, 4).repeat(1, len(pixels.mean), 1, 1)
    inputs = pixels.inputs(images)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (pixels.mean, pixels.std))
    assert inputs.numpy().tobytes() == ((images.numpy().astype(np.float32) / np.float32(255) - mean) / std).tobytes()
    assert torch.equal(pixels.images(inputs), images)
    between = inputs.clone()
    between[5, 0, 1, 1] = torch.nextafter(between[5, 0, 1, 1], torch.tensor(9.0))
    for other in (between, inputs + 0.01, 100 * inputs, inputs.double(), inputs[:, 0], inputs[:, :0]):
        assert pixels.images(other) is None


def test_many_images_in_pieces():
    """More than are converted at a time; the last one is looked at, too. Strides of the source do not matter."""
    pixels = Pixels((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    images = torch.randint(256, (2300, 4, 4, 3), generator=torch.Generator().manual_seed(0)).byte().permute(0, 3, 1, 2)
    inputs = pixels.inputs(images)
    assert inputs.is_contiguous() and torch.equal(pixels.images(inputs), images)
    inputs[-1, 0, 0, 0] += 1e-4
    assert pixels.images(inputs) is None


@pytest.mark.parametrize("variant", ["data", "poison", "noise"])
@pytest.mark.parametrize("source", IMAGES)
def test_images_are_kept_as_bytes_and_read_as_floats(source, variant, data_root, capsys):
    """All seeds' keys in the file; a quarter of the floats' size; loaded, the same bits. Noise was never bytes."""
    IMAGES[source](data_root)
    config, path = config_of(source, variant), data_root / "dataset.pt"
    drawn = make_dataset(config)
    save_dataset(drawn, path, config)
    content = torch.load(path, weights_only=True)
    kinds = {key: torch.float32 if variant == "noise" and key == "x_additional" else torch.uint8 for key in INPUTS}
    assert {key: content[key].dtype for key in INPUTS} == kinds
    assert all(content[key].shape == getattr(drawn, key).shape for key in SAMPLE_KEYS)
    mean, std = (torch.tensor(content[key])[:, None, None] for key in ("pixel_mean", "pixel_std"))
    assert torch.equal((content["x_test"].float() / 255 - mean) / std, drawn.x_test)
    loaded = load_dataset(path, config)
    assert same_bits(loaded, drawn) and loaded.hash() == drawn.hash() == content["data_hash"]
    size = sum(content[key].nbytes for key in SAMPLE_KEYS)
    assert f"dataset.pt will take {size / 1e6:.1f} MB (" in capsys.readouterr().out
    assert size < path.stat().st_size < size + 10_000


def test_floats_of_earlier_files_are_read_as_they_are(data_root):
    """Images stored as floats, without the keys of bytes."""
    IMAGES["mnist"](data_root)
    config, path = config_of("mnist"), data_root / "dataset.pt"
    drawn = make_dataset(config)
    save_dataset(drawn, path, config)
    content = {key: value for key, value in read_pt(path).items() if not key.startswith("pixel_")}
    write_pt(path, content | {key: getattr(drawn, key) for key in INPUTS})
    assert same_bits(load_dataset(path, config), drawn)


def test_bytes_that_are_a_users_own_inputs_stay_bytes(tmp_path):
    """A source that hands over integers without saying how they became inputs."""
    (tmp_path / "own.py").write_text(
        "import torch\nfrom minima_volume.data import Pool\n"
        "def make(seed, needed):\n"
        "    x = torch.arange(50, dtype=torch.uint8).reshape(-1, 1)\n"
        "    return Pool(x, x[:, 0].long() % 2, x, x[:, 0].long() % 2, 2)\n",
        encoding="utf-8",
    )
    config = parse_config(tiny({"data.source": "own:make", "data.levels": [10], "seeds.model": 0, "seeds.data": 1}))
    drawn = make_dataset(config, tmp_path)
    save_dataset(drawn, tmp_path / "dataset.pt", config)
    loaded = load_dataset(tmp_path / "dataset.pt", config, tmp_path)
    assert loaded.x_test.dtype == torch.uint8 and same_bits(loaded, drawn)


# ---- a change of data.store


def files_of(run: Run, pattern: str) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.folder.rglob(pattern)}


def test_how_samples_are_kept_makes_nothing_stale(tmp_path, capsys):
    """A run of each kind, then of the other: comparable, complete, left alone; an index file gets its samples, once; samples that are there stay."""
    options = {"training.epochs": 3, "volume.accuracy_thresholds": None, "perturbation.num_directions": 4}
    for seed, (before, after) in enumerate((("indices", "full"), ("full", "indices"))):
        folder = tmp_path / f"model_{seed}_data_1{seed}"
        run = make_run(folder, {**options, "data.store": before}, ALL_STAGES)
        assert ("positions in the source, not the 0.1 MB" in capsys.readouterr().out) == (before == "indices")
        assert ("note" in read_pt(run.dataset_file)) == (before == "indices")
        kept = [files_of(run, pattern) for pattern in ("model_*.pt", "*.npz", "*.json")]
        run = edit_config(folder, {"data.store": after})
        assert all(state.complete for state in mv.stage_states(folder).values())
        for stage in (*ALL_STAGES[:3], "train"):
            run_stage(run, stage, progress=False)
        assert [files_of(run, pattern) for pattern in ("model_*.pt", "*.npz", "*.json")] == kept
        assert capsys.readouterr().out.count("dataset.pt will take 0.1 MB") == (after == "full")
        content = torch.load(run.dataset_file, weights_only=True)
        assert set(content) >= set(SAMPLE_KEYS) and "note" not in content
        assert same_bits(mv.load_models_and_data(run).dataset, make_dataset(run.config))
    collected = mv.collect(tmp_path)
    assert not collected.missing and not collected.partial and collected.table["run"].nunique() == 2


# ---- the conditions


@functools.cache
def sizes(source: str, options: str) -> tuple[int, int]:
    """Bytes of one sample, and of the test set, as stored: images as bytes, labels as 8 bytes."""
    images = {"mnist": (784, 10_000), "fashion_mnist": (784, 10_000), "cifar10": (3072, 10_000), "svhn": (3072, 26_032)}
    if source in images:
        one, tests = images[source][0] + 8, images[source][1]
        return one, one * tests
    if source == "text":  # the published text has 1,115,394 characters
        tests = len(windows(torch.arange(111_539), 256, 50)[0])
        return 2 * 256 * 8, 2 * 256 * 8 * tests
    config = parse_config(tiny({"data.source": source, "data.levels": [0], "seeds.model": 0, "seeds.data": 10}))
    drawn = make_dataset(config)
    kept: dict[str, Any] = drawn.samples()
    return sum(kept[key].nbytes for key in SAMPLE_KEYS[:2]) // 20, sum(kept[key].nbytes for key in SAMPLE_KEYS[4:])


def test_conditions_keep_their_samples_where_these_fit():
    """`full` up to 256 MB, `indices` above."""
    found = {"full": 0, "indices": 0}
    for path in volume_configs():
        data = load_config(path).data
        one, tests = sizes(data.source, str(data.options))
        size = (data.base_size + data.levels[-1]) * one + tests
        assert data.store == ("full" if size <= LIMIT else "indices"), (path, size / 1e6)
        found[data.store] += 1
    assert all(found.values())
