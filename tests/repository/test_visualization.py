"""The notebooks of visualization/, executed on a tiny run; interactive figures; the committed pictures."""

from __future__ import annotations

import ast
import json
import sys

import nbformat
import papermill
import pytest
from helpers import ALL_STAGES, ROOT, make_run
from matplotlib.colors import to_hex

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.plots.interactive import loss_curve_browser, surface
from minima_volume.plots.marks import looks
from minima_volume.runs.execute import kernel_manager
from minima_volume.stages.plane import run_plane

NOTEBOOKS = sorted((ROOT / "visualization").glob("*.ipynb"))


def test_the_notebooks_are_there():
    assert [path.name for path in NOTEBOOKS] == ["radii.ipynb", "slices.ipynb", "volumes.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_and_clean(path):
    """No outputs, one parameters cell, no functions, and every `mv.` name exists."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1
    lines = [line for cell in code for line in "".join(cell["source"]).splitlines() if not line.startswith("%")]
    module = ast.parse("\n".join(lines))
    assert not [n for n in ast.walk(module) if isinstance(n, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    used = [n for n in ast.walk(module) if isinstance(n, ast.Attribute)]
    names = [n.attr for n in used if isinstance(n.value, ast.Name) and n.value.id == "mv"]
    assert names and all(hasattr(mv, name) for name in names)


@pytest.mark.notebooks
def test_the_notebooks_draw_a_tiny_run(tmp_path):
    """Without an error, and what they promise lies in the folder."""
    gaussian = {"sigma": 0.03, "num_particles": 40, "num_repeats": 2, "num_moves": 3}
    run = make_run(tmp_path / "base" / "model_0_data_10", {"volume.gaussian": gaussian}, ALL_STAGES)
    figs = tmp_path / "figs"
    settings = {
        "radii.ipynb": {"run_folder": str(run.folder)},
        "slices.ipynb": {"run_folder": str(run.folder), "resolution": 7},
        "volumes.ipynb": {"condition_folder": str(run.folder.parent)},
    }
    for path in NOTEBOOKS:
        executed = tmp_path / path.name
        papermill.execute_notebook(
            str(path),
            str(executed),
            {**settings[path.name], "figs": str(figs)},
            cwd=str(tmp_path),
            progress_bar=False,
            kernel_manager_class=kernel_manager({}),
        )
        cells = nbformat.read(executed, as_version=4).cells
        assert "image/png" in json.dumps([cell.get("outputs") for cell in cells])
    made = {path.name for path in figs.iterdir()}
    assert made == {f"digits_{name}.png" for name in ("planes", "log_mass", "cliff", "test_accuracy", "radii")}


def test_interactive_figures(digits_run, monkeypatch):
    """With plotly the numbers of the plane and of the sweeps; without it an error that names the extra."""
    plane = run_plane(digits_run, resolution=5, progress=False)
    sweeps = {0: mv.read_sweep(digits_run.sweep_file(0, 0))}
    drawn = surface(plane, ["a", "b", "c"], 0.5)
    assert drawn.data[0].z.shape == (5, 5) and drawn.data[1].text == ("a", "b", "c")
    browser = loss_curve_browser(sweeps, [0.5])
    assert len(browser.data) == 12 and "direction 1<" in browser.data[0].hovertemplate
    last = {40: mv.read_sweep(digits_run.sweep_file(0, 40))}
    colour = loss_curve_browser(last, [0.5], digits_run.config.minima).data[0].line.color
    assert colour == to_hex(looks(digits_run.config.minima)[40].color) != browser.data[0].line.color
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)  # as if it were not installed
    for call in (lambda: surface(plane, ["a", "b", "c"], 0.5), lambda: loss_curve_browser(sweeps, [0.5])):
        with pytest.raises(ConfigError, match=r"pip install minima_volume\[interactive\]"):
            call()


def test_every_extra_has_a_tested_version():
    """constraints.txt names one of each optional package, allowed by pyproject.toml."""
    requirement = pytest.importorskip("packaging.requirements").Requirement
    tomllib = pytest.importorskip("tomllib")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [requirement(line) for line in lines if not line.startswith("#")]
    versions = {one.name.lower().replace("_", "-"): next(iter(one.specifier)).version for one in pinned}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for wanted in (requirement(text) for group in extras.values() for text in group if "minima_volume" not in text):
        assert wanted.name in versions, f"constraints.txt has no version of {wanted.name}"
        assert wanted.specifier.contains(versions[wanted.name]), wanted


def test_committed_pictures_are_small():
    """figs/ travels with every clone: each below 2 MB, together below 6 MB."""
    sizes = [path.stat().st_size for path in (ROOT / "figs").iterdir()]
    assert max(sizes) < 2e6 and sum(sizes) < 6e6
