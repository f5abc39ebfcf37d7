"""Figures of other views of a minimum: the density of the Hessian's eigenvalues, and the chains of the learning coefficient."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minima_volume.curvature.density import Density
from minima_volume.curvature.learning_coefficient import LearningCoefficient
from minima_volume.curvature.views import OtherViews
from minima_volume.plots.style import BLUE, GREEN, GREY, PURPLE, RED, new_figure, styled

POINTS = 600
SMALLEST_SHARE = 1e-7  # of the highest density that is drawn


@styled
def views(found: OtherViews) -> Figure:
    """The density of all eigenvalues with the largest ones marked, and the losses along the chains; or why there is none.

    Args:
        found: from `other_views`.
    """
    figure = new_figure(10.5, 4)
    left, right = figure.subplots(1, 2)
    if found.density is None:
        _say(left, "eigenvalue density", found.notes.get("density", "left out: density_vectors is 0"))
    else:
        largest = None if found.spectrum is None else found.spectrum.eigenvalues
        _density(left, found.density, largest, found.settings.scaling)
    if found.learning_coefficient is None:
        _say(right, "learning coefficient", found.notes.get("learning_coefficient", "left out"))
    else:
        _chains(right, found.learning_coefficient)
    return figure


def _density(axis: Axes, density: Density, largest: np.ndarray | None, scaling: str) -> None:
    """On a logarithmic axis, since nearly all eigenvalues lie near 0."""
    pad = 8 * density.width
    at = np.unique(np.append(np.linspace(density.nodes[0] - pad, density.nodes[-1] + pad, POINTS), density.nodes))
    values = density.smooth(at)
    axis.fill_between(at, values, SMALLEST_SHARE * values.max(), color=BLUE, alpha=0.25, linewidth=0)
    axis.plot(at, values, color=BLUE)
    if largest is not None and len(largest):
        label = f"the largest {len(largest)}" if len(largest) > 1 else "the largest"
        axis.plot(
            largest,
            np.full(len(largest), 3 * SMALLEST_SHARE * values.max()),
            "|",
            color=RED,
            markersize=12,
            markeredgewidth=2,
            label=label,
        )
        axis.legend(loc="upper right")
    below = density.share_below(-density.width)
    axis.set(
        yscale="log",
        ylim=(SMALLEST_SHARE * values.max(), 3 * values.max()),
        xlabel=f"eigenvalue of the Hessian (scaling: {scaling})",
        ylabel="density",
        title=f"{density.num_entries:,} eigenvalues ({density.method}); {below:.1%} clearly negative",
    )


def _chains(axis: Axes, found: LearningCoefficient) -> None:
    steps = np.arange(1, found.losses.shape[1] + 1)
    for i, losses in enumerate(found.losses):
        axis.plot(
            steps,
            losses,
            color=(BLUE, GREEN, PURPLE, GREY)[i % 4],
            linestyle=("-", "--", "-.", ":")[i % 4],
            linewidth=0.8,
        )
    axis.axvspan(0, found.num_burn_in, color=GREY, alpha=0.15, linewidth=0, label="burn-in, left out")
    axis.axhline(found.start_loss, color=RED, linestyle="--", label="loss at the minimum")
    trusted = found.verdict.startswith("estimate")
    value = f"{found.value:.4g}" if trusted else re.split("[:;,]", found.verdict)[0]
    axis.set(
        xlabel="step",
        ylabel="mean loss",
        title=f"learning coefficient {value}: {len(found.losses)} chains",
        xlim=(0, len(steps)),
    )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _say(axis: Axes, name: str, reason: str) -> None:
    axis.set_axis_off()
    axis.text(0.5, 0.5, f"{name}: {reason}", ha="center", va="center", wrap=True, transform=axis.transAxes)
