"""Robustness as a volume: the same noise as the sweep's, exact where it can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from robustness_cases import tiny_study

from minima_volume.errors import ConfigError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.models.mlp import MLP
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.robustness import volume_runs
from minima_volume.robustness.evaluate import sweep_network
from minima_volume.robustness.images import dense, load_images
from minima_volume.robustness.noise import NAMES, SCALING
from minima_volume.robustness.run import run_study
from minima_volume.robustness.study import Network
from minima_volume.robustness.train import train_network, trained_model
from minima_volume.robustness.volumes import (
    Cell,
    hit_tensors,
    layer_cells,
    mass_settings,
    measure_cell,
    noise_engine,
    subset,
)
from minima_volume.stages.freshness import MASSES

HOW = mass_settings(40, 4, 10)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny_study(tmp_path_factory.mktemp("study"), {"training.epochs": 5, "seeds.training": [0]})


@pytest.fixture(scope="module", params=["mlp", "cnn"])
def trained(request, study):
    images = load_images(study.config.data)
    network = Network(request.param, "clean", 0)
    train_network(study, network, images)
    model = trained_model(study, network, images)
    return model, images, (images.x_test[:100], images.y_test[:100])


def test_biases_stay_and_weights_have_the_law_of_the_sweep(trained):
    """The engine's z, written out: W + alpha * std(W) * z for weights, biases as they are; and no draw moves n more entries than the
    study's noise."""
    model, _, (x, y) = trained
    engine = noise_engine(model, x, y)
    assert engine.path.name == ("mlp" if isinstance(model, MLP) else "cnn")
    plain = LossEngine(model, dense(x), y, scaling=SCALING, names=NAMES)
    assert engine.directions.num_params == plain.directions.num_params
    assert engine.directions.log_det == pytest.approx(plain.directions.log_det)
    for name, factor in zip(engine.directions.names, engine.directions.factors, strict=True):
        expected = float(model.get_parameter(name).detach().std()) if name.endswith("weight") else 0.0
        assert float(factor.max()) == pytest.approx(expected)


def test_mean_accuracy_is_that_of_the_sweep(trained):
    """300 draws of each: two means of accuracies differ by less than 5.5 standard errors (a false alarm in 1 of 2e7)."""
    model, images, (x, y) = trained
    particles = Particles(noise_engine(model, x, y), 0.6)
    a = particles.evaluate(particles.draw(300, particles.generator(1))).accuracy[0]
    some = images.__class__(images.x_train, images.y_train, x, y, 10, "digits")
    b = sweep_network(model, some, [0.0, 0.6], list(range(300)), 10).accuracy[1]
    assert abs(a.mean() - b.mean()) < 5.5 * math.sqrt(a.var() / 300 + b.var() / 300)


def test_a_probability_that_can_be_counted(trained):
    """Plain draws: the share of 1,000 others that reach the accuracy, within 5.5 binomial standard errors of both."""
    model, _, (x, y) = trained
    particles = Particles(noise_engine(model, x, y), 0.7)
    accuracies = particles.evaluate(particles.draw(1000, particles.generator(9))).accuracy[0]
    asked = float(np.median(accuracies))
    row = measure_cell(model, (x, y), Cell(0.7, asked), HOW, 1, 20)
    share = float((accuracies >= asked - 1e-9).mean())
    assert row["method"] == "monte_carlo"
    error = math.sqrt(share * (1 - share) * (1 / 1000 + 1 / 2000))
    assert abs(math.exp(row["log_mass"]) - share) < 5.5 * error + 1e-9
    assert 0 <= row["mean_accuracy"] <= 1 and row["subset"] == 100


def test_a_network_that_does_not_reach_the_accuracy_itself(trained):
    """Undefined, with its own accuracy in words."""
    model, _, (x, _) = trained
    wrong = (model(x).argmax(1) + 1) % 10
    row = measure_cell(model, (x, wrong), Cell(0.5, 0.9), HOW, 1, 20)
    assert row["log_mass"] is None and "the minimum itself is outside" in row["words"]


def test_cells_of_the_layer_profile(trained):
    """Each tensor alone and all but each: together every tensor once."""
    model, _, samples = trained
    cells = layer_cells(model, 0.5, 0.5)
    hit = hit_tensors(model, Cell(0.5, 0.5))
    assert len(cells) == 2 * len(hit)
    for tensor in hit:
        only, without = (hit_tensors(model, Cell(0.5, 0.5, part, tensor)) for part in ("only", "without"))
        assert only == (tensor,) and set(only) | set(without) == set(hit)
    with pytest.raises(ConfigError, match="'layers.bias' gets no noise"):
        noise_engine(model, *samples, ["layers.bias"])
    with pytest.raises(ConfigError, match="volume.subset: 201 is not allowed: there are 200"):
        subset(trained[1], 201)


def test_volumes_of_a_study(study):
    """Kept cell by cell, written into results.json with the subset, and not measured twice."""
    settings = {
        "architectures": ["mlp"],
        "alphas": [0.5],
        "accuracies": [0.6],
        "layers": 0.5,
        "subset": 50,
        "layer_draws": 5,
    }
    asked = study.with_settings(volume={**settings, "num_particles": 20, "num_repeats": 2, "num_moves": 2})
    said: list[str] = []
    results = run_study(asked, ["mlp"], say=said.append)
    assert [row["regime"] for row in results["volumes"]] == ["clean", "noisy"]
    assert len(results["layers"]) == 8 and len(results["volume_subset"]) == 50
    files = sorted((asked.results / "volumes").glob("*.json"))
    times = [path.stat().st_mtime_ns for path in files]
    again = run_study(asked, ["mlp"], say=said.append)
    assert again["volumes"] == read_json(asked.results_file)["volumes"] == results["volumes"]
    assert [path.stat().st_mtime_ns for path in files] == times
    plain = run_study(study, ["mlp"], say=said.append)
    assert plain["volumes"] == results["volumes"]


def test_rows_of_the_version_before_stand(study, monkeypatch):
    """Its defaults are those of today; those of the one before it were others."""
    monkeypatch.setattr(volume_runs, "measure_cell", lambda *_: {"words": "measured"})
    asked = study.with_settings(volume={"architectures": ["mlp"], "subset": 40})
    work = volume_runs.CellWork(asked, Network("mlp", "clean", asked.config.volume.seed), Cell(0.25, 0.6))
    assert volume_runs.measured_cell(work)["words"] == "measured"
    content = read_json(work.path)
    assert content["settings"]["estimator"] == MASSES
    kept = content | {"row": {"words": "kept"}}
    for version, words in ((MASSES, "kept"), (4, "kept"), (3, "measured")):
        write_json(work.path, kept | {"settings": kept["settings"] | {"estimator": version}})
        assert volume_runs.measured_cell(work)["words"] == words
