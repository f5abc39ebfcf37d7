"""Bars over seeds are what the words beside them say, point by point."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from fake_results import fake_condition

from minima_volume import plots
from minima_volume.analysis import aggregate, collect, select
from minima_volume.plots.panels import bars_text, means

MIXED = "95 % interval, of two seeds their range"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Five seeds, of which the largest minimum has estimates in two alone; all landscapes."""
    found = collect(fake_condition(tmp_path_factory.mktemp("few") / "base", seeds=5, trusted=True))
    lost = (found.table["level"] == 40) & (found.table["model_seed"] > 1)
    for name in ("log_mass_upper", "log_volume_upper"):
        found.table.loc[lost, name] = math.nan
    return found


def texts(figure) -> str:
    """Everything that is written on a figure."""
    legend = [text.get_text() for one in figure.legends for text in one.get_texts()]
    return "\n".join([*legend, *(text.get_text() for text in figure.texts)])


def test_a_range_of_two_is_not_called_an_interval(few):
    """Student's interval of the two values would be far wider than the bar from one to the other."""
    rows = select(few)
    table, interval = means(rows, "log_mass").set_index("x"), aggregate(rows, "log_mass").set_index("x")
    assert table["seeds"].tolist() == [5, 5, 2]
    assert (
        table["above"].iloc[-1] == pytest.approx(0.05) and interval["upper"].iloc[-1] > interval["mean"].iloc[-1] + 0.5
    )
    assert bars_text(rows, ["log_mass"]) == f"; bars: {MIXED}"
    assert f"mean of 5 seeds, {MIXED}" in texts(plots.mass_against_data(rows))
    assert f"bars: {MIXED}" in texts(plots.ranks_against_data(rows))
    assert f"bars: {MIXED}" in texts(plots.loss_against_volume(rows))


def test_differences_and_landscapes_count_their_own_estimates(few):
    """Of the differences to the minimum that has two, and of that minimum in every landscape."""
    rows = select(few)
    assert "bars: 95 % interval of each mean alone, of two seeds their range" in texts(plots.differences(rows))
    figure = plots.minima_across_landscapes(few.table, few.cutoffs, rows["threshold"].iloc[0])
    assert f"bars: {MIXED}" in texts(figure)
    whole = few.table[few.table["level"] < 40]
    assert "bars: 95 % interval\n" in texts(plots.minima_across_landscapes(whole, few.cutoffs, 0.5)) + "\n"
    two = few.table[few.table["level"] == 40]
    assert "bars: range of both seeds" in texts(plots.minima_across_landscapes(two, few.cutoffs, 0.5))


def test_equal_values_have_no_bar(few):
    """And lines that are all the same no limits."""
    rows = select(few).assign(test_accuracy=0.5)
    table = means(rows, "test_accuracy")
    assert table[["below", "above"]].eq(0).all(axis=None) and table[["lower", "upper"]].isna().all(axis=None)
    stars = few.table.assign(log_volume=-8 * np.log(few.table["train_size"]))
    drawn = plots.scaling(pd.DataFrame(stars[stars["level"] < 40]), 0.5)
    assert "nan" not in texts(drawn) + "".join(axis.get_title() for axis in drawn.axes)
