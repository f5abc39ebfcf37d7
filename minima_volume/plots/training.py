"""Training curves, for the first notebook, and test accuracy, for the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.plots.marks import looks
from minima_volume.plots.style import BLUE, GREY, ORANGE, new_figure, size_axis, styled
from minima_volume.stages.run import variation_of
from minima_volume.stages.trained import Trained


@styled
def training_curves(trained: Trained) -> Figure:
    """Train and test loss, and test accuracy, of every model over epochs."""
    figure = new_figure(10, 3.4)
    variation = variation_of(next(iter(trained.records.values())))
    panels = [
        ("train_loss", "train loss", "log"),
        ("test_loss", "test loss", "log"),
        ("test_accs", "test accuracy", "linear"),
    ]
    for axis, (key, label, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        for (level, look), record in zip(looks(list(trained.records)).items(), trained.records.values(), strict=True):
            name = f"{record['train_size'] if variation == 'level' else level:,}"
            style: dict[str, Any] = {"marker": look.marker, "markevery": 0.15, "markersize": 5}
            axis.plot(np.arange(1, len(record[key]) + 1), record[key], color=look.color, **style, label=name)
        axis.set(xlabel="epoch", ylabel=label, yscale=scale)
    _say_if_undefined(figure.axes[2], [value for record in trained.records.values() for value in record["test_accs"]])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), title=AXIS_LABELS[variation], loc="outside right upper")
    return figure


@styled
def accuracies(measured: Mapping[str, Any]) -> Figure:
    """Test accuracy and test loss against the number of training samples, or the epoch or batch size of a series."""
    figure = new_figure(8, 3.4)
    for axis, (key, label, color) in zip(
        figure.subplots(1, 2),
        (("test_accs", "test accuracy", BLUE), ("test_loss", "test loss", ORANGE)),
        strict=True,
    ):
        variation = variation_of(measured)
        x = measured["dataset_size" if variation == "level" else "variation_values"]
        axis.plot(x, measured[key], "o-", color=color)
        axis.set_ylabel(label)
        size_axis(axis, x, AXIS_LABELS[variation])
    _say_if_undefined(figure.axes[0], measured["test_accs"])
    return figure


def _say_if_undefined(axis: Axes, accuracies: Sequence[float]) -> None:
    if np.isnan(accuracies).all():
        axis.set_yticks([])
        axis.text(
            0.5,
            0.5,
            "accuracy is undefined\nfor this loss",
            color=GREY,
            ha="center",
            va="center",
            transform=axis.transAxes,
        )
