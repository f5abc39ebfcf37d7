"""What benchmarks/weight_noise.py writes into the page is what results.json says."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from robustness_cases import tiny_study

from minima_volume.robustness.run import run_study


def test_the_page_says_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every verdict to the word, means of the summary, volumes, and the figures as links from docs/."""
    torch.set_num_threads(1)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    writer = importlib.import_module("weight_noise")
    volume = {"volume.architectures": ["mlp"], "volume.alphas": [0.5], "volume.accuracies": [0.3], "volume.layers": 0.5}
    sizes = {"volume.subset": 50, "volume.num_particles": 20, "volume.num_repeats": 2, "volume.num_moves": 2}
    results = run_study(tiny_study(tmp_path, {**volume, **sizes}), say=lambda text: None)
    monkeypatch.setattr(writer, "FIGURES", tmp_path / "figs")
    monkeypatch.setattr(writer, "ROOT", tmp_path)
    text = writer.accuracies(results) + writer.volumes(results)
    assert len(list((tmp_path / "figs").glob("weight_noise_*.png"))) == 4
    assert all(row["words"] in text for row in (*results["verdicts"], *results["volumes"]))
    clean = [row["acc_0"] for row in results["summary"] if (row["architecture"], row["regime"]) == ("cnn", "clean")]
    assert f"| cnn | clean | 2 | {sum(clean) / 2:.4f} |" in text
    assert "(../figs/weight_noise_layers_mlp.png)" in text
