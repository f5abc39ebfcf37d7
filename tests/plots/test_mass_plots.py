"""Figures of Gaussian local volumes: values, intervals, upper limits, minima outside, on made-up results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import minima_volume as mv
from minima_volume.analysis.quantities import MASS, measured
from minima_volume.plots.panels import over_seeds


def results(sigmas: list[float]) -> dict[str, Any]:
    """Seven minima: measured, measured, outside, only bounded: above, below twice, not at all."""
    columns = range(len(sigmas))
    return {
        "model_data_levels": [0, 20, 60, 200, 300, 400, 500],
        "variation": "level",
        "loss_landscape_data_param": 0,
        "loss_threshold": 0.1,
        "base_dataset_size": 20,
        "sigmas": sigmas,
        "sigma": sigmas[0],
        "log_mass_scaling": "filter",
        "log_mass_values": [
            [-1.0 - k for k in columns],
            [-4.0 - k for k in columns],
            [None for _ in columns],
            [None for _ in columns],
            [None for _ in columns],
            [None for _ in columns],
            [None for _ in columns],
        ],
        "log_mass_num_stages": [[None for _ in columns] for _ in range(7)],
        "log_mass_num_forward": [[None for _ in columns] for _ in range(7)],
        "log_mass_notes": [[None for _ in columns] for _ in range(7)],
        "log_mass_verdicts": [["made up" for _ in columns] for _ in range(7)],
        "log_mass_methods": [[None if i == 2 else "splitting" for _ in columns] for i in range(7)],
        "log_mass_intervals": [
            [[-1.2 - k, -0.8 - k] for k in columns],
            [[-4.2 - k, -3.8 - k] for k in columns],
            [[None, None] for _ in columns],
            [[None, -9.0 - k] for k in columns],
            [[-12.0 - k, None] for k in columns],
            [[-9.7 - k, None] for k in columns],
            [[None, None] for _ in columns],
        ],
        "comparisons": [],
        "log_exp_r_n_values": [None] * 7,
        "log_exp_r_n_intervals": [None] * 7,
        "largest_share": [None] * 7,
        "num_censored": [0] * 7,
        "verdicts": ["made up"] * 7,
        "log_volume_values": [-5.0, -6.0, None, *[-7.0] * 4],
        "log_volume_intervals": [[-8.7, None], [-6.5, -5.5], None, *[[-10.7, None]] * 4],
        "effective_sample_size": [1.0, 1.5, None, *[2.0] * 4],
        "num_directions": [50] * 7,
    }


WAYS = {r"$\uparrow$": "up", r"$\downarrow$": "down"}


def arrows(axis: Any) -> list[tuple[float, float, str]]:
    """Bounds, each hollow and with an arrow."""
    found = [
        (float(x), float(y), WAYS[line.get_marker()])
        for line in axis.lines
        if line.get_marker() in WAYS
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]
    hollow = {
        (float(x), float(y))
        for line in axis.lines
        if line.get_markerfacecolor() == "white"
        for x, y in zip(*line.get_data(), strict=True)
    }
    assert hollow == {(x, y) for x, y, _ in found}
    return found


def test_log_masses() -> None:
    """Left the masses with their intervals and limits, right the published number; minima outside are named."""
    figure = mv.plots.log_masses(results([0.1]))
    left, right = figure.axes
    drawn = {tuple(map(float, line.get_xdata())): list(map(float, line.get_ydata())) for line in left.lines}
    limits = {(220,): [-9.0], (320,): [-12.0], (420,): [-9.7]}
    assert drawn == {(20, 20): [-1.2, -0.8], (20,): [-1.0], (40, 40): [-4.2, -3.8], (40,): [-4.0], **limits}
    assert arrows(left) == [(220, -9.0, "down"), (320, -12.0, "up"), (420, -9.7, "up")] and left.get_ylim()[0] < -12.5
    assert "sigma 0.1" in left.get_title() and left.get_title().endswith("outside this landscape: 80")
    assert "effective sample size 1.0 of 50" in right.get_title()
    heights = [(float(x), float(y)) for line in right.lines for x, y in zip(*line.get_data(), strict=True)]
    assert {(20, -8.7), (40, -6.5), (40, -5.5), (40, -6.0), (520, -10.7)} <= set(
        heights
    )  # no estimate: its lower limit
    assert len(arrows(right)) == 5 and "no estimate, drawn at its lower limit" in figure.get_supxlabel()
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["native minimum"]
    assert left.get_xlabel() == "training samples" and "log mass" in left.get_ylabel()


def test_volume_profiles() -> None:
    """A curve and a band for each minimum, arrows where only a limit is known, a tick at every sigma."""
    figure = mv.plots.volume_profiles(results([0.05, 0.1, 0.2]))
    (axis,) = figure.axes
    curves = [line for line in axis.lines if len(line.get_xdata()) == 3]
    np.testing.assert_allclose(curves[1].get_ydata(), [-4.0, -5.0, -6.0])
    joined = [curve for curve in curves if curve.get_linestyle() != "None"]
    assert len(joined) == 7  # what is only a bound is not joined
    assert all(np.isnan(np.asarray(curve.get_ydata(), dtype=float)).all() for curve in joined[2:])
    expected = [(top, "down" if top == -9.0 else "up") for top in (-9.0, -12.0, -9.7)]
    assert arrows(axis) == [
        (sigma, pytest.approx(top - k), way) for top, way in expected for k, sigma in enumerate((0.05, 0.1, 0.2))
    ]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0.05", "0.1", "0.2"]
    assert len(axis.collections) == 7 and axis.get_xlabel() == "sigma (scaling: filter)"


@pytest.mark.parametrize("name", ["log_masses", "volume_profiles"])
def test_what_was_not_measured_is_said(name: str) -> None:
    content = {key: value for key, value in results([0.1]).items() if key not in ("log_mass_values", "sigmas")}
    assert "set volume.gaussian." in getattr(mv.plots, name)(content)


def test_a_minimum_alone_is_a_sentence() -> None:
    """No figure of one point."""
    content = {
        key: value[:1] if isinstance(value, list) and len(value) == 7 else value
        for key, value in results([0.1]).items()
    } | {"test_loss_values": [0.5]}
    for name in ("log_masses", "volumes"):
        assert getattr(mv.plots, name)(content).startswith("the minimum of 20 training samples is alone")


def test_limits_over_seeds() -> None:
    """A single limit is an arrow up or down, two are a bar, and neither is part of the mean."""
    rows = pd.DataFrame(
        {
            "run": "model_0_data_10",
            "variation": "level",
            "variant": "data",
            "native": False,
            "level": [0, 20, 60, 140],
            "train_size": [20, 40, 80, 160],
            "log_mass": [-2.0, np.nan, np.nan, np.nan],
            "log_mass_lower": [-2.5, -9.0, np.nan, -12.0],
            "log_mass_upper": [-1.5, np.nan, -7.0, -6.0],
        }
    )
    axis = Figure().subplots()
    over_seeds(axis, rows, MASS)
    drawn = {line.get_marker(): [*line.get_xdata(), *line.get_ydata()] for line in axis.lines}
    assert {(x, y) for x, y, _ in arrows(axis)} == {(40, -9.0), (80, -7.0)}
    assert drawn[r"$\uparrow$"] == [40, -9.0] and drawn[r"$\downarrow$"] == [80, -7.0]
    bars = [segment.tolist() for collection in axis.collections for segment in collection.get_segments()]
    assert [[20.0, -2.5], [20.0, -1.5]] in bars and [[160.0, -12.0], [160.0, -6.0]] in bars
    assert measured(rows[1:2].assign(log_volume=np.nan, log_volume_lower=np.nan, log_volume_upper=np.nan))[0] is MASS
