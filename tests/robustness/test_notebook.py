"""`Weight Noise Robustness.ipynb`: stored clean, thin, and runs in a kernel of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from helpers import ROOT

from minima_volume.files.atomic import read_json

NAME = "Weight Noise Robustness.ipynb"
FOLDER = ROOT / "experiments/weight_noise"


def test_stored_clean():
    """No outputs, no function definitions, one parameters cell."""
    notebook = nbformat.read(FOLDER / NAME, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any("def " in cell.source for cell in code)
    assert [cell.metadata.get("tags") for cell in code].count(["parameters"]) == 1


@pytest.mark.notebooks
def test_runs(tmp_path: Path):
    """On digits with volumes and layers; figures are in its outputs, and the tables beside it."""
    folder = tmp_path / "study"
    folder.mkdir()
    for name in (NAME, "config.yaml"):
        shutil.copy(FOLDER / name, folder / name)
    overrides = {
        **{"data.source": "digits", "training.epochs": 2, "seeds.training": [0, 1], "execution.workers": 1},
        **{"architectures.mlp": {"hidden": [16]}, "noise.alpha_test": [0, 0.1, 0.5], "noise.accuracy": 0.5},
        **{"volume.architectures": ["mlp"], "volume.alphas": [0.5], "volume.accuracies": [0.3], "volume.subset": 50},
        **{"volume.num_particles": 20, "volume.num_repeats": 2, "volume.num_moves": 2, "volume.layers": 0.5},
    }
    papermill.execute_notebook(
        folder / NAME, folder / "done.ipynb", {"overrides": overrides}, cwd=folder, progress_bar=False
    )
    done = nbformat.read(folder / "done.ipynb", as_version=4)
    shown = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 4
    assert len(read_json(folder / "results/results.json")["summary"]) == 4
