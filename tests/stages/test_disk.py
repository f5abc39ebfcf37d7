"""What a run takes on disk: losses and accuracies of the directions and the models, not the directions."""

from __future__ import annotations

import numpy as np
from helpers import ROOT

from minima_volume.config.run import load_config
from minima_volume.files.atomic import read_npz
from minima_volume.models.build import build_model
from minima_volume.stages.run import Run
from minima_volume.stages.sweep_files import ARRAYS, STATE_DICT, Sweep, write_sweep

MNIST = ROOT / "experiments" / "MNIST" / "low_data" / "base" / "config.yaml"
SWEEPS_MB, MODELS_MB, SAMPLES_MB = 26, 12, 56  # what docs/scaling.md states
SLACK = 20_000  # bytes of a file besides its arrays


def bytes_of_sweep(directions, coefficients, weights):
    """docs/scaling.md's formula, and the seed and the norm of each direction."""
    return 16 * directions * (coefficients + 1) + 8 * coefficients + 4 * weights + SLACK


def bytes_of_model(weights, epochs):
    """Weights, Adam's second moments, four numbers an epoch."""
    return 8 * weights + 4 * 40 * epochs + SLACK


def test_mnist_at_500_directions(tmp_path):
    """The largest file that can come about, of numbers that cannot be compressed, times the pairs of minimum and landscape."""
    config = load_config(MNIST)
    config = config.model_copy(update={"seeds": config.seeds.model_copy(update={"model": 0, "data": 10})})
    run, grid = Run(tmp_path, config), config.perturbation.coefficients.count
    directions, pairs = config.perturbation.num_directions, len(run.pairs())
    model, random = build_model(config, (1, 28, 28), 10), np.random.default_rng(0)
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert (directions, grid, pairs, weights) == (500, 34, 21, 235_146)
    curves = random.random((2, directions, grid))
    sweep = Sweep(
        np.linspace(0, 1, grid), *curves, np.arange(directions), random.random(directions), {}, model.state_dict()
    )
    size = write_sweep(tmp_path / "sweep.npz", sweep).stat().st_size
    assert 0.85 * bytes_of_sweep(directions, grid, weights) < size < bytes_of_sweep(directions, grid, weights)
    assert pairs * size < SWEEPS_MB * 1e6
    assert len(config.minima) * bytes_of_model(weights, config.training.epochs) < MODELS_MB * 1e6
    assert config.data.store == "full" and config.data.base_size + config.data.levels[-1] == 60_000
    assert (SAMPLES_MB - 1) * 1e6 < (60_000 + 10_000) * (28 * 28 + 8) + SLACK < SAMPLES_MB * 1e6


def test_files_of_a_finished_run(digits_run):
    """Each within the formula; no shards are left; in a sweep only the weights grow with the number of parameters."""
    config = digits_run.config
    directions, grid = config.perturbation.num_directions, config.perturbation.coefficients.count
    assert not digits_run.shards.exists()
    for pair in digits_run.pairs():
        path = digits_run.sweep_file(pair.landscape, pair.minimum)
        content = read_npz(path)
        weights = sum(array.size for key, array in content.items() if key.startswith(STATE_DICT))
        assert weights == 64 * 16 + 16 + 16 * 10 + 10
        assert path.stat().st_size < bytes_of_sweep(directions, grid, weights)
        assert {array.shape for key, array in content.items() if key in ARRAYS} == {
            (grid,),
            (directions, grid),
            (directions,),
        }
        assert all(array.ndim == 0 for key, array in content.items() if key not in ARRAYS and STATE_DICT not in key)
        assert digits_run.model_file(pair.minimum).stat().st_size < bytes_of_model(weights, config.training.epochs)


def test_the_documents_say_so():
    """docs/scaling.md states the numbers that are tested here."""
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    stated = f"takes at most {SWEEPS_MB} MB in sweeps and {MODELS_MB} MB in models, {SAMPLES_MB} MB in samples"
    assert stated in " ".join(text.split())
