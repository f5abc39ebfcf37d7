"""Intervals over seeds, draws and images; the verdict; what a curve loses."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import scipy
from robustness_cases import fake_sweep

from minima_volume.errors import DataError
from minima_volume.robustness.curve import curve_of
from minima_volume.robustness.evaluate import Sweep
from minima_volume.robustness.intervals import crossed_mean
from minima_volume.robustness.sanity import OK, judge
from minima_volume.robustness.verdict import compare, judge_together, mean_drop
from minima_volume.volume.claims import holm


def test_one_source_is_students_interval():
    """Values that differ between seeds alone: the t interval of their means."""
    means = np.array([0.1, 0.4, 0.3])
    estimate = crossed_mean(np.broadcast_to(means[:, None, None], (3, 4, 50)))
    low, high = scipy.stats.t.interval(0.95, 2, loc=means.mean(), scale=scipy.stats.sem(means))
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((means.mean(), low, high))


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 5.0, 0.0), (0.0, 0.0, 0.0, 1.0), (2.0, 0.5, 0.0, 3.0)])
def test_intervals_hold_the_truth_as_often_as_they_say(sizes):
    """Crossed effects of seeds, draws, images and noise on top: at least 93 % of 600 intervals hold 0. The random numbers are
    fixed, so nothing here depends on the machine."""
    random, inside = np.random.default_rng(5), 0
    for _ in range(600):
        parts = [random.normal(size=shape) for shape in ((3, 1, 1), (1, 5, 1), (1, 1, 40), (3, 5, 40))]
        estimate = crossed_mean(sum(size * part for size, part in zip(sizes, parts, strict=True)))
        inside += estimate.low <= 0 <= estimate.high
    assert inside >= 0.93 * 600


def test_a_constant_has_no_error():
    """Nothing to estimate it from, nothing to divide by."""
    estimate = crossed_mean(np.zeros((2, 3, 4)))
    assert (estimate.mean, estimate.low, estimate.high, estimate.resolved) == (0, 0, 0, False)


def sweeps(shares: dict[float, float], first: int = 0) -> dict[int, Sweep]:
    return {seed: fake_sweep(shares, seed=first + seed) for seed in range(3)}


def test_equal_networks_are_not_resolved():
    """The very same networks: a difference of exactly 0."""
    same = sweeps({0.0: 0.98, 0.1: 0.97})
    verdict = compare("mlp", same, same)
    assert verdict.drop.mean == 0 and not verdict.drop.resolved
    assert verdict.words.endswith("not resolved on 1,000 images, 5 draws, 3 training seeds")


def test_a_large_effect_is_resolved():
    """A clean drop of 0.4 and a noisy one of 0.1, each known to 0.02: the difference is -0.3, clear by 10 standard errors."""
    verdict = compare("cnn", sweeps({0.0: 0.95, 0.1: 0.55}), sweeps({0.0: 0.95, 0.1: 0.85}, 10))
    assert verdict.drop.high < 0 and verdict.drop.mean == pytest.approx(-0.3, abs=0.1)
    assert "training under noise lowers the drop" in verdict.words
    reverse = compare("cnn", sweeps({0.0: 0.95, 0.1: 0.85}, 10), sweeps({0.0: 0.95, 0.1: 0.55}))
    assert reverse.drop.mean == pytest.approx(-verdict.drop.mean) and "raises" in reverse.words


def rows_of(effects: dict[str, float], seed: int = 0) -> list[dict]:
    """Verdicts as results.json keeps them: differences of 3 seeds, 5 draws and 200 images around an effect."""
    random, rows = np.random.default_rng(seed), []
    for name, effect in effects.items():
        shapes = ((3, 1, 1), (1, 5, 1), (1, 1, 200))
        drop = crossed_mean(effect + sum(random.normal(0, 0.01, shape) for shape in shapes))
        found = {"alpha": 0.1, "drop": asdict(drop), "accuracy": asdict(drop)}
        rows.append({"architecture": name, "counts": [3, 5, 200], "alphas": [found]})
    return rows


def test_architectures_are_judged_together():
    """Four at once: resolved is what Holm's procedure leaves, and the words give both p-values."""
    rows = rows_of({"mlp": -1.0, "cnn": 0.0, "resnet18": -0.04, "vit": 0.0})
    found = judge_together(rows)
    p_values = [row["alphas"][0]["drop"]["p_value"] for row in rows]
    assert 0.05 / 3 < p_values[2] < 0.05  # alone it would be resolved
    assert [row["p_adjusted"] for row in found] == holm(p_values).tolist()
    assert [row["resolved"] for row in found] == [True, False, False, False]
    assert "lowers the drop (200 images, 5 draws, 3 training seeds; p < 0.001; p" in found[0]["words"]
    assert "not resolved on 200 images, 5 draws, 3 training seeds; p = 0.0" in found[2]["words"]
    assert found[2]["words"].endswith("after Holm over 4 comparisons")
    assert judge_together(found) == found  # merged again it is the same
    alone = judge_together(rows[2:3])[0]
    assert alone["resolved"] and "Holm" not in alone["words"]
    assert compare("mlp", *[sweeps({0.0: 0.98, 0.1: 0.97})] * 2).drop.p_value is None


def test_architectures_that_do_not_differ_are_rarely_called_resolved():
    """Four without an effect: at most 5 % of 400 studies resolve any; one by one it would be more. The random numbers are fixed."""
    studies = [judge_together(rows_of(dict.fromkeys("abcd", 0.0), seed)) for seed in range(400)]
    assert sum(any(row["resolved"] for row in study) for study in studies) <= 20
    assert sum(any(row["p_value"] <= 0.05 for row in study) for study in studies) > 20


def test_verdicts_of_earlier_versions_count():
    """They have no p-values: resolved ones have 0.05 at the most, others may have any."""
    old = [{"architecture": name, "resolved": name == "a", "words": f"{name}: so", "alphas": []} for name in "ab"]
    found = judge_together([*old, *rows_of({"c": 0.0})])
    assert [row["p_value"] for row in found[:2]] == [0.05, 1.0] and not any(row["resolved"] for row in found)
    assert found[0]["words"] == "a: so; not resolved after Holm over 3 comparisons" and found[1]["words"] == "b: so"
    assert judge_together(found) == found


def test_one_seed_says_so():
    """The interval cannot know how seeds differ."""
    one = {0: fake_sweep({0.0: 0.9, 0.1: 0.8})}
    verdict = compare("mlp", one, {0: fake_sweep({0.0: 0.9, 0.1: 0.8}, seed=1)})
    assert "leaves out how networks of other training seeds differ" in verdict.words
    assert set(verdict.drop.variances) == {"draws", "images"}


def test_only_paired_networks_are_compared():
    """Other draws, or no common seed."""
    some = {0: fake_sweep({0.0: 0.9, 0.1: 0.8})}
    with pytest.raises(DataError, match="different draws or on different images"):
        compare("mlp", some, {0: fake_sweep({0.0: 0.9, 0.1: 0.8}, draws=4)})
    with pytest.raises(DataError, match="no training seed"):
        compare("mlp", some, {1: fake_sweep({0.0: 0.9, 0.1: 0.8})})


def test_mean_drop_is_the_mean():
    """Of the accuracies."""
    found = sweeps({0.0: 0.9, 0.1: 0.7})
    drops = [sweep.at(0.0).mean() - sweep.at(0.1).mean() for sweep in found.values()]
    assert mean_drop(found).mean == pytest.approx(np.mean(drops))


def test_the_sanity_check_can_fail():
    """A noisy network that drops 0.3 more fails; one that drops less is OK."""
    good, bad = {0: fake_sweep({0.0: 0.9, 0.1: 0.9})}, {0: fake_sweep({0.0: 0.9, 0.1: 0.6}, seed=1)}
    failed = judge({"clean": good, "noisy": bad})
    assert not failed.ok and OK not in failed.words
    passed = judge({"clean": bad, "noisy": good})
    assert passed.ok and passed.words.endswith(OK)


def test_numbers_of_a_curve():
    """Accuracies 1, 0.9, 0.5 at alpha 0, 1, 2 in every draw, by hand."""
    correct = np.zeros((3, 3, 10), bool)
    for a, right in enumerate((10, 9, 5)):
        correct[a, :, :right] = True
    sweep = Sweep(np.array([0.0, 1.0, 2.0]), np.arange(3), correct, np.zeros((3, 3)))
    curve = curve_of(sweep, 0.7)
    assert (curve.alpha_50, curve.area, curve.alpha_lost) == pytest.approx((1.5, (0.95 + 0.7) / 2, 0.1))
    assert curve_of(sweep, 0.4).alpha_50 is None and curve.largest == 2


def test_alpha_50_is_where_half_of_the_draws_reach():
    """Three draws of which two still reach 0.7 at alpha 1, and one at alpha 2: the median crosses in between."""
    accuracies = np.array([[1.0, 1.0, 1.0], [0.9, 0.8, 0.1], [0.9, 0.6, 0.0]])
    correct = np.arange(10) < (accuracies[..., None] * 10).round()
    curve = curve_of(Sweep(np.array([0.0, 1.0, 2.0]), np.arange(3), correct, np.zeros((3, 3))), 0.7)
    assert curve.alpha_50 == pytest.approx(1.5)
