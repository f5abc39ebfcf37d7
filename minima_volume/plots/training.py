"""Figures of the first notebook: samples of each level and training curves; and of the last: test accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from minima_volume.data import Dataset
from minima_volume.plots.style import BLUE, ORANGE, level_colors, new_figure, size_axis, styled
from minima_volume.training import Trained

SHOWN = 10


@styled
def samples(dataset: Dataset) -> Figure:
    """Some base and additional samples with their labels: images, points in the plane, or a histogram of labels."""
    shape = dataset.x_base_train.shape[1:]
    if len(shape) == 3 and shape[0] in (1, 3):
        return _images(dataset)
    if tuple(shape) == (2,):
        return _points(dataset)
    return _labels(dataset)


def _images(dataset: Dataset) -> Figure:
    rows = [("base", dataset.x_base_train, dataset.y_base_train)]
    if len(dataset.x_additional):
        rows.append((f"additional\n({dataset.dataset_type})", dataset.x_additional, dataset.y_additional))
    figure = new_figure(8, 1.15 * len(rows) + 0.3)
    axes = figure.subplots(len(rows), SHOWN, squeeze=False)
    for row, (title, x, y) in enumerate(rows):
        for column, axis in enumerate(axes[row]):
            axis.set_axis_off()
            if column < len(x):
                axis.imshow(_picture(x[column]), cmap="gray")
                axis.set_title(str(y[column].item()), fontsize=9)
        axes[row][0].text(
            -0.25,
            0.5,
            title,
            rotation=90,
            ha="right",
            va="center",
            multialignment="center",
            transform=axes[row][0].transAxes,
            fontsize=9,
        )
    return figure


def _picture(x: Tensor) -> np.ndarray:
    image = (x - x.min()) / (x.max() - x.min()).clamp(min=1e-12)
    return image.permute(1, 2, 0).squeeze(-1).numpy()


def _points(dataset: Dataset) -> Figure:
    parts = [("base", dataset.x_base_train, dataset.y_base_train)]
    if len(dataset.x_additional):
        parts.append(
            (
                f"base + {len(dataset.x_additional)} additional ({dataset.dataset_type})",
                dataset.x_train,
                dataset.y_train,
            )
        )
    parts.append(("test set", dataset.x_test, dataset.y_test))
    figure = new_figure(3.2 * len(parts), 3.2)
    for axis, (title, x, y) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        for label, color, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
            chosen = x[y == label].numpy()
            axis.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=12 if len(x) < 200 else 3,
                color=color,
                marker=marker,
                label=f"class {label}",
            )
        axis.set_aspect("equal")
        axis.set_title(f"{title}, {len(x)} points")
        axis.set_xlabel("$x_1$")
    figure.axes[0].set_ylabel("$x_2$")
    figure.axes[0].legend(loc="upper right", markerscale=1.5)
    return figure


def _labels(dataset: Dataset) -> Figure:
    figure = new_figure()
    axis = figure.subplots()
    for offset, (name, y) in enumerate((("base", dataset.y_base_train), ("additional", dataset.y_additional))):
        labels = y.argmax(-1) if y.ndim > 1 else y.long()
        counts = torch.bincount(labels.flatten(), minlength=dataset.num_classes).numpy()
        axis.bar(
            np.arange(len(counts)) + 0.4 * offset - 0.2,
            counts,
            0.4,
            label=f"{name} ({len(y)})",
            color=(BLUE, ORANGE)[offset],
        )
    axis.set(xlabel="label", ylabel="samples")
    axis.legend()
    return figure


@styled
def training_curves(trained: Trained) -> Figure:
    """Train and test loss, and test accuracy, of every model over epochs."""
    figure = new_figure(10, 3.4)
    panels = [
        ("train_loss", "train loss", "log"),
        ("test_loss", "test loss", "log"),
        ("test_accs", "test accuracy", "linear"),
    ]
    for axis, (key, label, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        for color, (level, record) in zip(level_colors(len(trained.records)), trained.records.items(), strict=True):
            axis.plot(np.arange(1, len(record[key]) + 1), record[key], color=color, label=str(level))
        axis.set(xlabel="epoch", ylabel=label, yscale=scale)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), title="additional\nsamples", loc="outside right upper")
    return figure


@styled
def accuracies(measured: Mapping[str, Any]) -> Figure:
    """Test accuracy and test loss against the number of training samples."""
    figure = new_figure(8, 3.4)
    for axis, (key, label, color) in zip(
        figure.subplots(1, 2),
        (("test_accs", "test accuracy", BLUE), ("test_loss", "test loss", ORANGE)),
        strict=True,
    ):
        axis.plot(measured["dataset_size"], measured[key], "o-", color=color)
        axis.set_ylabel(label)
        size_axis(axis, measured["dataset_size"])
    return figure
