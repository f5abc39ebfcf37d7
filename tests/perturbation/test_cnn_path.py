"""The fast path for convolutional stacks: layouts and pooling that could go wrong, against the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from minima_volume.perturbation.cnn_path import corners, halve, halve_sum, is_halving
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles


def stacks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "nothing after flatten": nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        "classes are pixels": nn.Sequential(nn.Conv2d(1, 1, (10, 8)), nn.Flatten()),
        "activation after flatten": nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(100, 3)
        ),
        "odd sizes, circular": nn.Sequential(
            nn.Conv2d(1, 4, 4, padding_mode="circular", padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3),
            nn.GELU(),
            nn.MaxPool2d(2, 1),
            nn.Flatten(),
            nn.Linear(6, 5),
            nn.Tanh(),
            nn.Linear(5, 3),
        ),
        "pool first": nn.Sequential(
            nn.Conv2d(1, 5, 3, bias=False), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
        ),
    }


@pytest.mark.parametrize("case", stacks())
def test_rays_and_particles_equal_the_plain_loop(case: str) -> None:
    model = stacks()[case].double()
    x, y = torch.randn(70, 1, 10, 10, dtype=torch.float64), torch.randint(0, 3, (70,))
    fast, plain = (LossEngine(model, x, y, sizes=[20, 70], fast=fast) for fast in (True, False))
    assert (fast.path.name, plain.path.name) == ("cnn", "general")
    rows, coefficients = np.array([0, 1, 1, 0]), np.array([0.01, 0.1, 0.3, 0.5])
    expected = plain.rays([1, 2]).evaluate(rows, coefficients).loss
    np.testing.assert_allclose(fast.rays([1, 2]).evaluate(rows, coefficients).loss, expected, rtol=1e-12)
    particles = Particles(fast, 0.3)
    z = particles.draw(5, particles.generator(1))
    np.testing.assert_allclose(particles.evaluate(z).loss, Particles(plain, 0.3).evaluate(z).loss, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 7, 9), (3, 2, 2, 3)])
def test_the_first_layer_is_halved_as_it_is_summed(shape: tuple[int, ...]) -> None:
    """To the bit what halving the sum gives, with what is no number."""
    base, step = torch.randn(shape), torch.randn(shape)
    base[0, 0, 0, 0], step[-1, -1, 1, 1] = torch.nan, torch.inf
    whole = halve(torch.add(base, step, alpha=0.3))
    torch.testing.assert_close(halve_sum(corners(base), corners(step), 0.3), whole, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 7, 9), (3, 2, 2, 3)])
def test_halving_is_max_pooling(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape)
    images[0, 0, 0, 0] = torch.nan
    torch.testing.assert_close(halve(images), nn.MaxPool2d(2)(images), rtol=0, atol=0, equal_nan=True)


def test_only_plain_halving_counts() -> None:
    assert is_halving(nn.MaxPool2d(2)) and is_halving(nn.MaxPool2d((2, 2), 2))
    others = [nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
    assert not any(is_halving(module) for module in [*others, nn.AvgPool2d(2)])
