"""The workloads of the engine benchmark: trained minima of the study's shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.data.mnist import mnist
from minima_volume.data.swiss_roll import swiss_roll
from minima_volume.losses.registry import get_loss
from minima_volume.models.cnn import CNN
from minima_volume.models.mlp import MLP

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "bce_with_logits": lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets),
    "mse": F.mse_loss,
}


@dataclass(frozen=True)
class Workload:
    """Models of several levels and their nested landscapes.

    Attributes:
        name: as the table calls it.
        models: level -> trained model.
        x, y: base, then additional samples.
        sizes: level -> samples.
        loss: its name.
        threshold: the headline threshold.
        baseline_coefficients: how many of the coefficients the baseline walks; its time is scaled up to all of them.
        directions: of the engine's whole curves; radii take twice as many. A study has 500 to 1,000.
    """

    name: str
    models: dict[int, nn.Module]
    x: Tensor
    y: Tensor
    sizes: dict[int, int]
    loss: str
    threshold: float
    baseline_coefficients: int
    directions: int


def build(name: str) -> Workload:
    """Build one workload: draw or load the samples and train a model a level."""
    make = {
        "swiss roll x5": _swiss,
        "MNIST MLP [256,128]": lambda: _mnist("MNIST MLP [256,128]", [256, 128]),
        "MNIST MLP [200,200]": lambda: _mnist("MNIST MLP [200,200]", [200, 200]),
        "modulo": _modulo,
        "CIFAR MLP": _cifar,
        "MNIST CNN": _cnn,
        "CIFAR CNN": _cifar_cnn,
    }[name]
    return make()


NAMES = ("swiss roll x5", "MNIST MLP [256,128]", "MNIST MLP [200,200]", "modulo", "CIFAR MLP", "MNIST CNN")


def _swiss() -> Workload:
    pool = swiss_roll(10, 800)
    order = torch.randperm(len(pool.x_train), generator=torch.Generator().manual_seed(0))[:830]
    x, y = pool.x_train[order], pool.y_train[order]
    sizes = {level: 50 + level for level in (0, 50, 130, 230, 430, 780)}
    return _trained("swiss roll x5", lambda: MLP((2,), 1, [32] * 5), x, y, sizes, "bce_with_logits", 0.1, 600, 50, 48)


def _mnist(name: str, hidden: list[int]) -> Workload:
    pool = mnist(0, 0)
    sizes = {0: 60, 540: 600, 5940: 6000}
    x, y = pool.x_train[:6000], pool.y_train[:6000]
    return _trained(name, lambda: MLP((1, 28, 28), 10, hidden), x, y, sizes, "cross_entropy", 0.1, 60, 10, 12)


def _modulo() -> Workload:
    a, b = torch.meshgrid(torch.arange(97), torch.arange(97), indexing="ij")
    order = torch.randperm(97 * 97, generator=torch.Generator().manual_seed(0))
    x = torch.cat([F.one_hot(a.flatten(), 97), F.one_hot(b.flatten(), 97)], 1).float()[order]
    y = F.one_hot((a + b).flatten() % 97, 97).float()[order]
    sizes = {0: 188, 282: 470, 752: 940, 2634: 2822}
    return _trained("modulo", lambda: MLP((194,), 97, [250]), x[:2822], y[:2822], sizes, "mse", 0.01, 300, 50, 12)


def _cifar() -> Workload:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(2000, 3, 32, 32, generator=random), torch.randint(0, 10, (2000,), generator=random)
    sizes = {0: 50, 450: 500, 1950: 2000}
    return _trained("CIFAR MLP", lambda: MLP((3, 32, 32), 10, [512, 256]), x, y, sizes, "cross_entropy", 0.1, 25, 5, 8)


def _cnn() -> Workload:
    pool = mnist(0, 0)
    x, y = pool.x_train[:600], pool.y_train[:600]
    sizes = {0: 60, 240: 300, 540: 600}
    return _trained(
        "MNIST CNN", lambda: CNN((1, 28, 28), 10, [16, 32], [64]), x, y, sizes, "cross_entropy", 0.1, 40, 5, 8
    )


def _cifar_cnn() -> Workload:
    """For a GPU: on one thread a direction of the loop takes minutes."""
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(1000, 3, 32, 32, generator=random), torch.randint(0, 10, (1000,), generator=random)
    sizes = {0: 50, 450: 500, 950: 1000}
    return _trained(
        "CIFAR CNN", lambda: CNN((3, 32, 32), 10, [32, 64], [128]), x, y, sizes, "cross_entropy", 0.1, 10, 5, 8
    )


def _trained(
    name: str,
    make: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    sizes: dict[int, int],
    loss: str,
    threshold: float,
    epochs: int,
    baseline_coefficients: int,
    directions: int,
) -> Workload:
    models = {}
    for level, size in sizes.items():
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(epochs):
            for batch in torch.arange(size).split(1024):
                optimizer.zero_grad()
                get_loss(loss).per_sample(model(x[batch]), y[batch]).mean().backward()
                optimizer.step()
        models[level] = model.eval().requires_grad_(False)
    return Workload(name, models, x, y, sizes, loss, threshold, baseline_coefficients, directions)


def published_grid(count: int) -> np.ndarray:
    """The published coefficients, linspace(0, 1, count) ** 2."""
    return np.linspace(0.0, 1.0, count) ** 2
