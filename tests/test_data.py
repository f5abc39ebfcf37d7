"""Samples: nested levels, variants, sources, dataset.pt, and a user's own source and model."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers import ALL_STAGES, SWISS, make_run, tiny, tree
from scipy import stats

import minima_volume as mv
from minima_volume.config import parse_config
from minima_volume.data import SOURCES, Pool, make_dataset
from minima_volume.data.digits import digits
from minima_volume.data.mnist import FILES
from minima_volume.data.root import data_root
from minima_volume.data.swiss_roll import swiss_roll
from minima_volume.data.variants import draw, noise_samples, poison_labels
from minima_volume.errors import ConfigError, DamagedFileError, DataError, MissingStageError, StaleError
from minima_volume.files import read_pt, write_pt
from minima_volume.models import build_model
from minima_volume.runs.stages import run_stage
from minima_volume.seeding import generator

SEED_KEYS = ("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test")


def dataset(overrides=None, model=0, data=10):
    return make_dataset(parse_config(tiny({"seeds.model": model, "seeds.data": data, **(overrides or {})})))


@pytest.mark.parametrize("variant", ["data", "poison", "noise"])
def test_levels_are_nested(variant):
    """With other levels, the base samples are the same and the shorter additional part is a prefix of the longer."""
    small = dataset({"data.levels": [0, 30], "data.variant": variant})
    large = dataset({"data.levels": [0, 30, 90], "data.variant": variant})
    assert torch.equal(small.x_base_train, large.x_base_train) and torch.equal(small.y_base_train, large.y_base_train)
    assert len(small.x_additional) == 30 and len(large.x_additional) == 90
    if variant != "noise":  # inputs of noise are drawn in one block, labels after them
        assert torch.equal(small.y_additional, large.y_additional[:30])
    assert torch.equal(small.x_additional, large.x_additional[:30])
    assert large.sizes == (20, 50, 110)
    assert torch.equal(large.x_train[:20], large.x_base_train) and torch.equal(large.y_train[20:], large.y_additional)


def test_the_data_seed_alone_decides_the_samples():
    """Same data seed, another model seed: the same samples. Another data seed: others. The test set never changes."""
    first, same, other = dataset(), dataset(model=5), dataset(data=11)
    assert first.hash() == same.hash() != other.hash()
    assert not torch.equal(first.x_base_train, other.x_base_train)
    assert torch.equal(first.x_test, other.x_test)


def test_no_sample_is_drawn_twice_and_none_is_from_the_test_set():
    """Base and additional samples are different training samples of the source."""
    pool = digits(0, 0)
    drawn = dataset({"data.levels": [0, 1280]})
    assert sorted(drawn.indices.tolist()) == list(range(1300))
    assert torch.equal(drawn.x_train, pool.x_train[drawn.indices])
    assert torch.equal(drawn.y_train, pool.y_train[drawn.indices])
    assert len(pool.x_train) == 1300 and len(pool.x_test) == 497


def test_digits_are_the_real_ones():
    """All 1,797 of scikit-learn's digits, standardised as a whole, split once for all seeds."""
    from sklearn.datasets import load_digits

    pool = digits(3, 0)
    everything = torch.cat([pool.x_train, pool.x_test]).double() * 0.3760 + 0.3053
    assert everything.shape == (1797, 1, 8, 8)
    assert torch.allclose(everything.sum(), torch.tensor(load_digits().images.sum() / 16), rtol=1e-4)
    assert abs(torch.cat([pool.x_train, pool.x_test]).mean()) < 1e-3
    assert torch.bincount(torch.cat([pool.y_train, pool.y_test])).tolist() == np.bincount(load_digits().target).tolist()


def test_every_poisoned_label_is_wrong_and_any_other_is_as_likely():
    """10,000 labels: never the true one; the nine shifts pass a chi-square test."""
    labels = torch.randint(10, (10_000,), generator=torch.Generator().manual_seed(1))
    wrong = poison_labels(labels, 10, seed=3)
    shifts = torch.bincount((wrong - labels) % 10, minlength=10).numpy()
    assert shifts[0] == 0
    assert stats.chisquare(shifts[1:]).pvalue > 1e-3
    assert wrong.dtype == labels.dtype and wrong.min() >= 0 and wrong.max() <= 9
    assert torch.equal(wrong, poison_labels(labels, 10, seed=3))
    assert not torch.equal(wrong, poison_labels(labels, 10, seed=4))


def test_poison_leaves_inputs_and_the_base_set_alone():
    """Only the labels of additional samples are wrong."""
    right, wrong = dataset({"data.levels": [200]}), dataset({"data.levels": [200], "data.variant": "poison"})
    assert torch.equal(right.x_train, wrong.x_train) and torch.equal(right.y_base_train, wrong.y_base_train)
    assert bool((right.y_additional != wrong.y_additional).all())
    assert wrong.dataset_type == "poison"


def test_noise_looks_like_the_base_set_as_a_whole():
    """Gaussian with the mean and deviation over all entries of the base set; labels uniform over the classes."""
    base = 3 + 2 * torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x, y = noise_samples(base, torch.zeros(50, dtype=torch.int64), 4000, 10, seed=5)
    assert x.shape == (4000, 1, 8, 8) and x.dtype == base.dtype
    assert x.mean().item() == pytest.approx(base.mean().item(), abs=5 * 2 / 506)
    assert x.std().item() == pytest.approx(base.std().item(), rel=0.01)
    assert stats.chisquare(torch.bincount(y, minlength=10).numpy()).pvalue > 1e-3
    assert stats.kstest(((x - base.mean()) / base.std()).flatten()[:5000].numpy(), "norm").pvalue > 1e-3


def test_noise_needs_only_the_base_set_from_the_source():
    """More noise than the source has samples; made-up samples have index -1."""
    made = dataset({"data.levels": [0, 2000], "data.variant": "noise"})
    assert len(made.x_additional) == 2000
    assert bool((made.indices[20:] == -1).all()) and bool((made.indices[:20] >= 0).all())


IMBALANCE = {"data.imbalance": {"labels": [0, 1], "ratio": 0.9, "base": True, "additional": False}}


@pytest.mark.parametrize("where", [(True, False), (False, True), (True, True)])
def test_imbalanced_prefixes_have_the_ratio_and_are_nested(where):
    """Every prefix has the share to within one sample; fewer or more levels, the same samples; no sample twice."""
    imbalance = {"labels": [2, 7], "ratio": 0.7, "base": where[0], "additional": where[1]}
    small = dataset({"data.levels": [0, 30], "data.imbalance": imbalance})
    large = dataset({"data.levels": [0, 30, 150], "data.imbalance": imbalance})
    assert torch.equal(large.indices[:50], small.indices)
    assert len(set(large.indices.tolist())) == len(large.indices)
    for labels, applies in ((large.y_base_train, where[0]), (large.y_additional, where[1])):
        favoured = ((labels == 2) | (labels == 7)).cumsum(0)
        wanted = 0.7 * torch.arange(1, len(labels) + 1)
        assert bool(((favoured - wanted).abs() <= 0.501).all()) == applies
    assert torch.equal(large.y_train, digits(0, 0).y_train[large.indices])


def test_what_is_not_imbalanced_is_drawn_in_the_usual_order():
    """Without the base's samples; ratio 1 takes these labels alone; without imbalance nothing changes."""
    plain, skewed = dataset({"data.levels": [150]}), dataset({"data.levels": [150], **IMBALANCE})
    rest = [i for i in torch.randperm(1300, generator=generator(10, "draw")).tolist() if i not in skewed.indices[:20]]
    assert skewed.indices[20:].tolist() == rest[:150] and not torch.equal(plain.indices, skewed.indices)
    alone = dataset({"data.imbalance": {"labels": [3], "ratio": 1.0}})
    assert set(alone.y_base_train.tolist()) == {3}


def test_imbalance_with_poison_and_on_the_swiss_roll():
    """True labels are drawn with the ratio, then poisoned; labels of a single logit are 0.0 and 1.0."""
    imbalance = {"data.imbalance": {"labels": [4], "ratio": 0.5, "additional": True}}
    poisoned = dataset({"data.variant": "poison", **imbalance})
    true = digits(0, 0).y_train[poisoned.indices[20:]]
    assert bool((true != poisoned.y_additional).all()) and int((true == 4).sum()) == 20
    swiss = dataset({**SWISS, "data.imbalance": {"labels": [1], "ratio": 0.8}})
    assert swiss.y_base_train.sum().item() == 16


@pytest.mark.parametrize(
    ("imbalance", "words"),
    [
        ({"ratio": 0.0}, ["data.imbalance.ratio: 0.0 is not allowed", "greater than 0"]),
        ({"ratio": 1.01}, ["data.imbalance.ratio: 1.01 is not allowed", "less than or equal to 1"]),
        ({"labels": []}, ["data.imbalance.labels: [] is not allowed"]),
        ({"base": False}, ["data.imbalance: base and additional are both false"]),
        ({"rate": 0.5}, ["data.imbalance.rate: unknown key (did you mean ratio?); allowed: labels, ratio, base"]),
        ({"labels": [3, 12]}, ["data.imbalance.labels: no sample of the source has label 12"]),
        ({"additional": True}, ["ratio 0.9 asks for 900 samples with labels [0, 1] among 1000 additional", "has 24"]),
        ({"labels": list(range(1, 10)), "ratio": 0.1, "additional": True}, ["without labels", "but the source has"]),
    ],
)
def test_imbalance_that_cannot_be_drawn(imbalance, words):
    """Errors name the key, the value and the numbers of samples."""
    with pytest.raises((ConfigError, DataError)) as failure:
        dataset({"data.levels": [1000], "data.imbalance": IMBALANCE["data.imbalance"] | imbalance})
    assert all(word in str(failure.value) for word in words), failure.value


def test_noise_cannot_be_imbalanced():
    """It is made up; the base set can be."""
    with pytest.raises(ConfigError, match="imbalance.additional must be false with variant noise"):
        dataset({"data.variant": "noise", "data.imbalance": {"labels": [1], "ratio": 0.9, "additional": True}})
    base = dataset({"data.variant": "noise", "data.imbalance": {"labels": [1], "ratio": 0.9}})
    assert int((base.y_base_train == 1).sum()) == 18


def test_imbalance_needs_class_labels():
    """One-hot targets have none."""
    with pytest.raises(DataError, match=r"needs class labels of shape \(N,\), the source gives \(9409, 97\)"):
        dataset({"data.source": "modulo_arithmetic", **IMBALANCE})


def test_more_samples_than_the_source_has():
    """The message says how many are asked for and how many there are."""
    pool = Pool(torch.zeros(5, 2), torch.zeros(5), torch.zeros(1, 2), torch.zeros(1), 1)
    with pytest.raises(DataError, match=r"base_size 4 .* 2 = 6 samples, but the source has 5"):
        draw(pool, "data", 4, 2, 0)
    assert len(draw(pool, "data", 4, 1, 0)[4]) == 5


def test_swiss_roll_is_its_formula():
    """Without noise every point is on the spiral (-1.5 n cos n, 1.5 n sin n), the second arm is the negative of the first."""
    pool = swiss_roll(4, 100, noise=0.0, test_per_arm=50)
    assert len(pool.x_train) == 2 * 1100 and len(pool.x_test) == 100 and pool.num_classes == 1
    for x, y in ((pool.x_train, pool.y_train), (pool.x_test, pool.y_test)):
        points = x * torch.where(y == 0, 1.0, -1.0)[:, None]
        n = points.norm(dim=1) / 1.5
        assert torch.allclose(points, torch.stack([-1.5 * n * n.cos(), 1.5 * n * n.sin()], 1), atol=1e-4)
        assert n.max() <= 1.7 * 2 * np.pi
        # n = sqrt(U) * turns * 2 pi, so its square is uniform
        assert stats.kstest((n / (1.7 * 2 * np.pi)).square().numpy(), "uniform").pvalue > 1e-3
        assert y.float().mean() == 0.5


def test_swiss_roll_noise_has_its_deviation():
    """The same curve plus noise of the stated deviation; the test set has a seed of its own."""
    clean, noisy = (swiss_roll(4, 100, noise=noise) for noise in (0.0, 0.3))
    # the curve parameter is drawn first for the first arm, so its points differ by the noise alone
    difference = (noisy.x_train - clean.x_train)[:1100]
    assert difference.std().item() == pytest.approx(0.3, rel=0.06)
    assert abs(difference.mean().item()) < 0.03
    assert torch.equal(swiss_roll(5, 100).x_train[:5], swiss_roll(5, 100).x_train[:5])
    assert not torch.equal(noisy.x_train[:5], noisy.x_test[:5])


@pytest.mark.parametrize("variant", ["data", "poison", "noise"])
def test_stored_indices_give_the_same_samples(variant, tmp_path):
    """`store: indices` writes no samples; loading draws the same ones again, and the models agree with `full`."""
    options = {"data.variant": variant, "training.epochs": 2}
    full = make_run(tmp_path / "full" / "model_0_data_10", options, ("train",))
    few = make_run(tmp_path / "few" / "model_0_data_10", {**options, "data.store": "indices"}, ("train",))
    content = read_pt(few.dataset_file)
    assert not set(SEED_KEYS) & set(content) and set(SEED_KEYS) <= set(read_pt(full.dataset_file))
    assert few.dataset_file.stat().st_size < full.dataset_file.stat().st_size / 10
    a, b = mv.load_models_and_data(full), mv.load_models_and_data(few)
    for key in SEED_KEYS:
        assert torch.equal(getattr(a.dataset, key), getattr(b.dataset, key))
    assert [r["weights_hash"] for r in a.records.values()] == [r["weights_hash"] for r in b.records.values()]


def test_a_source_that_changed_is_noticed(tmp_path):
    """Indices into a source that gives other samples now: an error, not other numbers."""
    run = make_run(tmp_path / "model_0_data_10", {"data.store": "indices"})
    mv.prepare_data(run)
    write_pt(run.dataset_file, {**read_pt(run.dataset_file), "data_hash": "0" * 16})
    with pytest.raises(StaleError, match=r"dataset\.pt: the samples differ from those that were stored"):
        mv.prepare_data(run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data.base_size": 21}, ["data.base_size = 20", "says 21"]),
        ({"data.variant": "poison"}, ["data.variant = 'data'", "says 'poison'"]),
        ({"seeds.data": 11}, ["seeds.data = 10", "says 11"]),
    ],
)
def test_stored_samples_of_other_settings_are_refused(change, words, tmp_path):
    """dataset.pt was drawn, then the settings changed before any model was trained."""
    seeds = {"seeds.model": 0, "seeds.data": 10}
    mv.prepare_data(make_run(tmp_path / "mine", seeds))
    with pytest.raises(StaleError) as failure:
        mv.train_models(make_run(tmp_path / "mine", {**seeds, **change}), progress=False)
    assert all(word in str(failure.value) for word in (*words, "dataset.pt", "clean RUN --what models")), failure.value


def test_a_foreign_dataset_file_is_named(tmp_path, copied):
    """A .pt that this package did not write."""
    write_pt(copied.dataset_file, {"x": torch.zeros(2)})
    with pytest.raises(DamagedFileError, match=r"dataset\.pt lacks 'data_hash'"):
        mv.load_models_and_data(copied)


# ---- MNIST


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


def write_idx(raw: Path, pack: bool) -> None:
    """A tiny MNIST in the original format."""
    raw.mkdir(parents=True)
    for split, count in (("train", 30), ("t10k", 8)):
        images = np.arange(count * 784, dtype=np.int64).reshape(count, 28, 28) % 256
        head = np.array([0x00000803, count, 28, 28], ">i4").tobytes()
        files = {
            f"{split}-images-idx3-ubyte": head + images.astype(np.uint8).tobytes(),
            f"{split}-labels-idx1-ubyte": np.array([0x00000801, count], ">i4").tobytes()
            + bytes(i % 10 for i in range(count)),
        }
        for name, content in files.items():
            if pack:
                (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / name).write_bytes(content)


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
        "data.store": "indices",
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
    assert len(pool.x_train) == 60_000
    assert pool.x_train.mean().item() == pytest.approx(0, abs=2e-3) and pool.x_train.std().item() == pytest.approx(
        1, abs=2e-3
    )
    assert torch.bincount(pool.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert trained.records[60]["test_accs"][-1] > 0.5
    assert mv.read_sweep(run.sweep_file(0, 60)).loss.shape == (4, 12)


# ---- a user's own code

OWN_SOURCE = '''"""Two Gaussian clouds."""
import torch
from minima_volume.data import Pool
from minima_volume.seeding import generator


def clouds(seed, needed, *, distance=4.0):
    random = generator(seed, "clouds")
    y = torch.arange(needed + 100) % 2
    x = torch.randn(len(y), 3, generator=random) + distance * y[:, None]
    return Pool(x, y, x[-50:], y[-50:], num_classes=2)
'''
OWN_MODEL = """import torch
from torch import nn


class Wide(nn.Module):
    def __init__(self, input_shape, num_outputs, width):
        super().__init__()
        self.inner = nn.Linear(input_shape[0], width)
        self.outer = nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))
"""


@pytest.mark.parametrize("where", ["run", "condition"])
def test_own_source_and_model_go_through_all_stages(where, tmp_path):
    """Ten-line .py files in the run or condition folder, named by import path, for every stage and worker processes."""
    folder = tmp_path / "condition" / "model_0_data_10"
    place = folder if where == "run" else folder.parent
    place.mkdir(parents=True)
    (place / "my_data.py").write_text(OWN_SOURCE, encoding="utf-8")
    (place / "my_model.py").write_text(OWN_MODEL, encoding="utf-8")
    options = {
        "data.source": "my_data:clouds",
        "data.options": {"distance": 6.0},
        "data.store": "indices",
        "model.name": "my_model:Wide",
        "model.options": {"width": 5},
        "perturbation.workers": 2 if where == "run" else 1,
    }
    run = make_run(folder, options, ("train", "perturb"))
    files = mv.estimate_volumes(run, progress=False)
    run_stage(run, "accuracy", progress=False)
    assert mv.load_results(files[0])["log_exp_r_n_values"][0] is not None
    record = mv.load_models_and_data(run).records[40]
    assert record["model_class"] == "Wide" and record["test_accs"][-1] > 0.9


def test_two_runs_may_each_have_a_file_of_the_same_name(tmp_path):
    """One process, two run folders, two different my_model.py."""
    widths = {}
    for name, width in (("model_0_data_10", 3), ("model_1_data_11", 4)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "my_model.py").write_text(
            f"from torch import nn\ndef build(shape, outputs):\n    return nn.Linear({width}, outputs)\n",
            encoding="utf-8",
        )
        run = make_run(folder, {"model.name": "my_model:build", "model.options": {}})
        widths[name] = build_model(run.config, (3,), 2, folder).in_features
    assert widths == {"model_0_data_10": 3, "model_1_data_11": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def other(seed, needed): pass\n", ["module mine", "has no 'make'"]),
        ("1 / 0\n", ["mine:make", "fails to import", "ZeroDivisionError"]),
        ("def make(seed, needed):\n    return 3\n", ["'mine:make' must return a minima_volume.data.Pool, got int"]),
        ("def make(seed):\n    return 3\n", ["do not fit source 'mine:make'"]),
        ("import not_installed_anywhere\n", ["mine:make", "not_installed_anywhere"]),
    ],
)
def test_own_source_that_does_not_work_is_one_message(text, words, tmp_path):
    """The import path and what is wrong with it."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "model_0_data_10" / "mine.py").write_text(text, encoding="utf-8")
    run = make_run(tmp_path / "model_0_data_10", {"data.source": "mine:make"})
    with pytest.raises(ConfigError) as failure:
        mv.prepare_data(run)
    assert all(word in str(failure.value) for word in words), failure.value


def test_own_model_must_be_a_module(tmp_path):
    """A class that is not a torch module."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "model_0_data_10" / "mine.py").write_text(
        "def make(shape, outputs, hidden): return 3\n", encoding="utf-8"
    )
    run = make_run(tmp_path / "model_0_data_10", {"model.name": "mine:make"})
    with pytest.raises(ConfigError, match=r"'mine:make' must build a torch\.nn\.Module, got int"):
        build_model(run.config, (2,), 2, run.folder)


def test_a_pool_must_have_as_many_labels_as_inputs():
    """Counts are in the message."""
    with pytest.raises(DataError, match="3 train inputs and 2 train labels"):
        Pool(torch.zeros(3, 1), torch.zeros(2), torch.zeros(1, 1), torch.zeros(1), 1)


# ---- randomness


@pytest.mark.parametrize(
    "overrides", [{}, {**SWISS, "data.variant": "noise", "training.batch_size": 16}], ids=["digits", "swiss"]
)
def test_global_random_states_are_left_alone(overrides, tmp_path):
    """All five stages draw from generators of their own: torch's, numpy's and Python's global states do not move."""
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)
    before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    make_run(
        tmp_path / "model_0_data_10",
        {**overrides, "training.epochs": 3, "volume.accuracy_thresholds": None},
        ALL_STAGES,
    )
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state())  # noqa: NPY002
    assert before[2] == random.getstate()


def test_global_seeds_do_not_change_the_results(tmp_path):
    """A user's torch.manual_seed before the run makes no difference."""
    hashes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        run = make_run(tmp_path / str(seed) / "model_0_data_10", {"training.epochs": 2}, ("train",))
        hashes.append([r["weights_hash"] for r in mv.load_models_and_data(run).records.values()])
    assert hashes[0] == hashes[1]


def test_notebook_1_must_come_first(tmp_path):
    """The message names the file, the notebook and the command."""
    run = make_run(tmp_path / "model_0_data_10")
    with pytest.raises(
        MissingStageError, match=r"dataset\.pt does not exist: run 'Train Low Test Models\.ipynb' .*--stage train"
    ):
        mv.load_models_and_data(run)
