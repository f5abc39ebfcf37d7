"""Statistics and tables over seeds against closed forms and hand computations, on made-up conditions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from fake_results import LEVELS, fake_condition, fake_run, log_mass, log_volume

import minima_volume as mv
from minima_volume.analysis import (
    across_landscapes,
    collect,
    order_table,
    paired_differences,
    paragraph,
    rank_table,
    scaling_law,
    select,
    summary,
)
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.reports.gallery import WHEN_DRAWN, draw
from minima_volume.reports.terminal import format_table

ERROR = 0.05 / scipy.stats.norm.ppf(0.975)  # of each log mass: its limits are 0.05 below and above it


@pytest.fixture(scope="module")
def condition(tmp_path_factory):
    return fake_condition(tmp_path_factory.mktemp("fake") / "base")


@pytest.fixture(scope="module")
def collected(condition):
    return collect(condition)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    """The same with volumes that are estimates."""
    return collect(fake_condition(tmp_path_factory.mktemp("fake") / "trusted", trusted=True))


# ---- statistics


def test_intervals_end_where_values_cannot_be(collected):
    """A mass is a probability, so the interval of a mean log mass ends at 0, whatever Student's t says; a log-volume has no end."""
    rows = select(collected).copy()
    native = rows["level"] == 0
    values = np.array([-0.1, -0.5, -3.0])
    rows.loc[native, "log_mass"] = rows.loc[native, "log_volume"] = np.resize(values, native.sum())
    for column in ("log_mass", "log_volume"):  # estimates, measured well
        rows[f"{column}_lower"], rows[f"{column}_upper"] = rows[column] - 0.01, rows[column] + 0.01
    mass, star = (mv.aggregate(rows, column).iloc[0] for column in ("log_mass", "log_volume"))
    assert mass["upper"] == 0.0 and mass["mean"] == pytest.approx(-1.2)
    assert star["upper"] > 2.0 and star["lower"] == mass["lower"]


def test_a_bootstrap_over_few_seeds_is_refused(condition):
    """By name, with what there is instead."""
    for name in ("bootstrap", "z"):
        with pytest.raises(
            ConfigError, match=f"interval '{name}' is not allowed: .*Student's t interval, 't'.*Leave interval out"
        ):
            mv.analyze(condition, interval=name)


# ---- tables


def test_aggregates_are_those_of_the_values(collected):
    """Seeds are shifted by 0.1: mean, sd, interval and median of three values."""
    table = mv.aggregate(select(collected), "log_mass")
    assert table["x"].tolist() == [20, 40, 60] and table["seeds"].tolist() == [3] * 3
    middle = [log_mass(1, 20, 20 + q) for q in LEVELS]
    assert table["mean"].tolist() == pytest.approx(middle) and table["median"].tolist() == pytest.approx(middle)
    assert table["sd"].tolist() == pytest.approx([0.1] * 3)
    half = scipy.stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (table["upper"] - table["mean"]).tolist() == pytest.approx([half] * 3)


def test_orders_and_ranks(collected, trusted):
    """The mass is in order in every seed, the published number in even seeds alone."""
    rows = select(collected)
    assert rank_table(rows, "log_mass")["mean"].tolist() == [1, 2, 3]
    orders = order_table(rows, "log_mass")
    assert orders["spearman_data"].tolist() == [-1, -1, -1] and orders["exact"].tolist() == [True] * 3
    assert orders["native_is_largest"].tolist() == [True] * 3 and orders["wrong_pairs"].tolist() == [0] * 3
    rows = select(trusted)
    star = order_table(rows, "log_volume")
    assert star["exact"].tolist() == [True, False, True] and star["wrong_pairs"].tolist() == [0, 1, 0]
    assert star["native_is_largest"].tolist() == [True, False, True] and star["pairs"].tolist() == [3] * 3
    assert star["spearman_data"].tolist() == pytest.approx([-1, -0.5, -1])
    assert rank_table(rows, "log_volume")["mean"].tolist() == pytest.approx([4 / 3, 5 / 3, 3])
    by_loss = [scipy.stats.spearmanr(r["log_volume"], r["test_loss"]).statistic for _, r in rows.groupby("run")]
    assert star["spearman_loss"].tolist() == pytest.approx(by_loss)
    # the test loss falls with the data in every seed: where the largest two change places, one pair of neighbours disagrees
    for name in ("violations", "discordant_pairs"):
        assert orders[name].tolist() == [0] * 3 and star[name].tolist() == [0, 1, 0]


def test_what_is_no_estimate_is_left_out_of_every_table(collected, trusted):
    """Numbers with a lower limit alone have no mean, rank, order, difference or line; how many were left out is counted."""
    rows = select(collected)
    for column in ("log_volume", "log_exp_r_n"):
        table = mv.aggregate(rows, column)
        assert table["seeds"].tolist() == [0] * 3 and table["left_out"].tolist() == [3] * 3
        assert table[["mean", "lower", "upper", "sd", "median"]].isna().all(axis=None)
    assert rank_table(rows, "log_volume")["mean"].isna().all()
    orders = order_table(rows, "log_volume")
    assert orders["minima"].tolist() == [0] * 3 == orders["pairs"].tolist() and orders["left_out"].tolist() == [3] * 3
    assert orders[["spearman_data", "spearman_loss"]].isna().all(axis=None) and orders["exact"].tolist() == [None] * 3
    differences = paired_differences(rows, "log_volume")
    assert differences["seeds"].tolist() == [0, 0] and differences["clear"].tolist() == [0, 0]
    assert scaling_law(collected.table, 0.5, "log_volume") is None
    assert scaling_law(trusted.table, 0.5, "log_volume") is not None


def test_an_estimate_beside_numbers_that_are_none(trusted):
    """One seed's native volume loses its upper limit: the others' mean, ranks among what is left, and a word."""
    found = trusted.table.copy()
    lost = (found["level"] == 0) & (found["run"] == "model_1_data_11")
    found.loc[lost, "log_volume_upper"] = math.nan
    part = dataclasses.replace(trusted, table=found)
    rows = select(part)
    table = mv.aggregate(rows, "log_volume")
    kept = [log_volume(seed, 20, 20) for seed in (0, 2)]
    assert table["seeds"].tolist() == [2, 3, 3] and table["left_out"].tolist() == [1, 0, 0]
    assert table["mean"].iloc[0] == pytest.approx(np.mean(kept))
    assert rank_table(rows, "log_volume")["mean"].tolist() == pytest.approx([1, 5 / 3, 8 / 3])
    assert paired_differences(rows, "log_volume")["seeds"].tolist() == [2, 2]
    assert "1 of 9 values have a limit on one side only and are left out" in paragraph(part)


def test_orders_with_ties_and_unknown_values(collected):
    """As the definitions of results.json have it: ties share ranks, undefined volumes are left out."""
    rows = select(collected)[lambda t: t["run"] == "model_0_data_10"].copy()
    rows["log_mass"] = [2.0, 2.0, 1.0]
    assert rank_table(rows, "log_mass")["mean"].tolist() == [1.5, 1.5, 3]
    assert order_table(rows, "log_mass")["exact"].tolist() == [False]
    rows["log_mass"] = [2.0, math.nan, math.nan]
    order = order_table(rows, "log_mass").iloc[0]
    assert order["minima"] == 1 and math.isnan(order["spearman_data"]) and order["exact"] is None
    assert order["violations"] is pd.NA and order["discordant_pairs"] is pd.NA
    rows["log_mass"] = [2.0, 1.0, 3.0]  # test losses fall: 3 (smallest loss), 2, 1: one step up, two pairs
    for losses, counts in (([3.0, 2.0, 1.0], (1, 2)), ([1.0, 1.0, 1.0], (0, 0)), ([2.0, math.nan, 1.0], (1, 1))):
        rows["test_loss"] = losses
        order = order_table(rows, "log_mass").iloc[0]
        assert (order["violations"], order["discordant_pairs"]) == counts


def test_differences_within_seeds_have_no_seed_in_them(collected):
    """What all minima of a seed share cancels: the interval of the mass has the width of its measurements, +-0.05 each, alone."""
    table = paired_differences(select(collected), "log_mass")
    expected = [log_mass(0, 20, 20) - log_mass(0, 20, n) for n in (40, 60)]
    half = scipy.stats.t.ppf(0.975, 2) * math.sqrt(2 * ERROR**2 / 3)
    for column, shift in (("mean", 0.0), ("lower", -half), ("upper", half)):
        assert table[column].tolist() == pytest.approx(np.array(expected) + shift)
    assert table["larger"].tolist() == [3, 3] and table["reference"].tolist() == [20, 20]


def test_differences_are_judged_together(trusted):
    """Each with its own t interval and p-value, both p-values times what Holm asks for, and a sign where that is clear."""
    rows = select(trusted)
    table = paired_differences(rows, "log_volume")
    assert table["larger"].tolist() == [2, 3]
    p_values = []
    for x, p_value in zip(table["x"], table["p_value"], strict=True):
        volumes = [rows[rows["train_size"] == size].set_index("run")["log_volume"] for size in (20, x)]
        p_values.append(scipy.stats.ttest_rel(*volumes).pvalue)
        assert p_value == pytest.approx(p_values[-1])
    smallest = 2 * min(p_values)
    assert table["p_adjusted"].tolist() == pytest.approx(
        [max(smallest, p) if p > min(p_values) else smallest for p in p_values]
    )
    assert (table["clear"] == np.where(table["p_adjusted"] <= 0.05, np.sign(table["mean"]), 0)).all()
    rows = rows.assign(log_volume=-rows["log_mass"], log_volume_lower=-9.0, log_volume_upper=9.0)
    equal = paired_differences(rows, "log_volume")  # the same in every seed: how far seeds differ is not known
    assert equal[["lower", "upper", "p_value"]].isna().all(axis=None) and equal["clear"].tolist() == [0, 0]
    rows["log_volume"] *= 1 + 0.01 * rows["model_seed"]
    assert paired_differences(rows, "log_volume")["clear"].tolist() == [-1, -1]


def test_scaling_law_recovers_its_line(collected):
    """Native minima have log mass -2 log N, shifted by seeds: slope -2 in every seed, each known as well as its three masses."""
    law = scaling_law(collected.table, 0.5, "log_mass")
    error = ERROR / math.sqrt(3 * ((np.log([20, 40, 60]) - np.log([20, 40, 60]).mean()) ** 2).sum())
    half = scipy.stats.t.ppf(0.975, 2) * error
    assert law.slope == pytest.approx(-2)
    assert (law.slope_lower, law.slope_upper) == pytest.approx((-2 - half, -2 + half))
    assert law.points == 9 and law.groups == 3 and 0.9 < law.r_squared < 1
    assert law.intercept == pytest.approx(0.1)
    assert scaling_law(collected.table[collected.table["landscape"] == 0], 0.5, "log_mass") is None


def test_one_minimum_across_landscapes(collected):
    """The one of the most data by default, in every landscape; and where minima leave."""
    rows = across_landscapes(collected.table, 0.5)
    first = rows[rows["run"] == "model_0_data_10"]
    assert first["landscape_size"].tolist() == [20, 40, 60]
    assert first["log_volume"].tolist() == pytest.approx([log_volume(0, n, 60) for n in (20, 40, 60)])
    assert across_landscapes(collected.table, 0.5, 20)["landscape"].tolist() == [0, 20] * 3
    left = collected.cutoffs[collected.cutoffs["threshold"] == 0.5].set_index(["run", "level"])
    assert left.loc[("model_1_data_11", 20), "samples"] == 46
    assert math.isnan(left.loc[("model_1_data_11", 40), "samples"])
    assert left.loc[("model_1_data_11", 40), "inside_all"]


def test_comparisons_name_their_quantity(collected):
    """Two volumes, each with its own pairs."""
    pairs = collected.comparisons[collected.comparisons["landscape"] == 0]
    told = pairs.groupby("quantity")["told_apart"].all()
    assert told.to_dict() == {"log_mass": True, "log_volume": False}
    masses = pairs[(pairs["quantity"] == "log_mass") & (pairs["threshold"] == 0.5)]
    assert masses["p_value"].tolist() == pytest.approx([0.002] * 6)
    assert masses["p_adjusted"].tolist() == pytest.approx([0.012] * 6)  # six pairs of three runs


def test_words_say_the_numbers(collected, condition):
    """The trustworthy number first, with its interval; then the published-style one with what it rests on."""
    words = paragraph(collected)
    mean = mv.aggregate(select(collected), "log_mass")
    first, last = (f"{mean['mean'].iloc[i]:.2f} nats" for i in (0, -1))
    assert "3 seeds of 'tiny digits', landscape of 20 samples, loss threshold 0.5." in words
    assert f"the mean log mass is {first}" in words and f"and {last}" in words and "falls" not in words
    masses, star = words.split("Published number: ")
    assert (
        "without exception in 3 of 3 seeds (pairs in the other order: 0 of 9; mean Spearman correlation -1.00)"
        in masses
    )
    assert "is clearly larger than 2 and clearly smaller than 0 of the 2 others" in masses
    assert "the least clear of these has p < 0.001; p < 0.001 after Holm over 2 comparisons" in masses
    assert "6 of 6 compared pairs of minima can be told apart by this number (Holm over all 6)" in masses
    assert star.startswith("none of the values is an estimate: they are not averaged, fitted or ranked.")
    limits = [log_volume(seed, 20, size) - 4 for seed in range(3) for size in (20, 40, 60)]
    assert f"only a lower limit is known (97.5 % each): {min(limits):,.1f} to {max(limits):,.1f}." in star
    assert not any(
        claim in star for claim in ("other order", "larger", "told apart", "a = -8", "for the published-style")
    )
    law = scaling_law(collected.table, 0.5, "log_mass")
    limits = f"{law.slope_lower:.2f} to {law.slope_upper:.2f}"
    assert f"a = -2.00 (95 % interval {limits}, from the lines of 3 seeds)" in words
    assert "leaves at 25 to 27 samples" in words and "3 seeds are few" in words
    assert (condition / "config.yaml").is_file()


# ---- awkward conditions


def test_a_run_of_other_settings_is_named_and_left_out(tmp_path):
    """A mean over both would say nothing; other levels and thresholds are no other settings."""
    folder = fake_condition(tmp_path / "base")
    settings = {"volume.accuracy_thresholds": None, "data.levels": [0, 40]}
    fake_run(folder / "model_3_data_13", 3, settings, masses=False)
    fake_run(folder / "model_4_data_14", 4, {**settings, "training.epochs": 31})
    found = collect(folder)
    assert list(found.missing) == ["model_4_data_14"]
    assert "training.epochs = 31, other runs have 30" in found.missing["model_4_data_14"]
    rows = select(found)
    assert mv.aggregate(rows, "log_volume")["runs"].tolist() == [4, 3, 4]
    assert mv.aggregate(rows, "log_mass")["seeds"].tolist() == [3, 3, 3]
    assert "Not analyzed: model_4_data_14." in paragraph(found)
    assert draw(found).keys() == WHEN_DRAWN.keys() - {"conditions"}


def test_a_run_without_its_fourth_notebook_is_incomplete(tmp_path):
    """It is analyzed; what it lacks is named."""
    folder = fake_condition(tmp_path / "base", seeds=2)
    (folder / "model_1_data_11" / "cutoffs" / "cutoffs.json").unlink()
    found = collect(folder)
    assert list(found.partial) == ["model_1_data_11"] and not found.missing
    assert len(select(found)) == 6 and "leaves at 25 samples" in paragraph(found)


def test_one_seed_only(tmp_path):
    """Means without intervals, and words that say so."""
    found = collect(fake_condition(tmp_path / "base", seeds=1))
    table, words = summary(select(found)), paragraph(found)
    assert table["log_mass_lower"].isna().all()
    assert "1 seed is few: intervals over seeds are missing." in words and "nan" not in words
    assert "the log mass is" in words and "mean" not in words and "clearly" not in words and "Scaling law" not in words
    assert "nan" not in format_table(table) and "-5.99 " in format_table(table)
    assert draw(found).keys() == WHEN_DRAWN.keys() - {"conditions"}


def test_minima_outside_their_landscape(tmp_path):
    """Null volumes in one seed, and in all: sentences, no crash."""
    folder = fake_condition(tmp_path / "base", seeds=2)
    for run in (folder / "model_0_data_10", folder / "model_1_data_11"):
        for path in run.rglob("results.json"):
            results = read_json(path)
            count = len(results["model_data_levels"])
            results["log_volume_values"] = [None] * count
            results["log_volume_intervals"] = [None] * count
            results["log_mass_values"] = [[None]] * count
            results["log_mass_intervals"] = [[[None, -8.0]]] * count
            write_json(path, results)
        words, drawn = paragraph(collect(folder)), draw(collect(folder))
        assert "nan" not in words and len(drawn) >= 7
    assert "Gaussian local volume (sigma 0.1): none of the values is an estimate" in words
    assert "Published number: no minimum is inside" in words
    assert "estimators" not in drawn


def test_an_error_of_many_runs_stays_short(tmp_path):
    """Three are named, the others counted."""
    folder = fake_condition(tmp_path / "base", seeds=5)
    for path in folder.rglob("results.json"):
        path.unlink()
    with pytest.raises(MissingStageError, match=r"model_0_data_10: .*model_2_data_12: .*; and 2 more runs\)$") as error:
        collect(folder)
    assert "model_3_data_13" not in str(error.value)


def test_a_series_is_told_apart_by_its_epochs(tmp_path):
    """The axis, the reference and the words are epochs."""
    series = {"data.levels": [0], "training.checkpoints": [5, 10, 30], "volume.gaussian": {"sigma": 0.1}}
    folder = fake_condition(tmp_path / "grokking", overrides=series)
    rows = select(collect(folder))
    assert mv.aggregate(rows, "log_mass")["x"].tolist() == [5, 10, 30]
    assert paired_differences(rows, "log_mass")["reference"].tolist() == [5, 5]
    words, drawn = paragraph(collect(folder)), draw(collect(folder))
    assert drawn["log_mass_against_data"].figure.axes[0].get_xlabel() == "epoch" and "scaling_law" not in drawn
    assert "at epoch 5 and" in words and "at epoch 30." in words
    assert (
        "the minimum of epoch 5 is clearly larger than" in words
        and "By it, more epochs goes with" in words
        and "Scaling law" not in words
    )


def test_levels_sort_as_numbers(tmp_path):
    """100 after 20, seed 10 after 9."""
    folder = fake_condition(tmp_path / "base", seeds=11, overrides={"data.levels": [100, 0, 20]})
    found = collect(folder)
    assert mv.aggregate(select(found), "log_mass")["level"].tolist() == [0, 20, 100]
    assert found.table["run"].drop_duplicates().tolist()[-2:] == ["model_9_data_19", "model_10_data_20"]


def test_a_hundred_runs(tmp_path):
    """100 runs x 6 levels x 6 landscapes; how long it takes is measured by benchmarks/analysis.py."""
    overrides = {"data.levels": [0, 20, 40, 80, 160, 320], "volume.loss_thresholds": [0.5]}
    folder = fake_condition(tmp_path / "base", seeds=100, overrides=overrides)
    analysis = mv.analyze(folder)
    assert len(analysis.collected.table) == 100 * 21
    assert len(pd.read_csv(folder / "analysis" / "log_mass_against_data.csv")) == 600
