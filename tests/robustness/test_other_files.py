"""Files of a noise study that are whole and not what the study writes: one message that names the file and the way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from robustness_cases import tiny_study

from minima_volume.errors import DamagedFileError
from minima_volume.files.atomic import read_json, read_npz, read_pt, write_json, write_npz, write_pt
from minima_volume.robustness.run import run_study
from minima_volume.robustness.study import Network, Study

NETWORK = Network("mlp", "clean", 0)
CELL = "volumes/mlp_clean_seed0_alpha0.3_accuracy0.5.json"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Study:
    torch.set_num_threads(1)
    volume = {"architectures": ["mlp"], "seed": 0, "subset": 50, "alphas": [0.3], "accuracies": [0.5]}
    settings = {f"volume.{key}": value for key, value in volume.items()} | {"seeds.training": [0]}
    study = tiny_study(tmp_path_factory.mktemp("study"), settings)
    run_study(study, ["mlp"], say=lambda text: None)
    return study


def state_dict_alone(study: Study) -> Path:
    """As `torch.save(model.state_dict(), path)` leaves it."""
    path = study.checkpoint(NETWORK)
    write_pt(path, read_pt(path)["state_dict"])
    return path


def checkpoint_without_weights(study: Study) -> Path:
    path = study.checkpoint(NETWORK)
    write_pt(path, {key: value for key, value in read_pt(path).items() if key != "state_dict"})
    return path


def unfinished_training(study: Study) -> Path:
    study.checkpoint(NETWORK).unlink()
    return write_pt(study.unfinished(NETWORK), {"epoch": 1})


def sweep_without(key: str) -> Callable[[Study], Path]:
    def changed(study: Study) -> Path:
        path = study.sweep(NETWORK)
        return write_npz(path, {name: value for name, value in read_npz(path).items() if name != key})

    return changed


def cell_without_settings(study: Study) -> Path:
    path = study.results / CELL
    assert read_json(path)["row"]["log_mass"] is not None
    return write_json(path, {})


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        (state_dict_alone, "Delete mlp_clean_seed0.pt to train it anew"),
        (checkpoint_without_weights, "Delete mlp_clean_seed0.pt to train it anew"),
        (unfinished_training, "Delete mlp_clean_seed0.pt to train it anew"),
        (sweep_without("settings"), "Delete it: the network is measured again"),
        (sweep_without("correct"), "Delete it: the network is measured again"),
        (cell_without_settings, "Delete it: it is measured again"),
    ],
)
def test_a_file_of_something_else(change: Callable[[Study], Path], way_out: str, done: Study, tmp_path: Path):
    """What the message says works, and gives the same numbers."""
    shutil.copytree(done.results.parent, tmp_path / "copy")
    study = replace(done, checkpoints=tmp_path / "copy/checkpoints", results=tmp_path / "copy/results")
    path = change(study)
    with pytest.raises(DamagedFileError, match="does not hold what this package writes into it") as caught:
        run_study(study, ["mlp"], say=lambda text: None)
    assert str(path) in str(caught.value) and way_out in str(caught.value)
    path.unlink()
    run_study(study, ["mlp"], say=lambda text: None)
    found, expected = (read_json(one.results_file) for one in (study, done))
    assert all(found[part] == expected[part] for part in ("summary", "sweep", "volumes", "verdicts"))
