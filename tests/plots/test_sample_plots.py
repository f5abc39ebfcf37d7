"""Figures of the first notebook: the samples of each level, how classes are mixed, and what the models answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SWISS, make_run

import minima_volume as mv
from minima_volume.losses.registry import get_loss
from minima_volume.plots.samples import added
from minima_volume.plots.style import save_figure
from minima_volume.training.evaluation import evaluate


def bars(axis):
    """Heights of the bars, one list a legend entry."""
    return [[bar.get_height() for bar in container] for container in axis.containers]


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_images_of_each_level_and_the_share_of_each_class(tmp_path):
    """A row for the base and for what each level adds, titled with the labels; shares add up to 1 and show the imbalance."""
    imbalance = {"labels": [3], "ratio": 0.5, "base": True}
    run = make_run(tmp_path / "model_0_data_10", {"data.imbalance": imbalance})
    data = mv.prepare_data(run)
    figure = mv.plots.samples(data)
    titles = [axis.get_title() for axis in figure.axes[:27]]
    y = [*data.y_base_train[:9], *data.y_additional[:9], *data.y_additional[20:29]]
    assert titles == [str(int(label)) for label in y]
    assert [title for title, _, _ in added(data)] == ["base\n20", "+20", "+40"]
    np.testing.assert_array_equal(figure.axes[9].images[0].get_array(), picture(data.x_additional[0]))
    base, additional = bars(figure.axes[27])
    assert base[3] == 0.5 and sum(base) == pytest.approx(1) == sum(additional)
    assert legend(figure.axes[27]) == ["base, 20 samples", "additional, 40 samples"]


def picture(x):
    return ((x - x.min()) / (x.max() - x.min()))[0]


def test_many_levels_are_shown_by_six_rows(tmp_path):
    """The first and the last among them; a variant is named."""
    overrides = {"data.levels": [0, 10, 20, 30, 40, 50, 60, 70], "data.variant": "poison"}
    run = make_run(tmp_path / "model_0_data_10", overrides)
    rows = [title for title, _, _ in added(mv.prepare_data(run))]
    assert len(rows) == 6 and rows[0] == "base\n20" and rows[-1] == "+70\npoison"


def test_points_are_drawn_with_their_classes(tmp_path):
    """The swiss roll: a panel a level and the test set; poisoned points of a class have a legend entry of their own."""
    run = make_run(tmp_path / "model_0_data_10", {**SWISS, "data.variant": "poison"})
    figure = mv.plots.samples(mv.prepare_data(run))
    assert [axis.get_title() for axis in figure.axes] == ["base, 20", "+20 (poison)", "+40 (poison)", "test set, 200"]
    drawn = [sum(len(points.get_offsets()) for points in axis.collections) for axis in figure.axes]
    assert drawn == [20, 40, 60, 200]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["class 0", "class 1", "class 0, poison", "class 1, poison"]


def test_decision_regions_are_those_of_the_models(tmp_path):
    """A panel a model, and the boundary passes where the model's logit is 0."""
    run = make_run(tmp_path / "model_0_data_10", {**SWISS, "data.levels": [0, 40]}, stages=("train",))
    trained = mv.load_models_and_data(run)
    figure = mv.plots.predictions(trained, "bce_with_logits")
    assert len(figure.axes) == 2
    for axis, model in zip(figure.axes, trained.models.values(), strict=True):
        boundary = torch.tensor(axis.collections[1].get_paths()[0].vertices, dtype=torch.float32)
        with torch.no_grad():
            assert model(boundary).sigmoid().sub(0.5).abs().max() < 0.1
    save_figure(figure, tmp_path / "regions.png")


def test_accuracy_by_class_is_that_of_the_models(digits_run):
    """Weighted by how often a class occurs, the row is the test accuracy."""
    trained = mv.load_models_and_data(digits_run)
    figure = mv.plots.predictions(trained, "cross_entropy")
    rows = np.asarray(figure.axes[0].images[0].get_array())
    data = trained.dataset
    share = torch.bincount(data.y_test, minlength=10).numpy() / len(data.y_test)
    wanted = [evaluate(m, (data.x_test, data.y_test), get_loss("cross_entropy"))[1] for m in trained.models.values()]
    np.testing.assert_allclose(rows @ share, wanted, atol=1e-9)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["20", "40", "60"]


@pytest.mark.parametrize("source", ["modulo_arithmetic", "text"])
def test_other_samples_have_a_picture_too(source, tmp_path):
    """One-hot targets count by their largest entry; of text windows are shown, and its characters counted."""
    options = {"modulo_arithmetic": {"modulus": 7}, "text": {"path": "a.txt", "block_size": 8}}[source]
    overrides = {"data.source": source, "data.options": options, "data.base_size": 20, "data.levels": [0, 20]}
    run = make_run(tmp_path / "model_0_data_10", {**overrides, "training.loss": "mse"})
    (run.folder / "a.txt").write_text("to be,\tor $not$ to be\n" * 40, encoding="utf-8")
    data = mv.prepare_data(run)
    figure = mv.plots.samples(data)
    base, additional = bars(figure.axes[-1])
    assert sum(base) == pytest.approx(1) == sum(additional)
    if source == "text":
        shown = "".join(text.get_text() for text in figure.axes[0].texts)
        assert "to be" in shown.replace("\n", "") or "or" in shown
        assert "\t" not in shown and base[list(data.label_names).index("t")] == pytest.approx(
            (data.y_base_train == data.label_names.index("t")).double().mean().item()
        )
    save_figure(figure, tmp_path / "samples.png")
