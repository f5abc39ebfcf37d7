"""The typical workflow by its command lines, from the repository's own configs, on real digits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from directory_cases import files
from helpers import ROOT

from minima_volume.config.directory import load_embed_config, load_predict_config, load_train_config
from minima_volume.directories.directory import Directory

WORKFLOW = (
    "python scripts/train.py configs/train_vae.yaml",
    "python scripts/extract_embeddings.py configs/extract_embeddings.yaml",
    "python scripts/train.py configs/train_sae.yaml",
    "python scripts/predict.py configs/predict.yaml",
    "python scripts/train.py experiments/vae/baseline/config.yaml",
)


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = command.split()
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_typical_workflow(tmp_path):
    """Exactly these commands; the last one trains again in place, with identical metrics."""
    for name in ("scripts", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    vae, sae = (Directory(tmp_path / "experiments" / kind / "baseline") for kind in ("vae", "sae"))
    for command in WORKFLOW[:-1]:
        result = run(command, tmp_path)
        assert result.returncode == 0, result.stderr
    training = ["checkpoints/best_model.pt", "config.yaml", "logs/training.log"]
    assert files(sae.folder) == training
    embeddings = [f"embeddings/{split}_embeddings.npy" for split in ("train", "val", "test")]
    assert files(vae.folder) == sorted(
        [*training, *embeddings, "predictions/test_predictions.npy", "predictions/test_metrics.json"]
    )
    shapes = [np.load(vae.folder / name).shape for name in embeddings]
    assert shapes == [(1084, 8), (216, 8), (497, 8)]
    assert np.load(vae.folder / "predictions" / "test_predictions.npy").shape == (497, 1, 8, 8)
    history = vae.history()
    first, last = history["val_elbo"][1], max(history["val_elbo"].values())
    assert last > first + 5  # nats, on images of 64 pixels whose untrained bound is near 64 log 2
    variance = sae.history()["val_variance_explained"]
    assert variance[max(variance)] > 0.8
    again = run(WORKFLOW[-1], tmp_path)
    assert again.returncode == 0 and "EXISTS AND WILL BE OVERWRITTEN" in again.stderr
    assert vae.history() == history and files(vae.folder) == training


def test_the_example_of_a_model_of_your_own(tmp_path, cli, monkeypatch):
    """As it lies in configs/; and again from the resolved config in its directory."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    directory = Directory(Path("experiments/custom_model/experiment_001"))
    assert cli("train", "configs/train_custom_model.yaml", "--quiet")[:2] == (0, f"{directory.folder}\n")
    history = directory.history()
    assert history["val_loss"][10] < history["val_loss"][1] / 2
    assert cli("train", directory.config_file, "--quiet")[0] == 0 and directory.history() == history


def test_the_commands_in_the_readme_are_those_tested_here():
    """The typical workflow, and training again in place."""
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    assert all(command in text for command in WORKFLOW)


def test_every_config_in_the_repository_is_read():
    """By the schema of its kind."""
    kinds = {"train": load_train_config, "extract": load_embed_config, "predict": load_predict_config}
    paths = sorted((ROOT / "configs").glob("*.yaml"))
    assert len(paths) >= 7
    for path in paths:
        kinds[re.split(r"[_.]", path.name)[0]](path)


@pytest.mark.parametrize("command", ["train", "embed", "predict"])
def test_errors_are_one_line(cli, command, tmp_path):
    """No traceback for a config that is not there, or says nonsense."""
    code, _, text = cli(command, tmp_path / "no.yaml")
    assert code == 1 and text.startswith("error: there is no config file") and text.count("\n") == 1
    (tmp_path / "bad.yaml").write_text("experimnt: {}\n")
    code, _, text = cli(command, tmp_path / "bad.yaml")
    assert code == 1 and "experimnt: unknown key (did you mean experiment?)" in text and text.count("\n") == 1
