"""Figures: matplotlib Figures with labelled axes and legends, drawn without touching the caller's settings."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from fake_results import fake_condition
from helpers import edit_config
from matplotlib.figure import Figure

import minima_volume as mv
from minima_volume.analysis import aggregate, collect, select
from minima_volume.files.atomic import read_json, read_npz
from minima_volume.plots.marks import NATIVE, looks_of
from minima_volume.plots.panels import means
from minima_volume.plots.style import save_figure, style
from minima_volume.reports.gallery import draw
from minima_volume.stages.cliff import masses_across
from minima_volume.stages.plane import run_plane


def with_masses(results):
    """A results.json with made-up Gaussian local volumes at two sigmas."""
    count = len(results["model_data_levels"])
    values = [[-1.0 - i, -3.0 - 2 * i] for i in range(count)]
    same = {"methods": "splitting", "num_stages": 2.0, "num_forward": 1000, "notes": None, "verdicts": "made up"}
    return {
        **results,
        "sigmas": [0.05, 0.1],
        "sigma": 0.05,
        "log_mass_scaling": "filter",
        "log_mass_values": values,
        "log_mass_intervals": [[[v - 0.1, v + 0.1] for v in row] for row in values],
        **{f"log_mass_{key}": [[value] * 2] * count for key, value in same.items()},
    }


def over_seeds(condition):
    """Every figure over seeds on a made-up condition."""
    found = collect(fake_condition(condition))
    drawn = {name: one.figure for name, one in draw(found, {"one": select(found), "two": select(found)}).items()}
    return {name: drawn[file] for name, file in OVER_SEEDS.items()}


OVER_SEEDS = {  # function -> file
    "mass_against_data": "log_mass_against_data",
    "volume_against_data": "log_volume_against_data",
    "differences": "differences",
    "loss_against_volume": "test_loss_against_log_volume",
    "accuracy_against_volume": "test_accuracy_against_log_volume",
    "ranks_against_data": "ranks_against_data",
    "loss_ranks_against_volume_ranks": "loss_ranks_against_volume_ranks",
    "scaling": "scaling_law",
    "minima_across_landscapes": "minima_across_landscapes",
    "estimators": "estimators",
    "accuracy_against_data": "test_accuracy_against_data",
    "conditions_against_data": "conditions",
}


@pytest.fixture(scope="module")
def figures(digits_run, tmp_path_factory):
    """Every figure function on the tiny run, or on a made-up condition."""
    trained = mv.load_models_and_data(digits_run)
    thresholds = digits_run.config.volume.loss_thresholds
    results = mv.load_results(digits_run.results_file(0, 0.5))
    radii = read_npz(digits_run.radii_file(0, 0.5))
    plane = run_plane(digits_run, trained=trained, resolution=7, progress=False)
    own = trained.models[0], trained.dataset.x_train[:20], trained.dataset.y_train[:20], digits_run.loss
    quick = mv.ViewSettings(num_chains=2, num_draws=20, num_burn_in=10, density_vectors=1, density_steps=5)
    across = masses_across(digits_run, 20, [20, 40, 60], sigma=0.05, trained=trained, num_repeats=2, progress=False)
    return over_seeds(tmp_path_factory.mktemp("fake") / "base") | {
        "log_masses": mv.plots.log_masses(with_masses(results)),
        "volume_profiles": mv.plots.volume_profiles(with_masses(results)),
        "planes": mv.plots.planes(plane, ["20 samples", "40 samples", "60 samples"], 0.5),
        "lines": mv.plots.lines(mv.slice_line(*own, threshold=0.5, seeds=(1, 2), num_points=11)),
        "views": mv.plots.views(mv.other_views(*own, threshold=0.5, settings=quick)),
        "cliff": mv.plots.cliff(across, "minimum trained on 40 samples", 0.05, 0.5),
        "samples": mv.plots.samples(trained.dataset),
        "predictions": mv.plots.predictions(trained, digits_run.config.training.loss),
        "training_curves": mv.plots.training_curves(trained),
        "loss_curves": mv.plots.loss_curves(
            {q: mv.read_sweep(digits_run.sweep_file(0, q)) for q in (0, 20, 40)}, thresholds
        ),
        "held_out_curves": mv.plots.held_out_curves(
            mv.held_out_curves(digits_run, trained, num_directions=3), thresholds, base_size=20
        ),
        "radius_histogram": mv.plots.radius_histogram(results, radii),
        "radius_details": mv.plots.radius_details([(results, radii)]),
        "volumes": mv.plots.volumes(results),
        "growth_with_directions": mv.plots.growth_with_directions(results),
        "cutoff_curves": mv.plots.cutoff_curves(read_json(digits_run.cutoffs_file), thresholds),
        "accuracies": mv.plots.accuracies(read_npz(digits_run.accuracies_file)),
    }


OTHER_KINDS = {
    "poison": {"data.variant": "poison"},
    "noise": {"data.variant": "noise"},
    "epoch": {
        "data.levels": [0],
        "training.epochs": 5000,
        "training.checkpoints": [200, 400, 600, 800, 1000, 1500, 2000, 3000, 5000],
    },
    "batch_size": {"data.levels": [0], "training.batch_sizes": [5, 10, 20]},
}
DRAWN = [name for name in mv.plots.__all__ if not name.startswith("save_")]
NO_LEGEND = ("samples", "predictions", "accuracies", "loss_curves", "differences", "cutoff_curves", "radius_details")
SEVERAL_SERIES = [name for name in DRAWN if name not in NO_LEGEND]


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
        if axis.get_label() != "<colorbar>":
            assert axis.get_xlabel() or axis.get_shared_x_axes().joined(axis, figure.axes[-1])
        assert axis.get_ylabel() or axis.get_shared_y_axes().joined(axis, figure.axes[0])
        assert axis.has_data()


def test_growth_is_drawn_beside_its_largest_direction(figures, digits_run):
    """The numbers of results.json; no interval in the legend if there is none, and the verdict above."""
    results = mv.load_results(digits_run.results_file(0, 0.5))
    figure = figures["growth_with_directions"]
    lines = figure.axes[0].lines
    growth = results["log_exp_r_n_growth"]
    for i in range(3):
        np.testing.assert_allclose(lines[2 * i].get_ydata(), growth["values"][i])
        np.testing.assert_allclose(lines[2 * i + 1].get_ydata(), growth["largest_minus_log_directions"][i])
    assert legends(figure)[:3] == ["20", "40", "60"] and len(legends(figure)) == 4
    assert results["overall_verdict"] in figure.get_suptitle()
    estimate = results | {"log_exp_r_n_intervals": [[-1.0, 1.0], [-1.0, None], [-1.0, None]]}
    drawn = mv.plots.growth_with_directions(estimate)
    assert legends(drawn)[-1] == "95 % interval" and len(drawn.axes[0].collections) == 1


@pytest.mark.parametrize("name", [*OVER_SEEDS, "cliff", "planes", "log_masses", "radius_details"])
def test_nothing_covers_anything_else(name, figures):
    """Once laid out, titles, legends and axes of a figure do not overlap, and nothing sticks out of it."""
    tidy(figures[name])


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_the_same_for_what_is_not_data(kind, tmp_path):
    """Wrong labels, noise, epochs and batch sizes, whose words are longer; every marker is within its axis."""
    found = collect(fake_condition(tmp_path / "base", overrides=OTHER_KINDS[kind]))
    for name, one in draw(found, {"one": select(found), "two": select(found)}).items():
        tidy(one.figure)
        for axis in one.figure.axes:
            drawn = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
            x = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in drawn])
            low, high = sorted(axis.get_xlim())
            assert len(x) and np.nanmin(x) > low and np.nanmax(x) < high, name


def test_one_seed_has_no_mean(tmp_path):
    """No word about means, intervals over seeds or single seeds if there is only one."""
    found = collect(fake_condition(tmp_path / "base", seeds=1))
    for name, one in draw(found).items():
        tidy(one.figure)
        said = [one.figure._suptitle, one.figure._supxlabel, *(axis.title for axis in one.figure.axes)]
        text = " ".join([*legends(one.figure), *(part.get_text() for part in said if part is not None)])
        assert not any(word in text for word in ("mean", "over seeds", "single seeds", "dots: seeds")), (name, text)


def tidy(figure):
    """Nothing overlaps, nothing sticks out."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [figure._suptitle, figure._supxlabel, *(axis.title for axis in figure.axes)]
    boxes = [text.get_window_extent(renderer) for text in texts if text is not None and text.get_text()]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes += [axis.xaxis.label.get_window_extent(renderer) for axis in figure.axes if axis.get_xlabel()]
    width, height = figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 > -3 and box.y0 > -3 and box.x1 < width + 3 and box.y1 < height + 3, (i, box)
        assert not [other for other in boxes[i + 1 :] if _overlap(box, other)], (i, box)
    for axis in figure.axes:
        labels = [text.get_window_extent(renderer) for text in axis.get_xticklabels() if text.get_text()]
        assert not any(_overlap(a, b) for a, b in pairwise(sorted(labels, key=lambda box: box.x0)))


def _overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def test_both_volumes_are_drawn_and_the_trustworthy_first(figures):
    """Left the Gaussian local volume with its name and sigma, right the published number with what it rests on."""
    for name in ("mass_against_data", "loss_against_volume", "scaling", "minima_across_landscapes"):
        left, right = figures[name].axes[:2]
        assert "Gaussian local volume, sigma 0.1" in left.get_title()
        assert "published number" in right.get_title()
    note = figures["mass_against_data"].get_supxlabel()
    assert "rests on 1.2 of 500 directions" in note and "none is an estimate" in note


def drawn_lines(axis):
    """Lines through two points or more, marked ones and bars apart."""
    return [line for line in axis.lines if np.isfinite(np.asarray(line.get_ydata(), dtype=float)).sum() > 1]


def test_what_is_no_estimate_is_not_averaged_fitted_or_put_in_order(tmp_path):
    """Panels of bounded volumes have arrows at their lower limits, no line, mean or bar; figures of orders leave them out, in words."""
    found = collect(fake_condition(tmp_path / "base"))
    rows = select(found)
    limits = rows.sort_values(["run", "train_size"])["log_volume_lower"].to_numpy()
    for figure in (mv.plots.mass_against_data(rows), mv.plots.volume_against_data(rows)):
        axis = figure.axes[-1]
        hollow = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
        arrows = [line for line in axis.lines if line.get_marker() == r"$\uparrow$"]
        for lines in (hollow, arrows):
            assert all(line.get_linestyle() == "None" for line in lines)
            assert sorted(float(y) for line in lines for y in line.get_ydata()) == sorted(limits)
        assert all(line in hollow or line in arrows for line in drawn_lines(axis))
        assert not axis.containers and "they are not averaged, fitted or ranked" in figure.get_supxlabel()
    scaling = mv.plots.scaling(found.table, 0.5)
    assert [line.get_linestyle() for line in scaling.axes[1].lines].count("--") == 0
    assert "no line: it takes three seeds" in scaling.axes[1].get_title() and "a = -2.00" in scaling.axes[0].get_title()
    for function in (mv.plots.differences, mv.plots.loss_ranks_against_volume_ranks):
        figure = function(rows)
        assert len(figure.axes) == 1 and "Gaussian local volume" in figure.axes[0].get_title()
        assert "published number: none of the values is an estimate" in figure.get_supxlabel()
    assert legends(mv.plots.ranks_against_data(rows)) == ["more data, smaller volume", "Gaussian local volume"]
    estimators = mv.plots.estimators(rows)
    assert "published number" not in estimators.get_suptitle() and "both agree" not in estimators.get_supxlabel()
    assert (
        "none of the values is an estimate" in mv.plots.conditions_against_data({"a": rows, "b": rows}).get_supxlabel()
    )
    drawn = draw(collect(fake_condition(tmp_path / "without", masses=False)))
    assert not {"differences", "ranks_against_data", "loss_ranks_against_volume_ranks"} & set(drawn)


def test_clear_differences_are_filled(tmp_path):
    """Those that Holm's procedure over the panel leaves, as in the table."""
    rows = select(collect(fake_condition(tmp_path / "base", trusted=True)))
    for axis, column in zip(mv.plots.differences(rows).axes, ("log_mass", "log_volume"), strict=True):
        table = mv.paired_differences(rows, column)
        filled = {
            float(x)
            for line in axis.lines
            if line.get_marker() not in (".", "None", "") and line.get_markerfacecolor() != "white"
            for x in line.get_xdata()
            if line.get_markersize() == 8
        }
        assert filled == set(table.loc[table["clear"] != 0, "x"].astype(float))


def test_means_and_intervals_in_the_figure_are_those_of_the_table(figures, tmp_path):
    """The bars of the left panel."""
    table = aggregate(select(collect(fake_condition(tmp_path / "base"))), "log_mass")
    bars = figures["mass_against_data"].axes[0].containers[0]
    np.testing.assert_allclose(np.asarray(bars.lines[0].get_ydata(), dtype=float), table["mean"])
    segments = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(segments, table[["lower", "upper"]])
    native = [line for line in figures["mass_against_data"].axes[0].lines if line.get_label() == NATIVE]
    assert [line.get_xdata()[0] for line in native] == [20]


def test_bars_end_where_values_cannot_be(figures, tmp_path):
    """Test losses have geometric means, whose bars a logarithmic axis can show; accuracies end at 0 and 1, ranks at first and last."""
    rows = select(collect(fake_condition(tmp_path / "base")))
    rows["test_loss"] *= rows["run"].map({run: 10.0**i for i, run in enumerate(rows["run"].unique())})
    table = means(rows, "test_loss")
    by_x = rows.groupby("train_size")["test_loss"]
    np.testing.assert_allclose(table["mean"], by_x.apply(lambda values: np.exp(np.log(values).mean())))
    factor = np.exp(scipy.stats.t.ppf(0.975, 2) * by_x.apply(lambda values: np.log(values).std(ddof=1)) / np.sqrt(3))
    np.testing.assert_allclose((table["mean"] + table["above"]) / table["mean"], factor)
    assert (table["mean"] > table["below"]).all() and (aggregate(rows, "test_loss")["lower"] == 0).all()
    rows["test_accuracy"] = rows["run"].map(dict(zip(rows["run"].unique(), (0.0, 0.9, 1.0), strict=True)))
    bars = means(rows, "test_accuracy")
    np.testing.assert_allclose(bars["mean"] - bars["below"], 0, atol=1e-12)
    np.testing.assert_allclose(bars["mean"] + bars["above"], 1)
    for bar in figures["ranks_against_data"].axes[0].containers:
        for segment in bar.lines[2][0].get_segments():
            assert segment[:, 1].min() >= 1 - 1e-9 and segment[:, 1].max() <= 3 + 1e-9


def test_a_file_is_that_of_savefig(tmp_path):
    """Laid out once and drawn once, not twice, for every format; the picture is the same."""
    rows = select(collect(fake_condition(tmp_path / "base")))
    plain, ours = mv.plots.mass_against_data(rows), mv.plots.mass_against_data(rows)
    with style():
        plain.savefig(tmp_path / "plain.png", dpi=150)
    draws, layouts, engine = [], [], ours.get_layout_engine()
    ours.draw = lambda renderer, draw=ours.draw: (draws.append(1), draw(renderer))[1]
    engine.execute = lambda figure, execute=engine.execute: (layouts.append(1), execute(figure))[1]
    for ending in ("png", "svg"):
        save_figure(ours, tmp_path / f"ours.{ending}")
    assert len(draws) == 2 and len(layouts) == 1 and ours.get_layout_engine() is None
    pictures = [plt.imread(tmp_path / name) for name in ("ours.png", "plain.png")]
    assert pictures[0].shape == pictures[1].shape and np.abs(pictures[0] - pictures[1]).mean() < 1e-3


@pytest.mark.parametrize("name", SEVERAL_SERIES)
def test_several_series_have_a_legend(name, figures):
    """Non-empty, different entries."""
    entries = legends(figures[name])
    assert entries and all(entries) and len(set(entries)) == len(entries)


def test_legends_name_all_levels(figures):
    """One entry a model, in the order of the levels."""
    for name in ("held_out_curves", "radius_histogram", "training_curves"):
        assert legends(figures[name]) == ["20", "40", "60"]
    assert legends(figures["volumes"]) == ["20", "40", "60", "native"]
    (axis,) = figures["cutoff_curves"].axes  # direct labels
    assert sorted(text.get_text() for text in axis.texts if text.get_text().isdigit()) == ["20", "40", "60"]


def test_values_in_the_figures_are_those_of_the_files(figures, digits_run):
    """The volumes and the loss curves that are drawn."""
    results = mv.load_results(digits_run.results_file(0, 0.5))
    line = figures["volumes"].axes[0].lines[0]
    assert np.isnan(
        np.asarray(line.get_ydata(), dtype=float)
    ).all()  # none is an estimate: no line, hollow lower limits
    markers = [line for line in figures["volumes"].axes[0].lines[1:] if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata()[0] for line in markers] == [low for low, _ in results["log_volume_intervals"]]
    assert [line.get_xdata()[0] for line in markers] == [20, 40, 60]
    sweep = mv.read_sweep(digits_run.sweep_file(0, 20))
    lines = figures["loss_curves"].axes[1].lines
    np.testing.assert_allclose(np.array([line.get_ydata() for line in lines[:12]]), sweep.loss)
    (axis,) = figures["radius_histogram"].axes
    for line, radii in zip(axis.lines, read_npz(digits_run.radii_file(0, 0.5))["radius"], strict=True):
        np.testing.assert_allclose(line.get_xdata()[1:], np.sort(radii))
        np.testing.assert_allclose(line.get_ydata()[1:], np.arange(1, 13) / 12)


def test_a_minimum_looks_the_same_in_every_landscape(figures, digits_run, tmp_path):
    """In landscapes that have some of the minima alone, over seeds and in one run."""
    found = collect(fake_condition(tmp_path / "base"))
    small, large = looks_of(select(found, 0)), looks_of(select(found, 20))
    assert list(small) == [20, 40, 60] and list(large) == [40, 60]
    assert {x: small[x] for x in large} == large
    radii = [
        mv.plots.radius_histogram(
            mv.load_results(digits_run.results_file(q, 0.5)), read_npz(digits_run.radii_file(q, 0.5))
        )
        for q in (0, 20)
    ]
    first, second = ({str(line.get_label()): line for line in figure.axes[0].lines} for figure in radii)
    assert set(second) == {"40", "60"}
    for label, line in second.items():
        assert line.get_color() == first[label].get_color() and line.get_marker() == first[label].get_marker()


def test_workers_draw_what_one_process_draws(copied, digits_run):
    """File by file, to the byte; what is there and new is left alone."""
    copied = edit_config(copied.folder, {"perturbation.workers": 2})
    figures = sorted(copied.folder.glob("data_*/loss_*/*.png"))
    for path in figures:
        path.unlink()
    files = sorted(copied.folder.glob("data_*/loss_*/results.json"))
    written = mv.plots.save_volume_figures(copied, files)
    assert sorted(written) == figures and mv.plots.save_volume_figures(copied, files) == []
    assert [path.parent for path in written] == sorted(path.parent for path in written)
    for path in figures:
        assert path.read_bytes() == (digits_run.folder / path.relative_to(copied.folder)).read_bytes()


def test_two_seeds_have_a_range(tmp_path):
    """No 95 % interval of two values, which says nothing: the bars reach from one to the other. With three the differences come first."""
    found = collect(fake_condition(tmp_path / "two", seeds=2))
    table, values = means(select(found), "log_mass"), select(found).groupby("train_size")["log_mass"]
    np.testing.assert_allclose(table["mean"] - table["below"], values.min())
    np.testing.assert_allclose(table["mean"] + table["above"], values.max())
    two, three = draw(found), draw(collect(fake_condition(tmp_path / "three")))
    assert next(iter(two)) == "log_mass_against_data" and next(iter(three)) == "differences"
    for one in two.values():
        tidy(one.figure)
        assert not any("95 % interval" in entry for entry in legends(one.figure))
