"""How long a log mass near -8 takes to measure for large networks: whole calls of `measure_volume`, in seconds by the clock.

    python benchmarks/large.py [NAME ...]

A perceptron of 1.7 million parameters on 50 images of noise, and a transformer of two layers and width 64 on 50 sequences of 32 tokens, both
trained until their loss is 0.002. Sigma is a multiple of the one that `suggest_sigma` finds. 100 particles a repeat are enough for ±0.3 nats
there; the default, 250, gives less. All threads of torch are used (OMP_NUM_THREADS). Prints rows of the table in benchmarks/README.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.models.mlp import MLP

SAMPLES, THRESHOLD, TRAINED = 50, 0.1, 0.002
PARTICLES = 100


class Sequences(nn.Module):
    """The encoder of a transformer of two layers and width 64; the mean over positions is read as 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(30, 64), nn.Parameter(0.02 * torch.randn(32, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(self.tokens(x) + self.places).mean(1))


# the network, its samples, and the sigma in units of the suggested one
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], float]] = {
    "perceptron, 1.7 million": (lambda: MLP((3, 32, 32), 10, [512, 256]), lambda: torch.randn(SAMPLES, 3, 32, 32), 1.2),
    "2-layer transformer": (Sequences, lambda: torch.randint(30, (SAMPLES, 32)), 1.47),
}


@dataclass(frozen=True)
class Measured:
    """A network's log mass, and what it took."""

    parameters: int
    sigma: float
    volume: mv.LocalVolume
    seconds: float

    def __str__(self) -> str:
        low, high = self.volume.interval
        if self.volume.log_mass is None or low is None or high is None:
            return self.volume.verdict
        return f"{self.volume.log_mass:.2f} ({low:.2f} to {high:.2f})"


def measured(name: str, device: str = "cpu") -> Measured:
    """The network is trained, then measured."""
    make, draw, factor = NETWORKS[name]
    torch.manual_seed(0)
    model, x, y = make(), draw(), torch.randint(10, (SAMPLES,))
    model, x, y = model.to(device), x.to(device), y.to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss = torch.tensor(torch.inf)
    while loss > TRAINED:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    asked: dict[str, Any] = {"threshold": THRESHOLD, "progress": False}
    sigma = factor * mv.suggest_sigma(model, x, y, **asked)
    start = time.perf_counter()
    found = mv.measure_volume(model, x, y, sigma=sigma, num_particles=PARTICLES, **asked)
    seconds = time.perf_counter() - start
    assert isinstance(found, mv.LocalVolume)
    return Measured(sum(parameter.numel() for parameter in model.parameters()), sigma, found, seconds)


def main() -> int:
    names = sys.argv[1:] or list(NETWORKS)
    if unknown := set(names) - set(NETWORKS):
        sys.exit(f"error: {sorted(unknown)[0]!r} is not a network; allowed: {', '.join(NETWORKS)}")
    for name in names:
        row = measured(name)
        cells = (
            f"{row.parameters:,}",
            f"{row.sigma:.3g}",
            str(row),
            f"{row.volume.num_forward:,}",
            f"{row.seconds:.0f} s",
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
