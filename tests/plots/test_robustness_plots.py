"""Figures of a robustness study show what results.json says."""

from __future__ import annotations

import pytest
import torch
from robustness_cases import tiny_study

from minima_volume.plots.robustness import accuracy_under_noise, drops, layer_profile, volume_beside_robustness
from minima_volume.plots.style import figure_bytes
from minima_volume.robustness.run import run_study


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    torch.set_num_threads(1)
    volume = {
        "volume.architectures": ["mlp"],
        "volume.alphas": [0.5, 1.0],
        "volume.accuracies": [0.3],
        "volume.layers": 0.5,
    }
    sizes = {"volume.subset": 50, "volume.num_particles": 20, "volume.num_repeats": 2, "volume.num_moves": 2}
    study = tiny_study(tmp_path_factory.mktemp("study"), {**volume, **sizes, "training.epochs": 4})
    return run_study(study, say=lambda text: None)


def drawn(figure) -> bytes:
    return figure_bytes(figure, dpi=50)


def test_accuracy_under_noise(results):
    """A panel per architecture; lines go through the means of the rows."""
    figure = accuracy_under_noise(results)
    assert [axis.get_title() for axis in figure.axes] == ["mlp", "cnn"] and drawn(figure)
    rows = [row for row in results["sweep"] if row["architecture"] == "mlp" and row["regime"] == "clean"]
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 0.1, 0.5]
    end = [row["acc"] for row in rows if row["alpha_test"] == 0.5]
    assert line.get_ydata()[-1] == pytest.approx(sum(end) / len(end))


def test_drops(results):
    """A bar per architecture and regime at its mean, and what is resolved."""
    figure = drops(results)
    assert drawn(figure)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    expected = [
        row["drop"]["mean"] for regime in ("clean", "noisy") for row in results["mean_drops"] if row["regime"] == regime
    ]
    assert heights == pytest.approx(expected)
    words = {text.get_text() for text in figure.axes[1].texts}
    assert words <= {"resolved", "not resolved"} and words


def test_layer_profile(results):
    """The tensors by name."""
    figure = layer_profile(results, "mlp")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["layers.1.weight", "layers.3.weight"]
    assert drawn(figure)


def test_volume_beside_robustness(results):
    """Both networks in both panels."""
    figure = volume_beside_robustness(results, "mlp")
    assert drawn(figure)
    left, right = (axis.get_legend_handles_labels()[1] for axis in figure.axes)
    assert left == ["trained clean", "trained under noise"]
    assert right == ["trained clean, a = 0.3", "trained under noise, a = 0.3"]


@pytest.mark.parametrize(("end", "marker"), [("lower", "^"), ("upper", "v")])
def test_a_limit_alone_is_drawn(results, end, marker):
    """Where plain draws have no hit, and where repeats disagree: an arrow at the limit, towards where the volume may be."""
    other = {"lower": "upper", "upper": "lower"}[end]
    volumes = [dict(row) for row in results["volumes"]]
    lost = next(row for row in volumes if row["regime"] == "clean" and row["alpha"] == 1.0)
    lost.update({"log_mass": None, end: -3.0, other: None})
    right = volume_beside_robustness({**results, "volumes": volumes}, "mlp").axes[1]
    arrows = [line for line in right.lines if line.get_marker() == marker and len(line.get_xdata())]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in arrows] == [([1.0], [-3.0])]
    assert "arrow: limit" in right.get_title()
    assert "arrow" not in volume_beside_robustness(results, "mlp").axes[1].get_title()
