"""What a GPU computes: the numbers of the CPU to rounding, the same bits each time, whole runs, trainings that go on after a stop.

Each test runs on the CPU too, where it says that its own code is right.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from directory_cases import interrupted, same, samples, trained
from engine_cases import CUDA, fixed
from helpers import ALL_STAGES, edit_config, few_bits, make_run, numbers, same_sweeps, tree
from robustness_cases import tiny_study
from torch import Tensor, nn
from torch.nn import functional as F

from minima_volume import ViewSettings, load_models_and_data, measure_volume, other_views, read_sweep
from minima_volume.directories.volume import Landscape, measure_directory
from minima_volume.files.atomic import read_json, read_pt, write_pt
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.perturbation.rejection import Rejection, can_stop
from minima_volume.precision import full_precision
from minima_volume.robustness.run import run_study
from minima_volume.runs.states import run_stage
from minima_volume.volume.gaussian.settings import Gaussian

DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])
QUICK = ViewSettings(num_chains=2, num_draws=8, num_burn_in=4, num_products=8, num_eigenvalues=1, density_vectors=1)
GAUSSIAN = {"sigma": 0.05, "landscapes": [0], "num_particles": 50, "num_repeats": 2}


def images(count: int = 40) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, (x.mean((1, 2, 3)) > 0).long()


class Residual(nn.Module):
    """Of the general path: convolutions, BatchNorm and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.first(x)))
        return self.head((hidden + self.second(hidden)).mean((2, 3)))


MODELS: dict[str, Any] = {
    "perceptron": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)
    ),
    "residual": Residual,
}


def measured(model: nn.Module, device: str) -> list[Any]:
    x, y = images()
    quiet = {"threshold": 0.9, "progress": False, "device": device}
    ball = measure_volume(model, x, y, measure="ball", num_directions=6, **quiet)
    split = measure_volume(
        model, x, y, sigma=0.2, estimator="splitting", num_particles=40, num_moves=2, num_repeats=2, **quiet
    )
    views = other_views(model, x, y, threshold=0.9, settings=QUICK, device=device)
    return [ball.log_volume, *ball.radii, split.log_mass, split.num_forward, views.trace.value, views.sam.value]


@DEVICES
@pytest.mark.parametrize("name", MODELS)
def test_numbers_do_not_depend_on_the_precision_that_the_process_has_set(name: str, device: str):
    """The same bits in two measurements, the second in a process that asks for products in TF32 or bfloat16; the model stays where it was."""
    model = fixed(MODELS[name])
    before = copy.deepcopy(model.state_dict())
    first = measured(model, device)
    with few_bits():
        assert measured(model, device) == first
    assert same(dict(model.state_dict()), dict(before))
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}


@DEVICES
@pytest.mark.parametrize("name", MODELS)
def test_radii_are_those_of_the_cpu_in_float64(name: str, device: str):
    """A thousandth would be TF32; float32 is off by a few millionths."""
    model, (x, y) = fixed(MODELS[name]), images()
    exact = measure_volume(
        copy.deepcopy(model).double(), x.double(), y, threshold=0.9, measure="ball", num_directions=6, progress=False
    )
    found = measure_volume(model, x, y, threshold=0.9, measure="ball", num_directions=6, progress=False, device=device)
    np.testing.assert_allclose(found.radii, exact.radii, rtol=3e-5)


@DEVICES
@pytest.mark.parametrize("name", MODELS)
def test_values_do_not_depend_on_what_is_measured_beside(name: str, device: str):
    """Losses, accuracies, margins and particles to the bit, alone and among others; losses differ by orders of magnitude, so that sums are rounded."""
    model, (x, y) = fixed(MODELS[name]), images(count=300)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)
        losses = F.cross_entropy(model.eval()(x), y, reduction="none")
        assert losses.min() < 1e-6 * losses.max()
    with full_precision():
        engine = LossEngine(model.to(device), x.to(device), y.to(device), sizes=[40, 300])
        together, rows, c = engine.rays(range(7)), np.repeat(np.arange(7), 30), np.tile(np.linspace(0, 0.3, 30), 7)
        every = together.evaluate(rows, c, wrong_allowed=[1, 3])
        for some in (slice(0, 1), slice(5, 41), slice(70, 170)):
            part = together.evaluate(rows[some], c[some], wrong_allowed=[1, 3])
            for field in ("loss", "accuracy", "score"):
                assert (getattr(part, field) == getattr(every, field)[:, some]).all(), field
        alone = engine.rays([4]).evaluate(rows[120:150] * 0, c[120:150], wrong_allowed=[1, 3])
        assert (alone.loss == every.loss[:, 120:150]).all()
        particles = Particles(engine, 0.1)
        z = particles.draw(150, particles.generator(1))
        losses = particles.evaluate(z).loss
        for some in (slice(0, 1), slice(20, 90), slice(149, 150)):
            assert (particles.evaluate(z[some]).loss == losses[:, some]).all()


@DEVICES
def test_particles_that_are_given_up_leave_the_others_as_they_are(device: str):
    """Below its limit a score has the same bits whether others are run to the end or not."""
    model, (x, y) = fixed(MODELS["perceptron"]).to(device), images(count=2600)
    with full_precision():
        particles = Particles(LossEngine(model, x.to(device), y.to(device)), 0.5)
        assert can_stop(particles)
        z = particles.draw(200, particles.generator(1))
        whole = particles.evaluate(z).loss[0]
        limit = float(np.median(whole))
        scores = Rejection(particles).scores(z, np.full(200, limit))
    assert (scores[whole <= limit] == whole[whole <= limit]).all()
    assert 20 < np.isinf(scores).sum() <= 100


@DEVICES
@pytest.mark.parametrize(
    "settings", [{}, {"model.name": "cnn", "model.options": {"channels": [8], "fc": [16]}}], ids=["mlp", "cnn"]
)
def test_a_whole_run(settings: dict[str, Any], device: str, tmp_path: Path):
    """All stages; losses of the sweep are those of the saved models on the CPU; a second run and one that is extended have the same bits."""
    options = {"experiment.device": device, "volume.gaussian": GAUSSIAN, **settings}
    run = make_run(tmp_path / "a" / "model_0_data_10", options, ALL_STAGES)
    loaded = load_models_and_data(run)
    x, y = loaded.dataset.x_train[:40], loaded.dataset.y_train[:40]
    stored = read_sweep(run.sweep_file(20, 40))
    engine = LossEngine(loaded.models[40], x, y, "cross_entropy", [40])
    rays = engine.rays([int(seed) for seed in stored.perturbation_seed])
    count, width = stored.loss.shape
    rows = np.repeat(np.arange(count), width)
    again = rays.evaluate(rows, np.tile(stored.coefficients, count)).loss.reshape(count, width)
    known = ~np.isnan(stored.loss)  # all up to where a direction was stopped
    np.testing.assert_allclose(stored.loss[known], again[known], rtol=2e-4, atol=1e-6)

    twin = make_run(tmp_path / "b" / "model_0_data_10", {**options, "perturbation.num_directions": 6}, ALL_STAGES)
    for level in run.config.data.levels:
        first, second = (read_pt(one.model_file(level))["state_dict"] for one in (run, twin))
        assert same(dict(first), dict(second))
    twin = edit_config(twin.folder, {"perturbation.num_directions": 12})
    for stage in ALL_STAGES[1:]:
        run_stage(twin, stage, progress=False)
    same_sweeps(run, twin)
    first, second = (one.results_file(0, 0.5) for one in (run, twin))
    assert numbers(first) == numbers(second) | {"settings": numbers(first)["settings"]}
    assert read_json(first)["provenance"]["device"].startswith("cpu") == (device == "cpu")


@DEVICES
def test_a_training_that_was_stopped_goes_on_to_the_bit(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Latent noise is drawn on the device, whose random state is part of a checkpoint."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    overrides = {"experiment.device": device}
    whole = trained(overrides)
    interrupted(overrides | {"experiment.name": "b"})
    resumed = trained(overrides | {"experiment.name": "b", "experiment.on_exists": "resume"})
    assert len(whole.saved) > 1
    for one, other in zip(whole.saved, resumed.saved, strict=True):
        assert same(read_pt(one)["model_state_dict"], read_pt(other)["model_state_dict"])


@DEVICES
def test_the_volume_of_a_directory(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Model, samples and draws of the latent variables are on the device: loss and log mass are those of the same weights on the CPU."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    directory = trained({"experiment.device": device})
    how = Gaussian(sigma=0.15, scaling="none", estimator="monte_carlo")
    found = []
    for place in (device, "cpu"):
        content = read_pt(directory.checkpoint("best"))
        content["config"]["experiment"]["device"] = place
        write_pt(directory.checkpoint("best"), content)
        found.append(measure_directory(directory.folder, how, Landscape(rise=0.5), progress=False))
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)
    assert found[0].volume.log_mass == pytest.approx(found[1].volume.log_mass, abs=0.02)
    assert -5 < found[1].volume.log_mass < -0.01


@DEVICES
def test_accuracy_under_noise(device: str, tmp_path: Path):
    """A study trains and measures on the device; run again elsewhere it has the same bits."""
    studies = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        study = tiny_study(folder, {"experiment.device": device, "seeds.training": [0]})
        run_study(study)
        studies.append({path: content for path, content in tree(folder).items() if path.endswith(".npz")})
    assert studies[0] and studies[0] == studies[1]
