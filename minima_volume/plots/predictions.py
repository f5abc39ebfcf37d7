"""What the trained models answer, for the first notebook: decision regions in the plane, else test accuracy by class."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor, nn

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.losses.registry import get_loss
from minima_volume.plots.samples import MAX_NAMED, class_counts, class_ticks, marked_points, panels
from minima_volume.plots.style import BLUE, new_figure, styled
from minima_volume.stages.run import minimum_name, variation_of
from minima_volume.stages.trained import Trained
from minima_volume.training.evaluation import accuracy, per_sample

CLASSES = LinearSegmentedColormap.from_list("classes", ["#9cc9e6", "#ffffff", "#f7d38b"])  # of the points, paler
GRID, MAX_SAMPLES = 160, 2000


@styled
def predictions(trained: Trained, loss: str) -> Figure:
    """Decision regions of every model if samples are points in the plane, else its test accuracy class by class.

    If accuracy is undefined for the loss, as for a function of your own, the test loss of every model.

    Args:
        trained: models and samples of a run.
        loss: the training loss as config.yaml names it, which says when an answer is right.
    """
    if all(math.isnan(accuracy) for record in trained.records.values() for accuracy in record["test_accs"]):
        return _test_losses(trained, loss)
    if tuple(trained.dataset.x_base_train.shape[1:]) == (2,):
        return _regions(trained)
    return _by_class(trained, loss)


def _test_losses(trained: Trained, loss: str) -> Figure:
    variation = variation_of(next(iter(trained.records.values())))
    figure = new_figure(max(4.0, 0.5 * len(trained.models) + 2), 3.0)
    axis: Axes = figure.subplots()
    values = [record["test_loss"][record["epoch"] - 1] for record in trained.records.values()]
    axis.bar([minimum_name(minimum, variation) for minimum in trained.models], values, color=BLUE)
    axis.set(ylabel="test loss", title=f"accuracy is undefined for loss {loss!r} on these targets")
    return figure


@torch.no_grad()
def _regions(trained: Trained) -> Figure:
    """Probability of class 1 over the plane, the boundary at 1/2, and the samples the model was trained on."""
    dataset = trained.dataset
    low, high = dataset.x_train.amin(0), dataset.x_train.amax(0)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    first, second = (
        torch.linspace(float(a), float(b), GRID, dtype=torch.float32, device="cpu")
        for a, b in zip(low, high, strict=True)
    )
    grid = torch.cartesian_prod(first, second)
    figure, axes = panels(len(trained.models))
    variation = variation_of(next(iter(trained.records.values())))
    for axis, (level, model) in zip(axes, trained.models.items(), strict=True):
        size = trained.records[level]["train_size"]
        values = probability(model(grid)).reshape(GRID, GRID).T.numpy()
        axis.contourf(first, second, values, levels=np.linspace(0, 1, 11), cmap=CLASSES)
        axis.contour(first, second, values, levels=[0.5], colors="black", linewidths=0.8)
        marked_points(axis, dataset, size)
        axis.grid(False)
        accuracy = trained.records[level]["test_accs"][trained.records[level]["epoch"] - 1]
        name = f"{size:,} training samples" if variation == "level" else minimum_name(level, variation)
        axis.set_title(f"{name}\ntest accuracy {accuracy:.3f}", fontsize=8.5)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, markerscale=1.3)
    return figure


def probability(outputs: Tensor) -> Tensor:
    """Of class 1, from one logit or from two."""
    return outputs[:, 0].sigmoid() if outputs.shape[1] == 1 else outputs.softmax(1)[:, 1]


def _by_class(trained: Trained, loss: str) -> Figure:
    """A row a model, a column a class; the most frequent classes of many."""
    dataset = trained.dataset
    chosen = torch.linspace(
        0, len(dataset.x_test) - 1, min(len(dataset.x_test), MAX_SAMPLES), dtype=torch.float32, device="cpu"
    ).long()
    x, y = dataset.x_test[chosen], dataset.y_test[chosen]
    counts = class_counts(y, dataset.num_classes)
    order = np.sort(np.argsort(-counts, kind="stable")[:MAX_NAMED])
    rows = [class_accuracies(model, x, y, loss, len(counts))[order] for model in trained.models.values()]
    figure = new_figure(max(5.0, 0.24 * len(order) + 3), 0.42 * len(rows) + 1.3)
    axis: Axes = figure.subplots()
    image = axis.imshow(np.array(rows), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axis.grid(False)
    variation = variation_of(next(iter(trained.records.values())))
    sizes = [record["train_size"] if variation == "level" else minimum for minimum, record in trained.records.items()]
    axis.set_yticks(range(len(rows)), [f"{size:,}" for size in sizes])
    class_ticks(axis, dataset, order.tolist())
    axis.set(ylabel=AXIS_LABELS[variation], xlabel="class", title=f"test accuracy by class, {len(x):,} test samples")
    figure.colorbar(image, ax=axis, label="test accuracy")
    return figure


def class_accuracies(model: nn.Module, x: Tensor, y: Tensor, loss: str, num_classes: int) -> np.ndarray:
    """Share of right answers of each class, NaN for a class that does not occur; (num_classes,)."""
    joined = per_sample(model, (x, y), get_loss(loss))[1]
    labels = (y.argmax(-1) if y.ndim > 1 and y.is_floating_point() else y.long()).reshape(joined.shape)
    chosen = [joined[labels == label] for label in range(num_classes)]
    return np.array([accuracy(part) if len(part) else math.nan for part in chosen])
