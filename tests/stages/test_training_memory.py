"""Trainings stay within `execution.memory_gib`, or are refused before the first begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_run

from minima_volume.errors import ConfigError
from minima_volume.stages.minimum import TrainTask
from minima_volume.stages.run import Run
from minima_volume.stages.train import prepare_data, train_models
from minima_volume.stages.training_memory import TORCH, footprints, trainings_at_once

OWN = """
import torch
from torch import nn
from minima_volume.data import Pool

def source(options, seed):
    x = torch.rand(230, 4, generator=torch.Generator().manual_seed(seed))
    y = (x.sum(1) > 2).long()
    return Pool(x[:200], y[:200], x[200:], y[200:], 2)

class Deep(nn.Module):
    '''Sixteen activations of 64 KiB a sample, which only a training keeps all: 1 MiB.'''

    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.first, self.last = nn.Linear(4, 2), nn.Linear(2, num_outputs)

    def forward(self, x):
        wide = self.first(x).repeat(1, 2**13)
        for _ in range(16):
            wide = wide.tanh()
        return self.last(wide.unflatten(1, (-1, 2)).mean(1))
"""


def own_run(folder: Path, gib: float, **overrides: object) -> Run:
    folder.mkdir()
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    settings = {
        "data.source": "own:source",
        "data.base_size": 20,
        "data.levels": [0, 100, 180],
        "model.name": "own:Deep",
        "model.options": {},
        "training.epochs": 1,
        "execution.memory_gib": gib,
    }
    return make_run(folder, settings | overrides)


def test_a_step_that_does_not_fit_is_refused_with_the_batch_that_does(tmp_path: Path) -> None:
    """200 samples keep 200 MiB, 300 with what kernels may use inside."""
    run = own_run(tmp_path / "model_0_data_10", 0.125)
    with pytest.raises(ConfigError) as error:
        train_models(run, progress=False)
    text = str(error.value)
    assert text.startswith("training level 180: a step on 200 samples at once takes about 0.")
    assert "more than execution.memory_gib 0.125; set training.batch_size to at most " in text
    assert not list(run.folder.rglob("model_additional*"))
    fits = int(text.split("at most ")[1].split(",")[0])
    assert 60 <= fits <= 85
    train_models(own_run(tmp_path / "model_1_data_10", 0.125, **{"training.batch_size": fits}), progress=False)


def test_a_model_that_does_not_fit_at_all(tmp_path: Path) -> None:
    """8 million weights with their gradients and two moments take more than 64 MiB, which is always granted."""
    wide = {"model.options": {"hidden": [4096, 2048]}, "execution.memory_gib": TORCH / 2**31}
    run = make_run(tmp_path / "model_0_data_10", wide)
    with pytest.raises(ConfigError, match="take a smaller model, or raise execution.memory_gib"):
        train_models(run, progress=False)


def test_trainings_side_by_side_are_as_many_as_fit_whichever_they_are(tmp_path: Path) -> None:
    run = own_run(tmp_path / "model_0_data_10", 0.5)
    dataset = prepare_data(run)

    def at_once(levels: list[int], mib: float) -> int:
        room = run.config.execution.model_copy(update={"memory_gib": mib / 1024})
        config = run.config.model_copy(update={"execution": room})
        tasks = [TrainTask(run.folder, config, level, (level,), 20 + level) for level in levels]
        return trainings_at_once(tasks, dataset)

    step, _ = footprints(TrainTask(run.folder, run.config, 180, (180,), 200), dataset)
    both = (step.bytes(200) + step.bytes(120)) / 2**20
    assert both == pytest.approx(1.5 * 320, rel=0.2)
    assert at_once([0, 100, 180], both + 1) == 2
    assert at_once([180, 100], both - 1) == 1
    assert at_once([100, 180, 0], both + 60) == 3
