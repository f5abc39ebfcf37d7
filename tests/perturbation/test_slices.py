"""Slices of your own models: closed forms, the radii that volumes rest on, planes through one, two and three models."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import normal
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.perturbation.plane import plane_losses

X = normal(40, 2)
Y = torch.arange(40) % 3
QUIET = {"progress": False}


def classifiers(count: int, bias: float = 0.0) -> list[nn.Module]:
    models = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)).double())
    return models


def loss_of(model: nn.Module) -> float:
    return nn.functional.cross_entropy(model(X), Y).item()


def test_a_line_is_the_loss_at_the_moved_parameters():
    """On both sides, in every direction, by hand; the middle is the minimum itself."""
    (model,) = classifiers(1)
    line = mv.slice_line(model, X, Y, seeds=(3, 8), scaling="none", reach=0.5, num_points=5)
    assert line.coefficients.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    assert line.losses[:, 2] == pytest.approx([loss_of(model)] * 2)
    for row, seed in enumerate(line.seeds):
        moved = copy.deepcopy(model)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter -= 0.5 * torch.randn(parameter.shape, generator=random)
        assert line.losses[row, 0] == pytest.approx(loss_of(moved), rel=1e-6)
    assert np.isnan(line.crossings).all() and "no threshold" in str(line)


def test_a_line_crosses_where_a_ray_does():
    """The radius of `measure_volume` along the same seed; and the ends are past the threshold."""
    x = torch.eye(3, dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    y = model(x).detach()
    rays = mv.measure_volume(model, x, y, "mse", threshold=0.1, measure="ball", num_directions=4, **QUIET)
    line = mv.slice_line(model, x, y, "mse", threshold=0.1, seeds=range(1, 5), num_points=4001)
    assert line.crossings[:, 1] * line.norms == pytest.approx(rays.radii, rel=3e-4)  # both to about 1e-4
    assert line.crossings[:, 0] == pytest.approx(-line.crossings[:, 1], rel=1e-9)  # a quadratic
    assert (line.losses[:, [0, -1]] > 0.2).all()


def test_one_model_in_two_random_directions():
    """A quadratic of curvature 1 in all directions: its loss is r^2 / 2, whatever the plane; inside is a circle."""
    x = 2**0.5 * torch.eye(4, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(0.5)  # filter norm 1
    found = mv.slice_plane(model, x, model(x).detach(), "mse", threshold=0.125, resolution=21, **QUIET)
    u, v = np.meshgrid(found.plane.u, found.plane.v)
    assert found.plane.loss[0] == pytest.approx((u**2 + v**2) / 2, abs=1e-12)
    assert found.plane.u[-1] == -found.plane.u[0] > 0.5 and found.seeds == (1, 2) and found.names == ("model",)
    assert found.plane.at_points.tolist() == [[pytest.approx(0, abs=1e-20)]]


def test_two_models_lie_on_the_plane():
    """Where the plane says, with their own losses; across is a random direction, orthogonal in the scaled coordinates."""
    models = dict(zip(("a", "b"), classifiers(2), strict=True))
    found = mv.slice_plane(models, X, Y, threshold=0.5, resolution=9, **QUIET)
    plane = found.plane
    assert found.names == ("a", "b") and found.seeds == (1,) and plane.out_of_plane == 0
    assert plane.at_points[0] == pytest.approx([loss_of(model) for model in models.values()])
    assert plane.points[0].tolist() == [0, 0] and plane.points[1, 1] == 0
    assert plane.u[0] < 0 and plane.u[-1] > plane.points[1, 0] and np.ptp(plane.u) == pytest.approx(np.ptp(plane.v))
    again = mv.slice_plane(models, X, Y, threshold=0.5, resolution=9, **QUIET)
    other = mv.slice_plane(models, X, Y, threshold=0.5, resolution=9, seed=2, **QUIET)
    assert np.array_equal(again.plane.loss, plane.loss) and not np.allclose(other.plane.loss, plane.loss)
    middle = 4  # the row v = 0 holds both models, whatever the seed
    assert other.plane.loss[0, middle] == pytest.approx(plane.loss[0, middle])


def test_three_models_as_the_plane_of_a_run():
    """The same numbers as `plane_losses`, and the models come back unchanged."""
    models = classifiers(3)
    before = [parameter.detach().clone() for model in models for parameter in model.parameters()]
    found = mv.slice_plane(models, X, Y, resolution=5, **QUIET)
    expected = plane_losses(models, X, Y, "cross_entropy", [40], resolution=5)
    assert np.array_equal(found.plane.loss, expected.loss) and np.array_equal(found.plane.points, expected.points)
    assert expected.at_points[0] == pytest.approx([loss_of(model) for model in models], rel=1e-9)
    after = [parameter for model in models for parameter in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_statistics_of_another_model_are_named():
    """BatchNorm's running means are no parameters: the second model's are not used, and the slice says so."""
    first, second = (nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double() for _ in range(2))
    second(X)  # in training mode
    found = mv.slice_plane({"a": first, "b": second}, X, Y, resolution=3, **QUIET)
    assert "1.running_mean" in found.note and "those of a are used" in found.note
    assert mv.slice_plane({"a": first}, X, Y, resolution=3, **QUIET).note is None


REFUSED = {
    "four models": (lambda: mv.slice_plane(classifiers(4), X, Y), "one, two or three models, not 4"),
    "no model": (lambda: mv.slice_plane([], X, Y), "not 0"),
    "twice the same": (lambda: mv.slice_plane(classifiers(1) * 2, X, Y), "the same parameters"),
    "another architecture": (
        lambda: mv.slice_plane([*classifiers(1), nn.Linear(2, 3).double()], X, Y),
        "different names or shapes",
    ),
    "names of several": (lambda: mv.slice_plane(classifiers(2), X, Y, names="all"), "apply only to one model"),
    "resolution": (lambda: mv.slice_plane(classifiers(1), X, Y, resolution=2), "resolution 2 is not allowed"),
    "even": (lambda: mv.slice_line(*classifiers(1), X, Y, num_points=10), "num_points 10 is not allowed"),
    "reach": (lambda: mv.slice_line(*classifiers(1), X, Y, reach=-1.0), "reach -1.0 is not allowed"),
    "threshold": (lambda: mv.slice_line(*classifiers(1), X, Y, threshold=0.0), "threshold 0.0 is not allowed"),
    "seeds": (lambda: mv.slice_line(*classifiers(1), X, Y, seeds=()), "give whole numbers of at least 0"),
    "reach of text": (lambda: mv.slice_line(*classifiers(1), X, Y, reach="a"), "reach 'a' is not allowed"),
    "reach that is true": (lambda: mv.slice_line(*classifiers(1), X, Y, reach=True), "reach True is not allowed"),
    "points": (lambda: mv.slice_line(*classifiers(1), X, Y, num_points=5.0), "num_points 5.0 is not allowed"),
    "None": (lambda: mv.slice_plane(None, X, Y), "model is a NoneType; it must be a torch.nn.Module"),
    "one is None": (lambda: mv.slice_plane([*classifiers(1), None], X, Y), "model 2 is a NoneType; it must be a"),
    "no models at all": (lambda: mv.slice_plane({"a": 3}, X, Y), "it must be a torch.nn.Module"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_allowed(what: str):
    call, text = REFUSED[what]
    with pytest.raises(ConfigError, match=text):
        call()
