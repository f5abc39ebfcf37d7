"""Figures look the same whatever the user's matplotlibrc says, when they are drawn, shown in a notebook and saved."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import matplotlib.texmanager
import pytest
from fake_results import fake_condition
from matplotlib.figure import Figure

import minima_volume as mv
from minima_volume.analysis import collect
from minima_volume.files.atomic import read_npz
from minima_volume.plots.style import figure_bytes, save_figure
from minima_volume.reports.gallery import draw
from minima_volume.stages.run import Run

SMALL = 60  # dots an inch
HOSTILE = {
    "text.usetex": True,
    "font.size": 30,
    "font.family": "serif",
    "axes.labelsize": 40,
    "axes.grid": False,
    "axes.spines.top": True,
    "axes.titlelocation": "right",
    "axes.xmargin": 0.3,
    "lines.linewidth": 9,
    "lines.marker": "x",
    "errorbar.capsize": 10,
    "xtick.direction": "in",
    "xtick.labelsize": 3,
    "ytick.minor.visible": True,
    "legend.loc": "lower left",
    "image.cmap": "hot",
    "figure.autolayout": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 33,
    "savefig.transparent": True,
}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A dark style with large type that asks TeX to set all text; running TeX is an error."""

    def no_tex(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a figure asks for TeX")

    for name in ("make_dvi", "make_png", "get_grey", "get_text_width_height_descent"):
        monkeypatch.setattr(matplotlib.texmanager.TexManager, name, no_tex)
    with mpl.style.context(["dark_background", HOSTILE]):
        yield


@pytest.fixture(scope="module")
def condition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_condition(tmp_path_factory.mktemp("fake") / "base", seeds=3)


def figures(condition: Path, run: Run) -> Mapping[str, Figure]:
    """All over seeds, and some of one run."""
    results, trained = mv.load_results(run.results_file(0, 0.5)), mv.load_models_and_data(run)
    drawn = {name: one.figure for name, one in draw(collect(condition)).items()}
    return drawn | {
        "volumes": mv.plots.volumes(results),
        "radii": mv.plots.radius_histogram(results, read_npz(run.radii_file(0, 0.5))),
        "samples": mv.plots.samples(trained.dataset),
        "training": mv.plots.training_curves(trained),
    }


def shown(figure: Figure) -> bytes:
    """As a notebook shows it: through the canvas, cut to what is drawn."""
    buffer = io.BytesIO()
    figure.canvas.print_figure(buffer, format="png", bbox_inches="tight", dpi=SMALL, facecolor="white")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def plain(condition: Path, digits_run: Run) -> dict[str, tuple[bytes, bytes]]:
    """Every figure as matplotlib's defaults show and save it."""
    assert not mpl.rcParams["text.usetex"]
    found = figures(condition, digits_run)
    return {name: (shown(figure), figure_bytes(figure, dpi=SMALL)) for name, figure in found.items()}


def test_no_setting_of_the_users_is_seen(condition: Path, digits_run: Run, plain: Any, hostile: None, tmp_path: Path):
    """Byte for byte, without TeX: shown and saved; the user's settings come back, and decide over their own figures alone."""
    before = dict(mpl.rcParams)
    found = figures(condition, digits_run)
    assert len(found) > 12
    for name, figure in found.items():
        assert (shown(figure), figure_bytes(figure, dpi=SMALL)) == plain[name], name
    assert dict(mpl.rcParams) == before
    path = save_figure(found["volumes"], tmp_path / "volumes.svg")
    assert "<text" not in path.read_text(encoding="utf-8")  # letters as outlines, matplotlib's default
    own = Figure()
    own.text(0.5, 0.5, "own")
    with pytest.raises(AssertionError, match="asks for TeX"):
        own.savefig(io.BytesIO())


def test_a_figure_drawn_before_the_settings_changed(condition: Path, digits_run: Run, plain: Any, request: Any):
    """Ticks are made when a figure is shown: also then in the package's style."""
    figure = figures(condition, digits_run)["volumes"]
    request.getfixturevalue("hostile")
    assert shown(figure) == plain["volumes"][0]
    saved = [io.BytesIO(), io.BytesIO()]
    figure.savefig(saved[0], dpi=SMALL)
    with mpl.style.context("default"):
        figure.savefig(saved[1], dpi=SMALL)
    assert saved[0].getvalue() == saved[1].getvalue()
