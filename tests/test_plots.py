"""Figures: matplotlib Figures with labelled axes and legends, drawn without touching the caller's settings."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import minima_volume as mv
from minima_volume.analysis import collect, select
from minima_volume.files import read_json, read_npz
from minima_volume.plots.style import save_figure


@pytest.fixture(scope="module")
def figures(digits_run):
    """Every figure function on the tiny run."""
    trained = mv.load_models_and_data(digits_run)
    thresholds = digits_run.config.volume.loss_thresholds
    results = mv.load_results(digits_run.results_file(0, 0.5))
    radii = read_npz(digits_run.radii_file(0, 0.5))
    rows = select(collect(digits_run.folder.parent))
    return {
        "samples": mv.plots.samples(trained.dataset),
        "predictions": mv.plots.predictions(trained, digits_run.config.training.loss),
        "training_curves": mv.plots.training_curves(trained),
        "loss_curves": mv.plots.loss_curves(
            {q: mv.read_sweep(digits_run.sweep_file(0, q)) for q in (0, 20, 40)}, thresholds
        ),
        "held_out_curves": mv.plots.held_out_curves(
            mv.held_out_curves(digits_run, trained, num_directions=3), thresholds
        ),
        "radius_histogram": mv.plots.radius_histogram(results, radii),
        "volumes": mv.plots.volumes(results),
        "growth_with_directions": mv.plots.growth_with_directions(results),
        "cutoff_curves": mv.plots.cutoff_curves(read_json(digits_run.cutoffs_file), thresholds),
        "accuracies": mv.plots.accuracies(read_npz(digits_run.accuracies_file)),
        "volume_against_data": mv.plots.volume_against_data(rows),
        "loss_against_volume": mv.plots.loss_against_volume(rows),
        "accuracy_against_data": mv.plots.accuracy_against_data(rows),
    }


DRAWN = [name for name in mv.plots.__all__ if not name.startswith("save_")]
SEVERAL_SERIES = [
    name for name in DRAWN if name not in ("samples", "predictions", "accuracies", "loss_curves")
]  # these need no legend


def legends(figure: Figure) -> list[str]:
    """All legend entries."""
    found = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    return [text.get_text() for legend in found for text in legend.get_texts()]


def test_no_figure_is_forgotten(figures):
    """Every function that the package exports is drawn here."""
    assert set(figures) == set(DRAWN)


@pytest.mark.parametrize("name", [name for name in DRAWN if name not in ("samples", "predictions")])
def test_axes_are_labelled(name, figures):
    """A Figure that pyplot does not know; every axis has x, every row of axes has y, and something is drawn."""
    figure = figures[name]
    assert isinstance(figure, Figure) and figure.axes
    assert plt.get_fignums() == []
    for axis in figure.axes:
        assert axis.get_xlabel()
        assert axis.get_ylabel() or axis.get_shared_y_axes().joined(axis, figure.axes[0])
        assert axis.has_data()


def test_growth_is_drawn_beside_its_largest_direction(figures, digits_run):
    """The numbers of results.json; no interval in the legend where there is none, and the verdict above."""
    results = mv.load_results(digits_run.results_file(0, 0.5))
    figure = figures["growth_with_directions"]
    lines = figure.axes[0].lines
    growth = results["log_exp_r_n_growth"]
    for i in range(3):
        np.testing.assert_allclose(lines[2 * i].get_ydata(), growth["values"][i])
        np.testing.assert_allclose(lines[2 * i + 1].get_ydata(), growth["largest_minus_log_directions"][i])
    assert legends(figure)[:3] == ["+0", "+20", "+40"] and len(legends(figure)) == 4
    assert results["overall_verdict"] in figure.get_suptitle()
    estimate = results | {"log_exp_r_n_intervals": [[-1.0, 1.0], [-1.0, None], [-1.0, None]]}
    drawn = mv.plots.growth_with_directions(estimate)
    assert legends(drawn)[-1] == "95 % interval" and len(drawn.axes[0].collections) == 1


@pytest.mark.parametrize("name", SEVERAL_SERIES)
def test_several_series_have_a_legend(name, figures):
    """Non-empty, different entries."""
    entries = legends(figures[name])
    assert entries and all(entries) and len(set(entries)) == len(entries)


def test_legends_name_all_levels(figures):
    """One entry a model, in the order of the levels."""
    for name in ("cutoff_curves", "held_out_curves", "radius_histogram"):
        assert legends(figures[name]) == ["+0", "+20", "+40"]
    assert legends(figures["training_curves"]) == ["0", "20", "40"]
    assert legends(figures["volumes"]) == ["+0 (native)", "+20", "+40"]


def test_values_in_the_figures_are_those_of_the_files(figures, digits_run):
    """The volumes and the loss curves that are drawn."""
    results = mv.load_results(digits_run.results_file(0, 0.5))
    line = figures["volumes"].axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), results["log_volume_values"])
    assert list(line.get_xdata()) == [20, 40, 60]
    sweep = mv.read_sweep(digits_run.sweep_file(0, 20))
    lines = figures["loss_curves"].axes[1].lines
    np.testing.assert_allclose(np.array([line.get_ydata() for line in lines[:12]]), sweep.loss)
    counts = [len(axis.patches) for axis in figures["radius_histogram"].axes]
    assert counts == [3]


def test_minima_outside_are_said_and_not_drawn(digits_run):
    """A null volume: the title names the level, and the histogram of nothing has still its labels."""
    results = dict(mv.load_results(digits_run.results_file(0, 0.5)))
    results["log_volume_values"] = [results["log_volume_values"][0], None, None]
    figure = mv.plots.volumes(results)
    assert "outside this landscape: +20, +40" in figure.axes[0].get_title()
    radii = {"radius": np.full((3, 12), np.nan)}
    empty = mv.plots.radius_histogram(results, radii)
    assert empty.axes[0].get_xlabel() and not empty.axes[0].patches
    save_figure(figure, digits_run.folder.parent / "outside.png")
    assert (digits_run.folder.parent / "outside.png").read_bytes()[:4] == b"\x89PNG"


def test_the_callers_settings_are_left_alone(digits_run):
    """rcParams and open figures are as before."""
    before = dict(mpl.rcParams)
    mv.plots.volumes(mv.load_results(digits_run.results_file(0, 0.5)))
    assert dict(mpl.rcParams) == before and plt.get_fignums() == []
