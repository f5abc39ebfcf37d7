"""The samples of a run, for the first notebook: some of each level, and how the classes are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from minima_volume.data import Dataset
from minima_volume.plots.style import BLUE, ORANGE, new_figure, styled

SHOWN, MAX_ROWS, MAX_NAMED, TEXT_WIDTH = 9, 6, 40, 56
Part = tuple[str, Tensor, Tensor]


@styled
def samples(dataset: Dataset) -> Figure:
    """Some of the samples that each level adds, and the share of each class among base and additional samples.

    Images are shown as images, points in the plane as points, windows of text as text; of anything else only the classes.
    """
    shape = tuple(dataset.x_base_train.shape[1:])
    if shape == (2,):
        return _points(dataset)
    if len(shape) == 3 and shape[0] in (1, 3):
        figure = new_figure(10.5, max(0.85 * len(added(dataset)), 3.0))
        halves: Any = figure.subfigures(1, 2, width_ratios=[1.7, 1])
        left, right = halves
        _images(left, dataset)
        _classes(right.subplots(), dataset)
        return figure
    if len(shape) == 1 and not dataset.x_base_train.is_floating_point() and dataset.label_names:
        figure = new_figure(10.5, 3.4)
        halves = figure.subfigures(1, 2, width_ratios=[1.3, 1])
        left, right = halves
        _texts(left.subplots(), dataset)
        _classes(right.subplots(), dataset)
        return figure
    figure = new_figure(7, 3.4)
    _classes(figure.subplots(), dataset)
    return figure


def added(dataset: Dataset) -> list[Part]:
    """The base samples, and for each level those that the level before does not have: at most 6 parts, evenly chosen."""
    parts: list[Part] = [(f"base\n{dataset.base_size:,}", dataset.x_base_train, dataset.y_base_train)]
    cuts = sorted({0, *dataset.levels})
    for start, stop in pairwise(cuts):
        name = "" if dataset.dataset_type == "data" else f"\n{dataset.dataset_type}"
        parts.append((f"+{stop:,}{name}", dataset.x_additional[start:stop], dataset.y_additional[start:stop]))
    if len(parts) <= MAX_ROWS:
        return parts
    return [parts[i] for i in np.linspace(0, len(parts) - 1, MAX_ROWS).round().astype(int)]


def _images(figure: SubFigure, dataset: Dataset) -> None:
    rows = added(dataset)
    for axes, (title, x, y) in zip(figure.subplots(len(rows), SHOWN, squeeze=False), rows, strict=True):
        for column, axis in enumerate(axes):
            axis.set_axis_off()
            if column < len(x):
                axis.imshow(_picture(x[column]), cmap="gray")
                axis.set_title(_name(dataset, int(y[column])), fontsize=8, pad=2)
        axes[0].text(
            -0.2, 0.5, title, ha="right", va="center", multialignment="right", transform=axes[0].transAxes, fontsize=9
        )


def _picture(x: Tensor) -> np.ndarray:
    image = (x - x.min()) / (x.max() - x.min()).clamp(min=1e-12)
    return image.permute(1, 2, 0).squeeze(-1).numpy()


def _name(dataset: Dataset, label: int) -> str:
    return dataset.label_names[label] if dataset.label_names else str(label)


def _texts(axis: Axes, dataset: Dataset) -> None:
    """The beginnings of two windows of each part."""
    axis.set_axis_off()
    rows = added(dataset)
    for i, (title, x, _) in enumerate(rows):
        height = 1 - (i + 0.5) / len(rows)
        windows = ["".join(dataset.label_names[code] for code in window[:TEXT_WIDTH].tolist()) for window in x[:2]]
        text = "\n".join(map(visible, windows))
        axis.text(0.13, height, title.replace("\n", " "), ha="right", va="center", fontsize=9)
        axis.text(0.16, height, text, ha="left", va="center", fontsize=8, family="monospace", parse_math=False)
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_title(f"windows of {dataset.x_base_train.shape[1]} characters (their first {TEXT_WIDTH})")


def visible(text: str) -> str:
    """Text on one line: signs in place of line ends, tabs and other control characters.

    >>> visible("a\\n\\tb")
    'a¶→b'
    """
    return "".join({"\n": "¶", "\t": "→"}.get(c, "·" if ord(c) < 32 else c) for c in text)


def _classes(axis: Axes, dataset: Dataset) -> None:
    """Share of each class among the base and among the additional samples; the most frequent ones of many."""
    parts = [("base", dataset.y_base_train, BLUE)]
    if len(additional := dataset.y_train[dataset.base_size :]):
        name = "additional" if dataset.dataset_type == "data" else f"additional ({dataset.dataset_type})"
        parts.append((name, additional, ORANGE))
    counts = [class_counts(y, dataset.num_classes) for _, y, _ in parts]
    order = np.arange(len(counts[0]))
    if many := len(order) > MAX_NAMED:
        order = np.sort(np.argsort(-sum(counts), kind="stable")[:MAX_NAMED])
    width = 0.8 / len(parts)
    for i, ((name, y, color), count) in enumerate(zip(parts, counts, strict=True)):
        left = np.arange(len(order)) + width * (i - (len(parts) - 1) / 2)
        axis.bar(left, count[order] / max(count.sum(), 1), width, label=f"{name}, {len(y):,} samples", color=color)
    class_ticks(axis, dataset, order.tolist())
    axis.set(xlabel=f"the {MAX_NAMED} most frequent of {len(counts[0])} classes" if many else "class", ylabel="share")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, columnspacing=1, handlelength=1)


def class_ticks(axis: Axes, dataset: Dataset, order: Sequence[int]) -> None:
    names = [_name(dataset, int(label)) for label in order]
    names = ["␣" if name == " " else visible(name) for name in names]
    steep = max(map(len, names)) > 2 or (max(map(len, names)) == 2 and len(names) > 20)
    axis.set_xticks(range(len(names)), names, rotation=90 if steep else 0, fontsize=8)
    for label in axis.get_xticklabels():
        label.set_parse_math(False)
    axis.grid(axis="x", visible=False)


def class_counts(y: Tensor, num_classes: int) -> np.ndarray:
    """How often each class occurs; of one-hot targets the largest entry counts, of tokens each one."""
    one_hot = y.ndim > 1 and y.is_floating_point()
    labels = y.argmax(-1) if one_hot else y.long()
    return torch.bincount(labels.flatten(), minlength=max(num_classes, 2)).numpy()


def _points(dataset: Dataset) -> Figure:
    figure, axes = panels(len(dataset.levels) + 1)
    for axis, level in zip(axes, dataset.levels, strict=False):
        size = dataset.base_size + level
        marked_points(axis, dataset, size)
        axis.set_title(f"base, {size:,}" if level == 0 else f"+{level:,} ({dataset.dataset_type})")
    scatter(axes[-1], dataset.x_test, dataset.y_test)
    axes[-1].set_title(f"test set, {len(dataset.x_test):,}")
    figure.legend(*axes[-2].get_legend_handles_labels(), loc="outside lower center", ncols=4, markerscale=1.3)
    return figure


def marked_points(axis: Axes, dataset: Dataset, size: int) -> None:
    """The first training samples as points in the plane; those that were made wrong or at random stand out."""
    first = size if dataset.dataset_type == "data" else min(dataset.base_size, size)
    scatter(axis, dataset.x_train[:first], dataset.y_train[:first])
    if size > first:
        made = dataset.x_train[first:size], dataset.y_train[first:size]
        scatter(axis, *made, 26, edge="black", note=f", {dataset.dataset_type}")


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Equal square panels in the plane, at most four a row, that share their axes."""
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = new_figure(2.6 * columns, 2.55 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten().tolist()
    for i, axis in enumerate(axes):
        axis.set_aspect("equal")
        axis.set(xlabel="$x_1$" if i + columns >= count else "", ylabel="$x_2$" if i % columns == 0 else "")
        axis.tick_params(labelbottom=i + columns >= count)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def scatter(axis: Axes, x: Tensor, y: Tensor, size: float | None = None, edge: str = "none", note: str = "") -> None:
    """Points in the plane, a colour and a marker for each of two classes."""
    size = size or (16 if len(x) < 200 else 7 if len(x) < 1000 else 2)
    for label, color, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
        chosen = x[y.flatten() == label].numpy()
        axis.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=size,
            color=color,
            marker=marker,
            label=f"class {label}{note}",
            edgecolors=edge,
            linewidths=0.6,
        )
