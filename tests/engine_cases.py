"""What the engine's tests share: the plain loop, written afresh (float64, theta* + c * direction, one forward a landscape), and small models."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.perturbation.engine import LossEngine

SEEDS = [1, 2, 3]
COEFFICIENTS = [0.0, 1e-3, 0.05, 0.3, 1.0, 2.5]
NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
CUDA = pytest.param("cuda", marks=NEEDS_GPU)


def mean_loss(loss: str | Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> float:
    if loss == "cross_entropy":
        return F.cross_entropy(outputs.flatten(0, -2), y.flatten().long()).item()
    if loss == "bce_with_logits":
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), y.to(outputs.dtype)).item()
    if loss == "mse":
        return F.mse_loss(outputs, y.to(outputs.dtype).reshape(outputs.shape)).item()
    assert callable(loss)
    return loss(outputs, y).mean().item()


def share_right(loss: str | Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> float:
    """A tie is wrong: the right class must be above every other."""
    if loss == "bce_with_logits":
        return torch.where(y > 0.5, outputs.squeeze(-1) > 0, outputs.squeeze(-1) < 0).double().mean().item()
    if loss == "mse" and y.ndim == 2 and y.shape[1] > 1:
        y = y.argmax(-1)
    elif loss != "cross_entropy":
        return math.nan
    own = outputs.gather(-1, y.unsqueeze(-1))
    return ((outputs >= own).sum(-1) == 1).double().mean().item()


@torch.no_grad()
def plain_loop(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: str | Callable[[Tensor, Tensor], Tensor],
    sizes: Sequence[int],
    seeds: Sequence[int] = SEEDS,
    coefficients: Sequence[float] = COEFFICIENTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and accuracies (K, D, C) by the published loop, in float64, with filter scaling."""
    model = copy.deepcopy(model).double().eval()
    x = x.double() if x.is_floating_point() else x
    buffers = copy.deepcopy(dict(model.named_buffers()))
    moved = "weight", "bias", "original0", "original1"  # the last two: of weight_norm
    named = [
        (name, p)
        for name, p in model.named_parameters()
        if name.endswith(moved) or name.rsplit(".", 1)[-1].startswith(("weight_", "bias_", "in_proj_"))
    ]
    start = [p.clone() for _, p in named]
    losses, accs = np.zeros((2, len(sizes), len(seeds), len(coefficients)))
    for d, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        direction = []
        for p in start:
            xi = torch.randn(p.shape, generator=generator).double()
            rows = p.reshape(len(p), -1).square().sum(1).sqrt() if p.ndim > 1 else torch.ones(len(p))
            direction.append((xi.reshape(len(p), -1) * rows[:, None]).reshape(p.shape))
        for c, coefficient in enumerate(coefficients):
            for (_, p), theta, step in zip(named, start, direction, strict=True):
                p.copy_(theta + coefficient * step)
            for k, size in enumerate(sizes):
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
                outputs = model(x[:size].clone())
                losses[k, d, c] = mean_loss(loss, outputs, y[:size])
                accs[k, d, c] = share_right(loss, outputs, y[:size])
    return losses, accs


def run_engine(engine: LossEngine, seeds: Sequence[int] = SEEDS, coefficients: Sequence[float] = COEFFICIENTS):
    """(losses, accuracies), (K, D, C), all in one call."""
    rows = np.repeat(np.arange(len(seeds)), len(coefficients))
    values = engine.rays(list(seeds)).evaluate(rows, np.tile(np.array(coefficients), len(seeds)))
    shape = len(engine.sizes), len(seeds), len(coefficients)
    return values.loss.reshape(shape), values.accuracy.reshape(shape)


def fixed(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def normal(*shape: int, seed: int = 100, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def integers(high: int, *shape: int, seed: int = 200) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def targets(loss: str, samples: int, outputs: int) -> Tensor:
    if loss == "bce_with_logits":
        return integers(2, samples)
    if loss == "mse":
        return F.one_hot(integers(outputs, samples), outputs).double() if outputs > 1 else normal(samples, 1)
    return integers(outputs, samples)


def mlp(
    widths: Sequence[int], activation: type[nn.Module] = nn.ReLU, bias: bool = True, flatten: bool = False
) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()] if flatten else []
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(a, b, bias=bias), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    x: tuple[int, ...]
    loss: str
    outputs: int
    sizes: tuple[int, ...]
    path: str = "mlp"


def final_activation() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 3), nn.Tanh())


CASES = {
    "depth 0": Case(lambda: mlp([3, 4]), (40, 3), "cross_entropy", 4, (7, 40)),
    "depth 0, one output, no bias": Case(lambda: mlp([5, 1], bias=False), (33, 5), "mse", 1, (33,)),
    "depth 1": Case(lambda: mlp([2, 31, 3]), (70, 2), "cross_entropy", 3, (1, 20, 70)),
    "depth 2, odd widths, tanh": Case(lambda: mlp([3, 17, 9, 2], nn.Tanh), (129, 3), "cross_entropy", 2, (50, 128, 129)),
    "depth 5, swiss roll": Case(lambda: mlp([2, *[32] * 5, 1]), (300, 2), "bce_with_logits", 1, (50, 90, 300)),
    "depth 3, width 1, gelu": Case(lambda: mlp([4, 1, 5, 1, 2], nn.GELU), (45, 4), "cross_entropy", 2, (45,)),
    "depth 4, no bias, sigmoid": Case(lambda: mlp([6, 16, 16, 15, 20, 7], nn.Sigmoid, False), (60, 6), "mse", 7, (30, 60)),
    "wide, several tiles": Case(lambda: mlp([12, 200, 10]), (1100, 12), "cross_entropy", 10, (60, 600, 1100)),
    "images": Case(lambda: mlp([50, 33, 10], nn.SiLU, True, True), (90, 2, 5, 5), "cross_entropy", 10, (40, 90)),
    "ends in an activation": Case(final_activation, (40, 4), "mse", 3, (40,)),
    "dropout and identity": Case(
        lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.9), nn.ELU(), nn.Identity(), nn.Linear(9, 3)),
        (40, 4), "cross_entropy", 3, (20, 40),
    ),
    "in-place activations": Case(
        lambda: nn.Sequential(nn.Linear(4, 9), nn.LeakyReLU(0.3, inplace=True), nn.Linear(9, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)),
        (40, 4), "cross_entropy", 3, (40,),
    ),
    "cnn with pooling": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3),
        ),
        (60, 1, 8, 8), "cross_entropy", 3, (10, 35, 60), "cnn",
    ),
    "cnn without pooling, stride 2, no bias": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1)),
        (50, 3, 7, 7), "bce_with_logits", 1, (20, 50), "cnn",
    ),
    "cnn of convolutions only": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 6, 1), nn.GELU(), nn.Conv2d(6, 4, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (40, 2, 5, 5), "mse", 4, (33, 40), "cnn",
    ),
    "one convolution": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 5), nn.Flatten()), (20, 1, 5, 5), "cross_entropy", 3, (20,), "cnn"
    ),
}  # fmt: skip
for mode in ("zeros", "reflect", "replicate", "circular"):
    CASES[f"cnn padding {mode}"] = Case(
        lambda mode=mode: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=2, padding_mode=mode), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1, padding_mode=mode),
            nn.ReLU(), nn.Flatten(), nn.Linear(128, 3),
        ),
        (20, 1, 6, 6), "cross_entropy", 3, (5, 20), "cnn",
    )  # fmt: skip


class GPT(nn.Module):
    """Two causal layers; the output matrix is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        layers = [nn.TransformerEncoderLayer(8, 2, 16, 0.3, batch_first=True, norm_first=True) for _ in range(2)]
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("mask", torch.ones(6, 6).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask)
        return self.head(self.norm(hidden))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + torch.relu(self.a(x)))
