"""The look that all figures share, and how they are saved."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from minima_volume.arguments import as_path
from minima_volume.files.atomic import write_bytes

Arguments = ParamSpec("Arguments")
Shown = TypeVar("Shown", bound=Figure | str)

# Okabe and Ito's palette, which colour-blind readers can tell apart, its light colours darkened to a contrast of 3:1 on white
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#B87800",
    "#009E73",
    "#D55E00",
    "#B5598C",
    "#3489C4",
    "#6A6A6A",
)
MARKERS = "os^DvPXp<>"
LIGHTEST = 0.58  # of viridis: lighter colours have a contrast below 3:1 on white
LETTER = 0.085  # inches, of a digit on an axis
CAPTION_LETTERS = 16.0  # an inch, of the small lines under a figure
QUANTITY_COLORS = {"log_mass": BLUE, "log_volume": ORANGE}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": False,  # each figure says how it is laid out: new_figure
    "figure.autolayout": False,
    "savefig.facecolor": "white",
}


def styled(function: Callable[Arguments, Shown]) -> Callable[Arguments, Shown]:
    """Draw in the package's style without touching the caller's matplotlib settings."""

    @wraps(function)
    def draw(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Shown:
        with style():
            return function(*args, **kwargs)

    return draw


@contextmanager
def style() -> Iterator[None]:
    """The package's style inside the block: matplotlib's own defaults with `STYLE`, whatever the caller's matplotlibrc says."""
    with mpl.style.context(["default", STYLE]):
        yield


class StyledFigure(Figure):
    """A figure that keeps the package's style when it is drawn or saved later: matplotlib makes ticks only then."""

    def draw(self, renderer: Any) -> None:
        with style():
            super().draw(renderer)

    def get_tightbbox(self, *args: Any, **kwargs: Any) -> Any:
        with style():
            return super().get_tightbbox(*args, **kwargs)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        with style():
            super().savefig(*args, **kwargs)


def new_figure(width: float = 6.0, height: float = 3.8) -> Figure:
    """A figure that pyplot does not know, so that notebooks show it once and nothing has to be closed."""
    with style():
        figure = StyledFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def caption(figure: Figure, text: str) -> None:
    """Small grey lines under a figure, which break where its width ends."""
    width = int(figure.get_figwidth() * CAPTION_LETTERS)
    figure.supxlabel("\n".join(fill(line, width) for line in text.splitlines()), color=GREY, fontsize=8.5)


def size_axis(axis: Axes, sizes: Iterable[float], label: str = "training samples", share: float = 1.0) -> None:
    """A logarithmic x axis with a tick at each number of samples, where there are few enough to read.

    Args:
        axis: the axis.
        sizes: numbers of samples.
        label: what they are.
        share: of its present width that a legend beside it leaves to the axis.
    """
    ticks = sorted(set(sizes))
    axis.set_xscale("log")
    axis.set_xlabel(label)
    span = ticks[-1] / ticks[0]
    pad = max(span**0.085, 1.02) if span > 1 else 1.3
    axis.set_xlim(ticks[0] / pad, ticks[-1] * pad)
    figure = axis.get_figure()
    assert figure is not None
    inch = math.log(span * pad**2) / (share * axis.bbox.width) * figure.dpi
    half = {tick: LETTER * (len(f"{tick:,.0f}") + 1) / 2 * inch for tick in ticks}  # of a label's width
    labelled: list[float] = []
    for tick in [ticks[0], *reversed(ticks[1:])] if span > 1 else ticks[:1]:  # both ends first
        if all(abs(math.log(tick / other)) > half[tick] + half[other] for other in labelled):
            labelled.append(tick)
    labelled.sort()
    axis.set_xticks(labelled, [f"{tick:,.0f}" for tick in labelled])
    axis.set_xticks([tick for tick in ticks if tick not in labelled], minor=True)
    axis.xaxis.set_minor_formatter("")


def added_axis(axis: Axes, counts: Iterable[float], label: str) -> None:
    """An x axis for numbers of added samples that begin at 0: linear to the first of them, then logarithmic, a tick at each."""
    ticks = sorted(set(counts))
    axis.set_xlabel(label)
    positive = [tick for tick in ticks if tick > 0]
    if positive:
        axis.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
        axis.set_xlim(ticks[0] - 0.3 * positive[0], positive[-1] * 1.3)
    axis.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axis.set_xticks([], minor=True)


def count_axis(axis: Axes, counts: Sequence[int], label: str) -> None:
    """A logarithmic x axis from the first to the last of some counts, ticked in powers of ten as plain numbers."""
    axis.set(xscale="log", xlabel=label, xlim=(counts[0] / 1.15, counts[-1] * 1.15))
    axis.xaxis.set_major_formatter("{x:,g}")


def plain_log(axis: Axis) -> None:
    """Logarithmic ticks as plain numbers, also between powers of ten."""
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(PlainLogFormatter(labelOnlyBase=False, minor_thresholds=(1.5, 0.4)))


class PlainLogFormatter(LogFormatter):
    """matplotlib's choice of minor ticks to label, written as plain numbers (0.06, not 6e-02)."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def level_colors(count: int) -> np.ndarray:
    """Colours for an ordered series, dark to light: readable in print, by colour-blind readers, and on white."""
    return mpl.colormaps["viridis"](np.linspace(0.0, LIGHTEST, max(count, 2)))[:count]


def save_figure(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write a figure atomically, in the format of the file's ending; it is laid out by the first format and keeps that layout."""
    path = as_path(path)
    return write_bytes(path, figure_bytes(figure, path.suffix.lstrip("."), dpi))


def figure_bytes(figure: Figure, kind: str = "png", dpi: int = 150) -> bytes:
    """A figure as the content of a file. It is laid out here: savefig draws all of a figure that has a layout engine twice."""
    # a third quicker than matplotlib's level, files 4 % larger
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
    buffer = io.BytesIO()
    with style():
        engine, shown = figure.get_layout_engine(), figure.dpi
        if engine is not None:
            figure.dpi = dpi
            engine.execute(figure)
            figure.dpi = shown
            figure.set_layout_engine(None)  # "none" would leave a placeholder, which is drawn twice as well
        figure.savefig(buffer, format=kind, dpi=dpi, **options)
    return buffer.getvalue()
