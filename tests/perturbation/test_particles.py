"""Particles: losses, accuracies and scores of unrelated perturbed parameter vectors, against the plain loop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.models.mlp import MLP
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.mlp_particles import MLPParticles, samples_basis
from minima_volume.perturbation.particles import Particles


def plain_losses(
    engine: LossEngine, model: nn.Module, x: Tensor, y: Tensor, sigma: float, vectors: list[list[Tensor]]
) -> np.ndarray:
    """Cross-entropy at theta* + sigma F z, one whole forward pass each, in float64."""
    losses = []
    for vector in vectors:
        other = copy.deepcopy(model).double().eval()
        parameters = dict(other.named_parameters())
        with torch.no_grad():
            for name, minimum, factor, z in zip(
                engine.directions.names, engine.directions.minimum, engine.directions.factors, vector, strict=True
            ):
                parameters[name].copy_(minimum.double() + sigma * factor.double() * z.double())
            losses.append(F.cross_entropy(other(x.double()).flatten(0, -2), y.flatten()).item())
    return np.array(losses)


def whole(engine: LossEngine, model: nn.Module, x: Tensor, z: Tensor) -> list[list[Tensor]]:
    """The parameter-shaped normals that rows of z stand for; a projected first layer becomes Q z."""
    basis = samples_basis(x.flatten(1)) if isinstance(Particles(engine, 1.0).runner, MLPParticles) else None
    vectors = []
    for row in z:
        vector, start = [], 0
        for i, shape in enumerate(engine.directions.shapes):
            if i == 0 and basis is not None:
                count = shape[0] * basis.shape[1]
                vector.append(row[start : start + count].view(shape[0], -1) @ basis.t())
            else:
                count = shape.numel()
                vector.append(row[start : start + count].view(shape))
            start += count
        assert i or start
        vectors.append(vector)
    assert start == z.shape[1]
    return vectors


def perceptron(inputs: int, hidden: list[int], classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return MLP((inputs,), classes, hidden)


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))


class Normed(nn.Module):
    """Not a plain stack: the general path."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x).relu()))


CASES = {
    "projected": (perceptron(30, [7]), (12, 30)),
    "low rank": (perceptron(9, [16, 5]), None),
    "whole": (perceptron(4, [8, 8]), (40, 4)),
    "one layer": (perceptron(20, []), (5, 20)),
    "images": (nn.Sequential(nn.Flatten(), perceptron(36, [5])), (10, 1, 6, 6)),
    "cnn": (convolutional(), (10, 1, 8, 8)),
    "general": (Normed(), (10, 6)),
}


def samples(shape: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape or (40, 9), generator=generator)
    if shape is None:  # more samples than inputs, of rank 4
        x[:, 4:] = x[:, :1]
    return x, torch.randint(0, 3, (len(x),), generator=generator)


@pytest.mark.parametrize("scaling", ["filter", "none", "layer", "tensor_std", "sample_std"])
@pytest.mark.parametrize("case", CASES)
def test_losses_equal_the_plain_loop(case: str, scaling: str) -> None:
    model, shape = CASES[case]
    x, y = samples(shape)
    engine = LossEngine(model, x, y, sizes=[4, len(x)], scaling=scaling)
    particles = Particles(engine, 0.3)
    z = particles.draw(11, particles.generator(5))
    values = particles.evaluate(z, [1, 2])
    vectors = whole(engine, model, x, z)
    for k, size in enumerate(engine.sizes):
        expected = plain_losses(engine, model, x[:size], y[:size], 0.3, vectors)
        np.testing.assert_allclose(values.loss[k], expected, rtol=2e-5)
    assert values.score is not None
    wrong = np.rint((1 - values.accuracy) * np.array(engine.sizes)[:, None])
    np.testing.assert_array_equal(wrong <= np.array([[1], [2]]), values.score > 0)


def test_projection_draws_fewer_numbers_only_where_it_pays() -> None:
    x, y = samples((12, 30))
    engine = LossEngine(perceptron(30, [7]), x, y)
    assert Particles(engine, 0.1).dim == 7 * 12 + 7 + 7 * 3 + 3
    x, y = samples(None)
    assert Particles(LossEngine(perceptron(9, [16, 5]), x, y), 0.1).dim == 16 * 4 + 16 + 16 * 5 + 5 + 15 + 3
    x, y = samples((40, 4))
    assert Particles(LossEngine(perceptron(4, [8, 8]), x, y), 0.1).dim == 4 * 8 + 8 + 64 + 8 + 24 + 3


def test_projection_keeps_the_law() -> None:
    """Outputs of a linear model: their covariance is sigma^2 F^2 (x x' + 1), whatever numbers are drawn.

    A covariance has a standard error of 0.7 % of the largest variance, a mean one of 0.5 % of the largest deviation.
    """
    x, y = samples((5, 20))
    model = perceptron(20, [])
    engine = LossEngine(model, x, y, scaling="none")
    particles = Particles(engine, 0.5)
    assert particles.dim < 63
    z = particles.draw(40_000, particles.generator(0))
    runner = particles.runner
    outputs = torch.cat(
        [next(iter(runner.outputs(runner.stack(part, 0.5), engine.path.tiles[:1]))).clone() for part in z.split(500)]
    )
    moved = (outputs - model(x).detach())[:, :, 0]
    expected = 0.25 * (x @ x.T + 1)
    assert float((moved.T.cov() - expected).abs().max()) < 0.045 * float(expected.max())
    assert float(moved.mean(0).abs().max()) < 0.03 * float(expected.diagonal().max().sqrt())


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 40), max_size=3),
    count=st.integers(1, 60),
    batch=st.integers(1, 30),
    seed=st.integers(0, 2**20),
)
def test_values_do_not_depend_on_the_batch(inputs: int, hidden: list[int], count: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, inputs, generator=generator), torch.randint(0, 3, (count,), generator=generator)
    particles = Particles(LossEngine(perceptron(inputs, hidden), x, y), 0.2)
    z = particles.draw(30, particles.generator(seed))
    together = particles.evaluate(z).loss
    apart = np.concatenate([particles.evaluate(part).loss for part in z.split(batch)], 1)
    np.testing.assert_array_equal(together, apart)


def test_the_model_comes_back_unchanged() -> None:
    for model, shape in CASES.values():
        x, y = samples(shape)
        before = copy.deepcopy(model.state_dict())
        particles = Particles(LossEngine(model, x, y), 0.5)
        particles.evaluate(particles.draw(3, particles.generator(0)))
        assert all(bool((before[name] == tensor).all()) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_sigma_must_be_positive(sigma: float) -> None:
    x, y = samples((10, 6))
    with pytest.raises(ConfigError, match="sigma .* must be a positive number that torch.float32 can hold"):
        Particles(LossEngine(Normed(), x, y), sigma)


@pytest.mark.parametrize(("samples", "drawn"), [(60, 34), (1260, 8)])
def test_which_numbers_a_seed_draws_does_not_follow_the_speed(samples: int, drawn: int) -> None:
    """Normals come in calls of so many particles, on which the numbers depend: cells measured years apart are to be of the same ones."""
    engine = LossEngine(perceptron(64, [128, 64], 10), torch.randn(samples, 64), torch.zeros(samples, dtype=torch.long))
    assert Particles(engine, 0.1).runner.drawn == drawn


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", CASES)
def test_gpu_equals_cpu(case: str) -> None:
    model, shape = CASES[case]
    x, y = samples(shape)
    here = Particles(LossEngine(model, x, y), 0.3)
    there = Particles(LossEngine(copy.deepcopy(model).cuda(), x.cuda(), y.cuda()), 0.3)
    z = here.draw(9, here.generator(1))
    np.testing.assert_allclose(there.evaluate(z.cuda()).loss, here.evaluate(z).loss, rtol=1e-4)
