"""Samples: nested levels, variants, sources, dataset.pt, and random numbers of their own."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers import ALL_STAGES, SWISS, make_run, tiny
from scipy import stats

import minima_volume as mv
from minima_volume.config.run import parse_config
from minima_volume.data import Pool, make_dataset
from minima_volume.data.digits import digits
from minima_volume.data.swiss_roll import swiss_roll
from minima_volume.data.variants import draw, noise_samples, poison_labels
from minima_volume.errors import ConfigError, DamagedFileError, DataError, MissingStageError, StaleError
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.seeding import generator

SAMPLE_KEYS = ("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test")


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
    assert not set(SAMPLE_KEYS) & set(content) and set(SAMPLE_KEYS) <= set(read_pt(full.dataset_file))
    assert few.dataset_file.stat().st_size < full.dataset_file.stat().st_size / 10
    a, b = mv.load_models_and_data(full), mv.load_models_and_data(few)
    for key in SAMPLE_KEYS:
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
