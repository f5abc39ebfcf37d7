"""The cliff: one minimum in more and more data, by the run's own settings and measured cells."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from helpers import edit_config
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.stages.cliff import masses_across

GAUSSIAN = {"sigma": 0.2, "num_particles": 30, "num_repeats": 4, "num_moves": 3, "precision": 5.0}


def test_a_minimum_leaves_as_data_is_added(digits_run):
    """Inside it has a mass with an interval, outside none; its own loss is that of its samples."""
    trained = mv.load_models_and_data(digits_run)
    table = masses_across(digits_run, 0, [20, 60], sigma=0.02, trained=trained, num_repeats=2, progress=False)
    y = trained.dataset.y_train
    for _, row in table.iterrows():
        size = int(row["size"])
        with torch.no_grad():
            outputs = trained.models[0](trained.dataset.x_train[:size]).double()
            loss = nn.functional.cross_entropy(outputs, y[:size]).item()
        assert row["start_loss"] == pytest.approx(loss, rel=1e-4) and row["inside"] == (loss <= 0.5)
    assert table["inside"].tolist() == [True, False]
    assert table["log_mass"].iloc[0] <= 0 and table["lower"].iloc[0] <= table["log_mass"].iloc[0]
    assert math.isnan(table["log_mass"].iloc[1])
    with pytest.raises(ConfigError, match=r"volume\.gaussian\.sigma is not set"):
        masses_across(digits_run, 0, trained=trained, progress=False)


def test_it_agrees_with_results_json(copied):
    """What was measured is taken over; measured anew, without the cells, the numbers are the same."""
    run = edit_config(copied.folder, {"volume.gaussian": GAUSSIAN})
    mv.measure_masses(run, progress=False)
    stored = mv.load_results(run.results_file(0, 0.5))
    wanted = {minimum: stored["log_mass_values"][i][0] for i, minimum in enumerate(stored["model_data_levels"])}
    limits = {minimum: stored["log_mass_intervals"][i][0] for i, minimum in enumerate(stored["model_data_levels"])}
    for _ in range(2):
        for minimum, value in wanted.items():
            row = masses_across(run, minimum, [20], progress=False).iloc[0]
            there = np.array([value, *limits[minimum]], dtype=float)  # None becomes NaN
            np.testing.assert_array_equal(row[["log_mass", "lower", "upper"]].to_numpy(dtype=float), there)
        shutil.rmtree(run.mass_folder(0, 0.5), ignore_errors=True)


def test_the_runs_own_landscapes_are_among_the_sizes(copied):
    """Those that the minimum is still inside of, without asking for them."""
    run = edit_config(copied.folder, {"volume.gaussian": GAUSSIAN, "volume.headline_threshold": None})
    table = masses_across(run, 40, num_repeats=2, progress=False)
    inside = set(table.loc[table["inside"], "size"])
    assert {20, 40, 60} <= inside and table["size"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("minimum", "sizes", "message"),
    [
        (10, None, r"minimum 10 is not in model_0_data_10"),
        (0, [20, 61], "size 61 is not allowed: .* 60 training samples"),
    ],
)
def test_what_is_not_there_is_named(digits_run, minimum, sizes, message):
    with pytest.raises(ConfigError, match=message):
        masses_across(digits_run, minimum, sizes, sigma=0.1, progress=False)
