"""Trainings on other processes: the same bits as one after the other, whatever was trained before."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest
import torch
from helpers import edit_config, make_run

import minima_volume as mv
from minima_volume.errors import DataError
from minima_volume.files.atomic import read_pt
from minima_volume.stages import train
from minima_volume.stages.minimum import training_seconds
from minima_volume.stages.run import Run

OWN_MODEL = '''
import os
from pathlib import Path
from torch import nn

class Net(nn.Sequential):
    """Draws dropout masks from the global generator, and leaves the number of the process that built it."""

    def __init__(self, input_shape, num_outputs):
        Path(__file__).with_name(f"built_by_{os.getpid()}").touch()
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, num_outputs))
'''
DROPOUT = {"model.name": "net:Net", "model.options": {}, "training.epochs": 12, "training.batch_size": 16}


def new_run(folder: Path, overrides: dict) -> Run:
    """An untrained run with a model of its own."""
    run = make_run(folder, overrides)
    (run.folder / "net.py").write_text(OWN_MODEL)
    return run


def same_models(first: Run, second: Run) -> None:
    """Assert that the files of all minima hold the same numbers bit for bit."""
    for minimum in first.config.minima:
        a, b = read_pt(first.model_file(minimum)), read_pt(second.model_file(minimum))
        for key in ("weights_hash", "train_loss", "test_loss", "train_accs", "test_accs", "epoch", "train_size"):
            assert a[key] == b[key], (minimum, key)
        assert all(torch.equal(tensor, b["exp_avg_sq"][name]) for name, tensor in a["exp_avg_sq"].items())


@pytest.mark.parametrize(
    "series",
    [{}, {"data.levels": [40], "training.batch_sizes": [8, 20, 60], "training.batch_size": None}],
    ids=["levels", "batch sizes"],
)
def test_two_processes_train_the_same_models(series, tmp_path):
    """Also models that draw from the global generator; here it is left as it was."""
    here = new_run(tmp_path / "a" / "model_0_data_10", DROPOUT | series)
    there = new_run(tmp_path / "b" / "model_0_data_10", DROPOUT | series | {"perturbation.workers": 2})
    state = torch.get_rng_state()
    mv.train_models(here, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    mv.train_models(there, progress=False)
    same_models(here, there)
    assert [path.name for path in here.folder.glob("built_by_*")] == [f"built_by_{os.getpid()}"]
    assert len(list(there.folder.glob("built_by_*"))) >= 2


def test_a_model_does_not_depend_on_what_was_trained_before_it(tmp_path):
    """Each of three levels removed and trained again alone; dropout masks are its own."""
    run = new_run(tmp_path / "model_0_data_10", DROPOUT)
    before = mv.train_models(run, progress=False)
    for minimum in run.config.minima:
        run.model_file(minimum).unlink()
        torch.rand(3)  # whatever else has been drawn
        again = mv.train_models(run, progress=False)
        assert again.records[minimum]["weights_hash"] == before.records[minimum]["weights_hash"]


def test_an_error_in_a_worker_is_the_same_message(tmp_path):
    """Training that diverges; models that were finished stay."""
    run = make_run(tmp_path / "model_0_data_10", {"training.learning_rate": 1e30, "perturbation.workers": 2})
    with pytest.raises(DataError, match="training diverged: .* lower training.learning_rate"):
        mv.train_models(run, progress=False)


def test_short_trainings_stay_in_one_process(tmp_path, monkeypatch):
    """The estimate: epochs times a step for each sample and a test evaluation; the clock here ticks once a look."""
    run = edit_config(make_run(tmp_path / "model_0_data_10").folder, {"perturbation.workers": None})
    dataset = train.prepare_data(run)
    tasks = train._trainings(run, dataset)
    monkeypatch.setattr("minima_volume.stages.minimum.time.perf_counter", count().__next__)
    assert training_seconds(tasks, dataset) == pytest.approx(30 * sum(size / 60 + 1 for size in (20, 40, 60)))
    monkeypatch.undo()
    monkeypatch.setattr("minima_volume.execution.tasks.usable_cores", lambda: 2)
    monkeypatch.setattr(train, "_train_on", None)  # calling it would fail
    mv.train_models(run, progress=False)
