"""The tutorial notebook: thin, clean, and it does what it says, in this process."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure

import minima_volume as mv

ROOT = Path(__file__).parents[2]
CELLS = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4).cells
CODE = [cell for cell in CELLS if cell.cell_type == "code"]
QUICK: dict[str, Any] = {"small": 20, "large": 150, "steps": 100, "draws": 20, "factors": [0.5]}


def runnable(cell: Any) -> str:
    return "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


def test_it_is_thin_and_stored_clean():
    """Without outputs, no definitions, one parameters cell; every name of the package exists."""
    assert all(cell.outputs == [] and cell.execution_count is None for cell in CODE)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in CODE) == 1
    tree = ast.parse("\n".join(map(runnable, CODE)))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    names = {n.attr for n in used if isinstance(n.value, ast.Name) and n.value.id == "mv"}
    assert names >= {"measure_volumes", "compare", "slice_plane"} and "mv.load" in CODE[-1].source
    assert all(hasattr(mv, name) for name in names)


def test_links_lead_somewhere():
    text = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and all((ROOT / "docs" / link.partition("#")[0]).exists() for link in links)


def test_the_walk(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Top to bottom: what ends a cell is shown, the comparison is clear, and the other process prints the same volumes."""
    names: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for cell in CODE:
        module = ast.parse(runnable(cell))
        last = module.body[-1]
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            if isinstance(last, ast.Expr) and not ast.unparse(last).startswith("print"):
                exec(compile(ast.Module(module.body[:-1], []), cell.id, "exec"), names)
                shown[cell.id] = eval(compile(ast.Expression(last.value), cell.id, "eval"), names)
            else:
                exec(runnable(cell), names)
        if "parameters" in cell.metadata.get("tags", []):
            names |= {**QUICK, "folder": str(tmp_path)}
    printed = capsys.readouterr().out
    volumes = names["volumes"]
    assert volumes["few digits"].log_mass > volumes["many digits"].log_mass and volumes.comparisons[0].told_apart
    assert "few digits and many digits were measured differently (sigma: " in printed
    assert printed.rstrip().endswith(str(volumes))
    figures = {name for name, value in shown.items() if isinstance(value, Figure)}
    assert figures == {"plot", "compare", "profile", "slice", "line", "views"}
    assert mv.load(tmp_path / "two_minima.json").verdict == volumes.verdict
