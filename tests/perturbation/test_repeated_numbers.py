"""Directions are random for the model that they perturb: none begins with the numbers that made its weights or its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_run
from torch import nn

import minima_volume as mv
from minima_volume.data.digits import digits
from minima_volume.models.build import MODELS, initial_seed
from minima_volume.perturbation.directions import Directions, draw_gaussian
from minima_volume.perturbation.repeated_numbers import repeated_numbers_note
from minima_volume.robustness.architectures import build_architecture
from minima_volume.stages.train import model_notes
from minima_volume.stages.trained import load_models_and_data

SEEDS = range(1, 101)


def of_a_script(seed: int, steps: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """What people write: `torch.manual_seed`, a model, a training."""
    data = digits(0, 0)
    x, y = data.x_train[:100].flatten(1), data.y_train[:100]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, x, y


@pytest.mark.parametrize("steps", [0, 50])
def test_a_model_that_was_seeded_like_a_direction_says_so(steps: int) -> None:
    model, x, y = of_a_script(3, steps)
    note = repeated_numbers_note(Directions.of(model), SEEDS, x)
    assert note is not None and note.startswith("the weights were made from the random numbers of direction 3 (")
    options = {"measure": "ball", "num_directions": 5, "progress": False, "threshold": 3.0}
    assert note in mv.measure_volume(model, x, y, **options).verdict
    assert "random numbers" not in mv.measure_volume(model, x, y, seed=10**6, **options).verdict


def test_inputs_that_were_seeded_like_directions_say_so() -> None:
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(7))
    model = nn.Linear(8, 2)
    assert repeated_numbers_note(Directions.of(model), range(7, 9), x) == (
        "the inputs were made from the random numbers of direction 7 (torch.manual_seed): "
        "choose a seed far from those of the model and the data"
    )


def test_other_seeds_are_silent() -> None:
    """30 models and 100 directions of other seeds: no false alarm."""
    for seed in range(1000, 1030):
        model, x, _ = of_a_script(seed)
        assert repeated_numbers_note(Directions.of(model), SEEDS, x) is None


@pytest.mark.parametrize(("name", "options"), [("mlp", {"hidden": [64]}), ("cnn", {"channels": [8], "fc": [32]})])
def test_weights_of_a_seed_are_independent_of_the_direction_of_that_seed(name: str, options: dict[str, Any]) -> None:
    """The cosine is within 5 / sqrt(n), with PyTorch's usual initial weights and with normal ones; it was 0.34 and 1."""
    shape, cosines = (1, 8, 8), []
    for seed in range(5):
        with initial_seed(seed):
            model = MODELS[name](shape, 10, **options)
        noisy = build_architecture(name, {}, (3, 8, 8), 10, seed)
        with initial_seed(seed):
            normal = nn.Linear(64, 32)
            nn.init.normal_(normal.weight)
        for network in (model, noisy, normal):
            parameters = [parameter.detach() for parameter in network.parameters()]
            xi = draw_gaussian(seed, [parameter.shape for parameter in parameters])
            a, b = (torch.cat([tensor.flatten() for tensor in tensors]).double() for tensors in (parameters, xi))
            cosines.append(float(a @ b / a.norm() / b.norm()) * len(a) ** 0.5)
    assert max(map(abs, cosines)) < 5


def test_runs_and_their_own_models(tmp_path: Path) -> None:
    """A run's own model with a seed of its own in its builder is named when it has been trained; others are not."""
    run = make_run(tmp_path / "base" / "model_3_data_13", stages=("train",))
    assert model_notes(run, load_models_and_data(run)) == []
    folder = tmp_path / "own" / "model_3_data_13"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build(shape, outputs):\n    torch.manual_seed(2)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, outputs))\n",
        encoding="utf-8",
    )
    run = make_run(folder, {"model.name": "mine:build", "model.options": {}}, stages=("train",))
    (note,) = model_notes(run, load_models_and_data(run))
    assert "the weights were made from the random numbers of direction 2 (torch.manual_seed)" in note
