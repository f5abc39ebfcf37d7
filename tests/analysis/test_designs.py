"""Runs that share seeds: which of them are independent, how often intervals hold the truth, and what words and figures say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from fake_results import fake_condition, fake_run
from matplotlib.text import Text

from minima_volume.analysis import aggregate, collect, paired_differences, paragraph, scaling_law, select, summary
from minima_volume.analysis.designs import described, independent, runs_text, unit
from minima_volume.analysis.statistics import fit_line, mean_interval
from minima_volume.confidence import half_width, mean_p_value
from minima_volume.reports.gallery import draw
from minima_volume.reports.html import render
from minima_volume.reports.terminal import format_table
from minima_volume.robustness.intervals import crossed_mean


def crossed(count: int) -> list[np.ndarray]:
    """Every model seed with every data seed."""
    return [np.repeat(np.arange(count), count), np.tile(10 + np.arange(count), count)]


@pytest.mark.parametrize(
    ("model", "data", "groups", "words"),
    [
        ([0, 1, 2, 3], [10, 11, 12, 13], [4], "4 seeds"),
        ([3, 1, 0, 2], [10, 10, 10, 10], [4], "4 seeds"),
        ([0, 0, 0, 0], [10, 11, 12, 13], [4], "4 seeds"),
        ([0, 1, 2, 3], [10, 10, 11, 11], [2], "4 runs (4 model seeds and 2 data seeds)"),
        ([0, 0, 1, 1], [10, 11, 10, 11], [2, 2], "4 runs (2 model seeds x 2 data seeds)"),
        ([0, 0, 1, 2], [10, 11, 11, 12], [3, 3], "4 runs (3 model seeds and 3 data seeds)"),
        ([0], [10], [], "1 seed"),
    ],
)
def test_which_runs_are_independent(model: list[int], data: list[int], groups: list[int], words: str):
    """One by one, with fixed data, with a fixed model, nested, crossed, crossed in part, alone."""
    seeds = [np.array(model), np.array(data)]
    assert [int(labels.max()) + 1 for labels in independent(seeds)] == groups
    assert described(dict(zip(("model_seed", "data_seed"), seeds, strict=True)), len(model)) == words


def test_ordinary_designs_have_students_interval_to_the_bit():
    """Pairs 0:10, 1:11, ..., and 45 model seeds on one data set."""
    values = np.random.default_rng(0).normal(3, 2, 45)
    plain, models = mean_interval(values), np.random.default_rng(1).permutation(45)
    assert mean_interval(values, seeds=[models, 10 + models]) == plain
    assert mean_interval(values, seeds=[models, np.full(45, 10)]) == plain
    assert (plain.lower, plain.upper) == pytest.approx(
        scipy.stats.t.interval(0.95, 44, loc=values.mean(), scale=scipy.stats.sem(values))
    )


def test_nested_runs_are_judged_by_the_coarser_seed():
    """Six runs on three data sets: the t interval of three means."""
    values, data = np.random.default_rng(0).normal(size=6), np.repeat([10, 11, 12], 2)
    found, means = mean_interval(values, seeds=[np.arange(6), data]), mean_interval(values.reshape(3, 2).mean(axis=1))
    assert (found.lower, found.upper, found.p_value) == pytest.approx((means.lower, means.upper, means.p_value))
    assert found.count == 6


def test_crossed_runs_have_howes_interval():
    """Four model seeds with four data seeds: sqrt(sum t^2 V) by hand, as in the study of robustness, and p is 0.05 where 0 is its end."""
    values = np.random.default_rng(0).normal(size=(4, 4)) + np.arange(4.0)
    found, study = mean_interval(values.reshape(-1), seeds=crossed(4)), crossed_mean(values[:, :, None])
    variances = [values.mean(axis=axis).var(ddof=1) / 4 for axis in (1, 0)]
    assert found.upper - found.value == pytest.approx(scipy.stats.t.ppf(0.975, 3) * math.sqrt(sum(variances)))
    assert (found.lower, found.upper, found.p_value) == pytest.approx((study.low, study.high, study.p_value))
    touching = mean_interval(values.reshape(-1) - found.lower, seeds=crossed(4))
    assert touching.lower == pytest.approx(0, abs=1e-12) and touching.p_value == pytest.approx(0.05)
    assert half_width([(1.0, 3), (4.0, 8)]) == pytest.approx(
        math.hypot(scipy.stats.t.ppf(0.975, 2), 2 * scipy.stats.t.ppf(0.975, 7))
    )


@pytest.mark.parametrize(
    "sources", [[(1.0, 3)], [(1.0, 3), (1.0, 3)], [(1.0, 2), (0.01, 9)], [(1e-9, 5), (3.0, 10_000)]]
)
@pytest.mark.parametrize("level", [0.9, 0.05, 1e-4, 1e-12])
def test_p_values_undo_intervals(sources: list[tuple[float, int]], level: float):
    """Where the interval of a level ends, the p-value of that mean is the level's complement."""
    end = math.sqrt(sum(v * scipy.stats.t.isf(level / 2, count - 1) ** 2 for v, count in sources))
    assert mean_p_value(end, sources) == pytest.approx(level, rel=1e-6) == mean_p_value(-end, sources)


@pytest.mark.parametrize("count", [3, 5])
def test_intervals_of_crossed_runs_hold_the_truth(count: int):
    """Effects of data seed, model seed and the rest, each by level, with deviations 1, 0.3 and 0.3: at least 94 % of 1,500 intervals of a
    mean hold 0, and at most 5 % of differences are called clear. Where all runs are taken for independent, 69 % (3 x 3) and 57 % (5 x 5) do.
    The random numbers are fixed."""
    random, covered, claims = np.random.default_rng(count), 0, 0
    for _ in range(1500):
        parts = [random.normal(0, sd, shape) for sd, shape in zip((1, 0.3, 0.3), shapes(count), strict=True)]
        values = sum(parts).reshape(-1, 2)
        found = mean_interval(values[:, 0], seeds=crossed(count))
        covered += found.lower <= 0 <= found.upper
        claims += mean_interval(values[:, 0] - values[:, 1], seeds=crossed(count)).p_value <= 0.05
    assert covered >= 0.94 * 1500 and claims <= 0.05 * 1500


def shapes(count: int) -> list[tuple[int, int, int]]:
    """Data seeds, model seeds and the rest, for two levels."""
    return [(1, count, 2), (count, 1, 2), (count, count, 2)]


def test_lines_of_crossed_runs():
    """Nine slopes a + b: their mean's interval is that of the slopes as values; two seeds of a kind have no line."""
    model, data = crossed(3)
    x, run = np.tile(np.arange(4.0), 9), np.repeat(np.arange(9), 4)
    slopes = np.random.default_rng(0).normal(size=9)
    seeds = {"model_seed": np.repeat(model, 4), "data_seed": np.repeat(data, 4)}
    line = fit_line(x, np.repeat(slopes, 4) * x, run.tolist(), seeds=seeds)
    mean = mean_interval(slopes, seeds=[model, data])
    assert (line.slope_lower, line.slope_upper) == pytest.approx((mean.lower, mean.upper))
    assert line.interval_from == "the lines of 9 runs (3 model seeds x 3 data seeds)"
    few = np.isin(run, [0, 1, 3, 4])
    part = {name: labels[few] for name, labels in seeds.items()}
    assert fit_line(x[few], x[few], run[few].tolist(), seeds=part) is None


# ---- a condition


@pytest.fixture(scope="module")
def condition(tmp_path_factory):
    """Three model seeds with three data seeds, whose volumes are those of seeds 0 to 8."""
    folder = fake_condition(tmp_path_factory.mktemp("crossed") / "base", seeds=0, trusted=True)
    settings = {"data.levels": [0, 20, 40], "volume.accuracy_thresholds": None, "volume.gaussian": {"sigma": 0.1}}
    for i, (model, data) in enumerate(zip(*crossed(3), strict=True)):
        made = settings | {"seeds.model": int(model), "seeds.data": int(data)}
        fake_run(folder / f"model_{model}_data_{data}", i, made, trusted=True)
    return folder


def test_a_crossed_condition_says_what_it_is(condition):
    """Nine runs, no nine seeds: in the paragraph, the tables, the page and on the figures."""
    found = collect(condition)
    rows = select(found)
    design = "9 runs (3 model seeds x 3 data seeds)"
    assert runs_text(rows) == design and unit(rows) == "run"
    words = paragraph(found)
    assert words.startswith(f"{design} of 'tiny digits'") and f"from the lines of {design})" in words
    assert f"{design} are few: intervals over runs are wide." in words
    assert "compared within runs" in words and "(tests that allow for shared seeds; " in words
    assert "seed)" not in words and " 9 seeds" not in words and "t tests" not in words
    table = format_table(summary(rows), one=unit(rows))
    assert " runs " in table.splitlines()[0] and "seeds" not in table
    drawn = draw(found)
    for name, one in drawn.items():
        said = " ".join(text.get_text() for text in one.figure.findobj(Text)) + one.caption
        assert "9 seeds" not in said and "single seeds" not in said, name
    labels = drawn["log_mass_against_data"].figure.legends[0].get_texts()
    assert f"mean of {design}, 95 % interval" in {text.get_text() for text in labels}
    page = render(condition, found)
    assert f"{design}, measured with" in page and "9 seeds" not in page


def test_tables_of_a_crossed_condition_are_judged_by_both_seeds(condition):
    """Against the study of robustness, which has the same design without gaps."""
    found = collect(condition)
    rows = select(found)
    values = {n: part["log_volume"].to_numpy().reshape(3, 3, 1) for n, part in rows.groupby("train_size")}
    table, differences = aggregate(rows, "log_volume").set_index("x"), paired_differences(rows, "log_volume")
    for size, cube in values.items():
        study = crossed_mean(cube)
        assert (table.loc[size, "lower"], table.loc[size, "upper"]) == pytest.approx((study.low, study.high))
    for _, row in differences.iterrows():
        study = crossed_mean(values[20] - values[row["x"]])
        assert (row["lower"], row["p_value"]) == pytest.approx((study.low, study.p_value))
    assert scaling_law(found.table, 0.5, "log_volume").groups == 9
