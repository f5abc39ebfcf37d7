"""The plane through three models: coordinates and losses against plain evaluation, and one minimum across landscapes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import normal
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.plane import plane_losses
from minima_volume.stages.plane import run_plane


def three_models():
    """Perceptrons in double precision."""
    models = []
    for seed in range(3):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)).double())
    return models


def moved(models, plane, u, v):
    """The model at coordinates (u, v), by hand from the three."""
    a, b, c = ([p.detach() for p in model.parameters()] for model in models)
    factors = Directions.of(models[0]).factors
    (p1, _), (p2, q2) = plane.points[1:]
    second = (v / q2) if q2 else 0.0
    first = (u - second * p2) / p1
    model = copy.deepcopy(models[0])
    with torch.no_grad():
        for parameter, x, y, z, _ in zip(model.parameters(), a, b, c, factors, strict=True):
            parameter.copy_(x + first * (y - x) + second * (z - x))
    return model


def test_losses_on_the_plane_are_those_of_the_models_there():
    """All landscapes, at corners and inside."""
    models, x = three_models(), normal(30, 2)
    y = torch.arange(30) % 3
    plane = plane_losses(models, x, y, "cross_entropy", [10, 30], resolution=5)
    assert plane.loss.shape == (2, 5, 5) and plane.out_of_plane < 1e-12
    for row, column in ((0, 0), (2, 3), (4, 1)):
        model = moved(models, plane, plane.u[column], plane.v[row])
        for k, size in enumerate(plane.sizes):
            expected = nn.functional.cross_entropy(model(x[:size]), y[:size]).item()
            assert plane.loss[k, row, column] == pytest.approx(expected, rel=1e-9)


def test_coordinates_are_filter_normalised_distances():
    """Of each model from the first and from each other, in units of the first one's filter norms: radii."""
    models = three_models()
    plane = plane_losses(models, normal(4, 2), torch.zeros(4).long(), "cross_entropy", [4], resolution=3)
    factors = Directions.of(models[0]).factors

    def distance(first, second):
        parts = zip(models[first].parameters(), models[second].parameters(), factors, strict=True)
        return math.sqrt(sum(((a - b) / f).square().sum().item() for a, b, f in parts))

    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(plane.points[i] - plane.points[j]) == pytest.approx(distance(i, j), rel=1e-9)
    reach = 0.35 * np.ptp(plane.points, axis=0).max()
    assert plane.u[0] == pytest.approx(plane.points[:, 0].min() - reach)
    assert plane.v[-1] == pytest.approx(plane.points[:, 1].max() + reach)


def test_three_models_that_span_no_plane():
    """Two of them, the same twice, or three on a line: an error that says so."""
    models, data = three_models(), (normal(4, 2), torch.zeros(4).long(), "cross_entropy", [4])
    with pytest.raises(ConfigError, match="three models, not 2"):
        plane_losses(models[:2], *data)
    with pytest.raises(ConfigError, match="same parameters"):
        plane_losses([models[0], models[0], models[1]], *data)
    middle = copy.deepcopy(models[0])
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), models[1].parameters(), strict=True):
            parameter.mul_(0.5).add_(0.5 * other)
    with pytest.raises(ConfigError, match="lie on one line"):
        plane_losses([models[0], models[1], middle], *data)


def test_the_plane_of_a_run(digits_run):
    """Minima at their own training losses, in the landscapes of their own data; unknown ones are named."""
    trained = mv.load_models_and_data(digits_run)
    plane = run_plane(digits_run, trained=trained, resolution=9, progress=False)
    assert plane.sizes == (20, 40, 60)
    with pytest.raises(ConfigError, match=r"minima \[30\] are not in model_0_data_10"):
        run_plane(digits_run, [0, 20, 30], trained=trained, progress=False)
