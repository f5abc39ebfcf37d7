"""A model with one parameter whose wide minimum is the larger one on little data, and none at all on more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from minima_volume import measure_volume
from minima_volume.plots.style import BLUE, GREY, ORANGE, RED, new_figure, plain_log, styled

SLOW = 0.8  # frequency of the wide well
TRUE = SLOW + 2 * math.pi  # the same at every whole x
BASE, THRESHOLD = 60, 0.1
HEIGHT = 2.4  # of the loss axis


class Sine(nn.Module):
    """f(x) = sin(e^w x): one parameter, the log of a frequency, so that a slow sine is as easy to write down as a fast one."""

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([math.log(frequency)], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.weight.exp() * x)


@dataclass(frozen=True)
class Wells:
    """Two wells as samples are added.

    Attributes:
        additional: (K,) additional samples.
        frequencies: (G,) where the loss is evaluated.
        losses: (K, G).
        widths: (K, 2) of the intervals of w around the slow and the true frequency in which loss <= threshold; 0 if there is none.
        log_masses: (K, 2) log P[loss <= threshold] under noise of size sigma on w, by `measure_volume`; NaN where the well is none.
        sigma: of the noise.
    """

    additional: np.ndarray
    frequencies: np.ndarray
    losses: np.ndarray
    widths: np.ndarray
    log_masses: np.ndarray
    sigma: float


def samples(additional: int, seed: int = 1) -> Tensor:
    """Base samples at whole numbers 0..4, where the slow and the true sine agree; additional ones anywhere in 0..8."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 5, BASE)
    return torch.from_numpy(np.concatenate([base, random.uniform(0, 8, 1000)[:additional]]))[:, None]


def measure_wells(
    additional: Sequence[int] = (0, 4, 8, 12, 20, 60), points: int = 4001, sigma: float = 0.1, seed: int = 1
) -> Wells:
    """Losses on a grid of frequencies, the widths of two wells, and their Gaussian local volumes."""
    frequencies = np.geomspace(0.3, 9, points)
    losses, widths, masses = [], [], []
    for count in additional:
        x = samples(count, seed)
        y = torch.sin(TRUE * x)
        outputs = torch.sin(torch.from_numpy(frequencies) * x)
        loss = (outputs - y).square().mean(0).numpy()
        bottoms = [lowest(frequencies, loss, start) for start in (SLOW, TRUE)]
        widths.append([width(np.log(frequencies), loss, bottom) for bottom in bottoms])
        found = [
            measure_volume(
                Sine(frequencies[bottom]),
                x,
                y,
                "mse",
                threshold=THRESHOLD,
                sigma=sigma,
                scaling="none",
                progress=False,
            )
            for bottom in bottoms
        ]
        masses.append([math.nan if mass.log_mass is None else mass.log_mass for mass in found])
        losses.append(loss)
    return Wells(np.array(additional), frequencies, np.array(losses), np.array(widths), np.array(masses), sigma)


def lowest(frequencies: np.ndarray, loss: np.ndarray, start: float) -> int:
    """Where the loss is lowest within 10 % of a frequency."""
    near = np.abs(np.log(frequencies / start)) < 0.1
    return int(np.flatnonzero(near)[loss[near].argmin()])


def width(w: np.ndarray, loss: np.ndarray, bottom: int) -> float:
    """Length of the interval around the bottom in which the loss is within the threshold; 0 where the bottom is not.

    >>> width(np.linspace(-1, 1, 2001), np.linspace(-1, 1, 2001) ** 2, 1000)  # w^2 <= 0.1
    0.632
    """
    if loss[bottom] > THRESHOLD:
        return 0.0
    outside = np.flatnonzero(loss > THRESHOLD)
    low, high = outside[outside < bottom].max(), outside[outside > bottom].min()
    return round(float(w[high - 1] - w[low + 1]), 6)


@styled
def figure_of_wells(wells: Wells, shown: Sequence[int] = (0, 12, 60)) -> Figure:
    """The landscape at three amounts of data, and the size of both wells against the amount."""
    figure = new_figure(10.5, 5.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    axes = top.subplots(1, len(shown), sharey=True)
    for axis, count in zip(axes, shown, strict=True):
        landscape(axis, wells, int(np.flatnonzero(wells.additional == count)[0]))
    axes[0].set_ylabel("loss")
    left, right = bottom.subplots(1, 2)
    x = np.arange(len(wells.additional))
    for column, (name, color, marker) in enumerate((("slow sine", ORANGE, "s"), ("true sine", BLUE, "o"))):
        style = {"color": color, "marker": marker, "markersize": 6, "label": name}
        left.plot(x, wells.widths[:, column], **style)
        right.plot(x, wells.log_masses[:, column], **style)
    left.set(ylabel=f"width of the well in w\n(loss ≤ {THRESHOLD:g})")
    right.set(ylabel=f"log mass (nats), sigma {wells.sigma:g}", ylim=(None, 0.1))
    gone = x[np.isnan(wells.log_masses[:, 0])]
    if len(gone):
        right.axvspan(gone[0] - 0.5, gone[-1] + 0.3, color=ORANGE, alpha=0.12, linewidth=0)
        right.text(gone[0] - 0.4, -0.1, "slow sine:\nno minimum,\nno volume", color=GREY, fontsize=9, va="top")
    for axis in (left, right):
        axis.set_xticks(x, [str(count) for count in wells.additional])
        axis.set_xlabel(f"additional samples (base: {BASE})")
    left.legend()
    return figure


def landscape(axis: Axes, wells: Wells, k: int) -> None:
    """Loss against frequency with both wells filled up to the threshold."""
    loss = wells.losses[k]
    axis.plot(wells.frequencies, loss, color=GREY, linewidth=1.2)
    for start, color in ((SLOW, ORANGE), (TRUE, BLUE)):
        near = np.abs(np.log(wells.frequencies / start)) < 0.5
        inside = near & (loss <= THRESHOLD)
        axis.fill_between(
            wells.frequencies, loss, THRESHOLD, where=inside.tolist(), color=color, alpha=0.9, linewidth=0
        )
    axis.axhline(THRESHOLD, color=RED, linewidth=0.9, linestyle="--")
    for name, frequency, color in (("slow sine", SLOW, ORANGE), ("true sine", TRUE, BLUE)):
        axis.axvline(frequency, ymax=0.84, color=color, linewidth=0.9, linestyle=":")
        axis.text(frequency, HEIGHT * 0.86, name, color=color, ha="center", fontsize=9)
    axis.set(xscale="log", xlabel=r"frequency $e^w$", ylim=(0, HEIGHT), title=f"{BASE} + {wells.additional[k]} samples")
    axis.set_xticks([0.5, 1, 2, 5])
    plain_log(axis.xaxis)
    axis.set_xticks([], minor=True)
    if k == 0:
        axis.text(2.1, THRESHOLD, "threshold", color=RED, fontsize=8, va="bottom")
