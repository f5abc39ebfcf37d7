"""Figures of an experiment directory: loss curves, reconstructions, the latent variables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from minima_volume.directories.directory import Directory, held
from minima_volume.directories.load import Checkpoint, kept_checkpoint
from minima_volume.directories.sources import Samples
from minima_volume.losses.generative import kl_per_dimension
from minima_volume.models.sae import SAE
from minima_volume.models.vae import VAE
from minima_volume.plots.style import BLUE, ORANGE, new_figure, save_figure, styled

SHOWN = 10  # images
POINTS = 2000  # of the latent plane
COLUMNS = 4
PAIRED = 4  # latent variables of a pair plot


@styled
def loss_curves(history: dict[str, dict[int, float]], best: int | None = None) -> Figure:
    """Every metric over epochs; training and validation loss share a panel.

    Args:
        history: metric -> epoch -> value, from `Directory.history`.
        best: the epoch of the best checkpoint, marked by a line.
    """
    others = [name for name in history if name not in ("train_loss", "val_loss")]
    columns = min(COLUMNS, 1 + len(others))
    rows = -(-(1 + len(others)) // columns)
    figure = new_figure(3.0 * columns, 2.5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, color in (("train_loss", BLUE), ("val_loss", ORANGE)):
        if name in history:
            axes[0].plot(list(history[name]), list(history[name].values()), color=color, label=name.replace("_", " "))
    axes[0].set(xlabel="epoch", ylabel="loss")
    for axis, name in zip(axes[1:], others, strict=False):
        axis.plot(list(history[name]), list(history[name].values()), color=ORANGE)
        axis.set(xlabel="epoch", ylabel=name.removeprefix("val_").replace("_", " "))
    for axis in axes[: 1 + len(others)]:
        if best is not None:
            axis.axvline(best, color="#bbbbbb", linewidth=0.8, zorder=0)
    for axis in axes[1 + len(others) :]:
        axis.remove()
    axes[0].legend()
    return figure


@styled
def reconstructions(images: np.ndarray, made: np.ndarray) -> Figure:
    """Images above what the model makes of them.

    Args:
        images: (n, channels, height, width), from 0 to 1.
        made: of the same shape.
    """
    figure = new_figure(0.8 * len(images), 1.9)
    axes = figure.subplots(2, len(images), squeeze=False)
    for row, (label, pictures) in enumerate((("data", images), ("model", made))):
        for axis, picture in zip(axes[row], pictures, strict=True):
            shown = np.moveaxis(picture, 0, -1) if len(picture) == 3 else picture[0]
            axis.imshow(np.clip(shown, 0, 1), cmap="gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        axes[row, 0].set_ylabel(label)
    return figure


@styled
def latent_plane(mean: np.ndarray, kl: np.ndarray) -> Figure:
    """Samples in the two latent variables that carry most.

    Args:
        mean: (samples, latent_dim) posterior means.
        kl: (latent_dim,) nats per variable.
    """
    first, second = np.argsort(-kl)[:2]
    figure = new_figure(4.2, 4.0)
    axis = figure.subplots()
    axis.plot(mean[:, first], mean[:, second], ".", color=BLUE, markersize=3, alpha=0.5)
    axis.set(
        xlabel=f"latent variable {first} ({kl[first]:.2f} nats)",
        ylabel=f"latent variable {second} ({kl[second]:.2f} nats)",
    )
    axis.set_aspect("equal", adjustable="datalim")
    return figure


@styled
def latent_pairs(mean: np.ndarray, kl: np.ndarray) -> Figure:
    """Samples in every pair of the latent variables that carry most, and the distribution of each beside the standard normal prior.

    Args:
        mean: (samples, latent_dim) posterior means.
        kl: (latent_dim,) nats per variable.
    """
    chosen = np.argsort(-kl)[:PAIRED]
    figure = new_figure(2.0 * len(chosen), 2.0 * len(chosen))
    axes = figure.subplots(len(chosen), len(chosen), squeeze=False)
    grid = np.linspace(-3.5, 3.5, 200)
    for row, below in enumerate(chosen):
        for column, beside in enumerate(chosen):
            axis = axes[row, column]
            if column > row:
                axis.remove()
                continue
            if column == row:
                axis.hist(mean[:, below], bins=40, density=True, color=BLUE, alpha=0.6)
                axis.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=ORANGE)
                axis.set_title(f"variable {below}: {kl[below]:.2f} nats", fontsize=9)
            else:
                axis.plot(mean[:, beside], mean[:, below], ".", color=BLUE, markersize=2, alpha=0.4)
            axis.tick_params(labelsize=8)
            if row == len(chosen) - 1:
                axis.set_xlabel(f"variable {beside}")
            if column == 0 and row:
                axis.set_ylabel(f"variable {below}")
    return figure


def draw_directory(folder: Path, places: Sequence[Path] = ()) -> list[Path]:
    """Draw what there is to draw of a directory, into its figures/.

    Args:
        folder: the directory.
        places: folders in which a user's own class is looked for.

    Returns:
        The files: loss_curves.png if there is a log, reconstructions.png of images, latent_plane.png of a VAE with two latent
        variables, latent_pairs.png with more.

    Raises:
        MissingStageError: no experiment directory, or it has no checkpoint.
    """
    directory = Directory(folder)
    checkpoint = kept_checkpoint(directory)
    config = checkpoint.config
    figures: dict[str, Figure] = {}
    if history := directory.history():
        best = int(checkpoint.content["epoch"]) if checkpoint.path.name.startswith("best") else None
        figures["loss_curves"] = loss_curves(history, best)
    split, source = ("train", config.train) if config.val is None else ("val", config.val)
    samples = checkpoint.samples(source, split)
    figures |= _of_model(checkpoint, samples, places)
    with held(directory):
        return [save_figure(figure, directory.figures / f"{name}.png") for name, figure in figures.items()]


@torch.no_grad()
def _of_model(checkpoint: Checkpoint, samples: Samples, places: Sequence[Path]) -> dict[str, Figure]:
    model = checkpoint.model(samples.shape, "cpu", places)
    figures = {}
    if len(samples.shape) == 3 and isinstance(model, VAE | SAE):
        images = samples.take(slice(0, SHOWN))
        figures["reconstructions"] = reconstructions(images.numpy(), model.predict(images).numpy())
    if isinstance(model, VAE) and model.latent_dim > 1:
        outputs = model(samples.take(slice(0, POINTS)))
        kl = kl_per_dimension(outputs["mean"], outputs["log_variance"]).mean(0)
        name, draw = ("latent_plane", latent_plane) if model.latent_dim == 2 else ("latent_pairs", latent_pairs)
        figures[name] = draw(outputs["mean"].numpy(), kl.numpy())
    return figures
