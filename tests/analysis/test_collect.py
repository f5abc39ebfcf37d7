"""Many seeds together: means and spreads against a hand computation, and what is missing."""

from __future__ import annotations

import math
import shutil

import pandas as pd
import pytest
from helpers import edit_config, make_run, tiny

import minima_volume as mv
from minima_volume.analysis import collect, select, summary
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import read_json, read_pt, write_json, write_pt
from minima_volume.files.yaml import write_yaml

LEVELS = [0, 20, 40]


def compared(first, second, lower):
    """A comparison with a chosen lower limit."""
    return {
        "levels": [first, second],
        "log_volume_difference": 2.0,
        "log_volume_interval": [lower, 3.0],
        "log_volume_probability": 0.99,
        "told_apart": lower > 0,
        "verdict": "words",
    }


def fake_results(run, landscape, threshold, volumes, losses, accuracies, effective):
    """A results.json with chosen numbers."""
    levels = [q for q in run.config.data.levels if q >= landscape]
    count = len(levels)
    content = {
        "model_data_levels": levels,
        "loss_landscape_data_param": landscape,
        "loss_threshold": threshold,
        "base_dataset_size": run.config.data.base_size,
        "log_exp_r_n_growth": {
            "num_directions": [],
            **dict.fromkeys(("values", "effective_sample_sizes", "largest_minus_log_directions"), [None] * count),
        },
        "overall_verdict": "no volume is an estimate",
        "log_exp_r_n_values": [None if v is None else v + 1000 for v in volumes[:count]],
        "log_exp_r_n_intervals": [None if v is None else [v + 990, None] for v in volumes[:count]],
        "log_volume_values": volumes[:count],
        "log_volume_intervals": [
            None if v is None else [v - 10, v + 1 if i == 1 else None] for i, v in enumerate(volumes[:count])
        ],
        "comparisons": [compared(0, 20, 1.0), compared(0, 40, -1.0)] if landscape == 0 else [],
        "effective_sample_size": effective[:count],
        "largest_share": [0.5] * count,
        "num_directions": [12] * count,
        "num_censored": [1] * count,
        "test_loss_values": losses[:count],
        "test_accuracy_values": accuracies[:count],
        "train_loss_values": [0.01] * count,
        "start_loss_values": [0.02] * count,
        "verdicts": ["a verdict"] * count,
        "settings": run.config.model_dump(),
        "weights_hashes": ["none"] * count,
    }
    write_json(run.results_file(landscape, threshold), content)


@pytest.fixture
def two_runs(tmp_path):
    """Seeds (0, 10) and (1, 11) with known numbers, and (2, 12) without results."""
    write_yaml(tmp_path / "config.yaml", tiny())
    for seed, shift in ((0, 0.0), (1, 4.0)):
        run = make_run(tmp_path / f"model_{seed}_data_{10 + seed}")
        for landscape in LEVELS:
            for threshold in (0.5, 0.2):
                volumes = [-10.0 + shift - landscape, -20.0 + 3 * shift, None if seed else -30.0]
                fake_results(
                    run,
                    landscape,
                    threshold,
                    volumes,
                    [2.0 + shift, 1.0, 0.5],
                    [0.6, 0.7 + shift / 40, 0.9],
                    [1.0, 2.0 + shift, None if seed else 3.0],
                )
    make_run(tmp_path / "model_2_data_12")
    return tmp_path


def test_means_and_deviations_over_seeds(two_runs):
    """Sample standard deviation of two values is their difference over sqrt(2); undefined volumes are left out."""
    collected = collect(two_runs)
    table = summary(select(collected)).set_index("level")
    assert table.index.tolist() == LEVELS
    assert table["seeds"].tolist() == [2, 2, 2]
    assert table["log_volume"].isna().tolist() == table["log_exp_r_n"].isna().tolist() == [True, False, True]
    assert table.loc[20, "log_volume"] == -14.0 and table.loc[20, "log_exp_r_n"] == 986.0  # the only estimates
    assert table["log_volume_above"].tolist()[::2] == [-20.0, -40.0] and math.isnan(table.loc[20, "log_volume_above"])
    assert table.loc[20, "log_volume_sd"] == pytest.approx(12 / math.sqrt(2))
    assert table["test_loss"].tolist() == pytest.approx([4.0, 1.0, 0.5])
    assert table["test_accuracy"].tolist() == pytest.approx([0.6, 0.75, 0.9])
    assert table["directions"].tolist() == [12] * 3 and table["censored"].tolist() == [2] * 3
    assert table["effective_sample_size"].tolist() == [1.0, 4.0, 3.0]
    assert table["inside"].tolist() == [2, 2, 1] and table["estimates"].tolist() == [0, 2, 0]


def test_comparisons_and_limits_are_collected(two_runs):
    """Limits beside the volumes, missing upper ones as NaN; a row for each compared pair; the sentence that counts them.

    Each pair has a p-value of 0.02: alone it would be clear, among the four of the sentence none is (Holm: 0.08).
    """
    collected = collect(two_runs)
    rows = select(collected)
    assert (rows["log_volume"] - rows["log_volume_lower"]).dropna().tolist() == [10.0] * 5
    assert rows["log_volume_upper"].notna().tolist() == [False, True, False] * 2
    pairs = collected.comparisons
    assert set(pairs["quantity"]) == {"log_volume"}
    assert len(pairs) == 8 and set(pairs["run"]) == {"model_0_data_10", "model_1_data_11"}
    assert pairs[["first", "second"]].drop_duplicates().values.tolist() == [[0, 20], [0, 40]]
    text = mv.describe(mv.analyze(two_runs))
    assert "0 of 4 compared pairs of minima can be told apart by their log-volumes (Holm over all 4)" in text
    assert pairs["p_value"].tolist() == pytest.approx([0.02] * 8) and pairs["p_adjusted"].tolist() == pytest.approx(
        [0.08] * 8
    )
    assert len(pd.read_csv(two_runs / "analysis" / "comparisons.csv")) == 8


def test_the_table_has_every_minimum(two_runs):
    """2 runs x 2 thresholds x (3 + 2 + 1) minima; the native one is that of the landscape's own level."""
    table = collect(two_runs).table
    assert len(table) == 24
    assert (table["native"] == (table["level"] == table["landscape"])).all()
    assert (table["train_size"] == table["level"] + 20).all()
    assert set(table["model_seed"]) == {0, 1} and set(table["data_seed"]) == {10, 11}


def test_another_landscape_and_threshold_can_be_selected(two_runs):
    """The default is the smallest landscape at the headline threshold."""
    collected = collect(two_runs)
    assert set(select(collected)["landscape"]) == {0} and set(select(collected)["threshold"]) == {0.5}
    rows = select(collected, landscape=20, threshold=0.2)
    assert set(rows["level"]) == {20, 40} and len(rows) == 4
    with pytest.raises(
        ConfigError,
        match=r"landscape 30 at threshold 0\.5: the runs have landscapes 0, 20, 40 and thresholds 0\.2, 0\.5",
    ):
        select(collected, landscape=30)


def test_runs_without_results_are_named(two_runs):
    """With the reason; a damaged and an invalid run as well; the others are analyzed."""
    shutil.copytree(two_runs / "model_0_data_10", two_runs / "model_3_data_13")
    next((two_runs / "model_3_data_13").rglob("results.json")).write_text('{"x": NaN}', encoding="utf-8")
    (two_runs / "model_4_data_14").mkdir()
    analysis = mv.analyze(two_runs)
    missing = analysis.collected.missing
    assert list(missing) == ["model_2_data_12", "model_3_data_13", "model_4_data_14"]
    assert "results.json does not exist" in missing["model_2_data_12"]
    assert "not valid JSON" in missing["model_3_data_13"] and "config.yaml does not exist" in missing["model_4_data_14"]
    text = mv.describe(analysis)
    assert all(f"not analyzed: {name}: " in text for name in missing)
    assert set(analysis.collected.table["run"]) == {"model_0_data_10", "model_1_data_11"}


@pytest.mark.parametrize("key", ["log_exp_r_n_values", "log_volume_values", "test_loss_values", "train_loss_values"])
@pytest.mark.parametrize("value", ["x", [1.0], {"a": 1}])
def test_a_run_with_words_for_numbers_is_named(two_runs, key, value):
    """It does not keep the others from being analyzed."""
    path = sorted((two_runs / "model_1_data_11").rglob("results.json"))[0]
    content = read_json(path)
    content[key][0] = value
    write_json(path, content)
    collected = collect(two_runs)
    reason = collected.missing["model_1_data_11"]
    assert str(path) in reason and f"{key}[0] is {value!r}: input should be a valid number" in reason
    assert set(collected.table["run"]) == {"model_0_data_10"}


def test_runs_with_other_levels_are_named(two_runs):
    """They are analyzed, each with what it has, and said to be not like the others."""
    run = make_run(two_runs / "model_3_data_13", {"data.levels": [0, 20]})
    for threshold in (0.5, 0.2):
        for landscape in (0, 20):
            fake_results(run, landscape, threshold, [-1.0, -2.0], [2.0, 1.0], [0.6, 0.7], [1.0, 2.0])
    analysis = mv.analyze(two_runs)
    assert "it has the minima 0, 20, other runs 0, 20, 40" in analysis.collected.partial["model_3_data_13"]
    assert "note on model_3_data_13: " in mv.describe(analysis)
    assert "Not like the others, or incomplete: " in analysis.words and "model_3_data_13" in analysis.words
    assert analysis.table["seeds"].tolist() == [3, 3, 2]


def test_files_of_the_analysis(two_runs):
    """CSV files that read back, and figures; the description says means and lower limits."""
    analysis = mv.analyze(two_runs)
    folder = two_runs / "analysis"
    assert len(pd.read_csv(folder / "all_minima.csv")) == 24
    pd.testing.assert_frame_equal(pd.read_csv(folder / "summary.csv"), analysis.table, check_dtype=False)
    assert {p.parent for p in analysis.figures} == {folder} and len(analysis.figures) == 2 * len(analysis.drawn)
    for path in analysis.figures:
        assert path.read_bytes()[:4] == {".png": b"\x89PNG", ".svg": b"<?xm"}[path.suffix]
        assert len(pd.read_csv(path.with_suffix(".csv"))) == len(analysis.drawn[path.stem].data)
    assert (folder / "summary.txt").read_text(encoding="utf-8") == analysis.words + "\n"
    text = mv.describe(analysis)
    assert (
        "above -20" in text
        and "-14 (-90 to 62)" in text
        and "above -40" in text
        and "landscape +0 (20 samples)" in text
    )
    assert "3 of 5 log-volumes are no estimates" in text
    lines = text.splitlines()[2:5]
    assert ["no estimate" in line for line in lines] == [True, False, True] and " estimate" in lines[1]


def test_thresholds_that_no_run_has(two_runs):
    """The condition's headline threshold was changed after the runs: what they have is named, no empty figure."""
    edit = tiny({"volume.loss_thresholds": [0.7], "volume.accuracy_thresholds": None})
    write_yaml(two_runs / "config.yaml", edit)
    with pytest.raises(ConfigError, match=r"threshold 0\.7: the runs have .* thresholds 0\.2, 0\.5"):
        mv.analyze(two_runs)


def test_no_results_at_all(tmp_path):
    """Each run with its reason."""
    make_run(tmp_path / "model_0_data_10")
    with pytest.raises(
        MissingStageError, match=r"no results to analyze \(model_0_data_10: .*results\.json does not exist\)"
    ):
        mv.analyze(tmp_path)
    assert not (tmp_path / "analysis").exists()
    with pytest.raises(ConfigError, match=r"nowhere does not exist"):
        collect(tmp_path / "nowhere")


def test_the_real_run_is_collected_as_its_files_say(copied):
    """Values in the table are those of results.json, in order; without a condition config the run's own is used."""
    collected = collect(copied.folder.parent)
    for landscape in LEVELS:
        stored = read_json(copied.results_file(landscape, 0.2))
        rows = select(collected, landscape, 0.2)
        assert rows["level"].tolist() == stored["model_data_levels"]
        assert rows["log_volume"].tolist() == stored["log_volume_values"]
        assert rows["test_accuracy"].tolist() == stored["test_accuracy_values"]
    edit_config(copied.folder, {"volume.headline_threshold": 0.2})
    assert set(select(collect(copied.folder.parent))["threshold"]) == {0.2}


def test_results_of_other_settings_or_weights_are_not_averaged_in(copied):
    """Stale volumes are named with the reason, as missing ones are; a setting that changes no number is not stale."""
    condition = copied.folder.parent
    edit_config(copied.folder, {"perturbation.shard_size": 7})
    assert collect(condition).missing == {}
    edit_config(copied.folder, {"training.epochs": 31})
    with pytest.raises(MissingStageError, match="training.epochs = 30, config.yaml says 31"):
        collect(condition)
    edit_config(copied.folder, {"training.epochs": 30})
    record = read_pt(copied.model_file(20))
    write_pt(copied.model_file(20), record | {"weights_hash": "another"})
    with pytest.raises(MissingStageError, match="measured on other weights than model_additional_20.pt"):
        collect(condition)
