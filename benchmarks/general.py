"""The general path against a naive loop that evaluates the same points: interleaved rounds on one thread, medians, ratios.

Networks that are no plain stack: a residual perceptron, one with BatchNorm, a transformer of two layers, resnet18 on 32 x 32 pixels. The naive
loop is what one would write: weights into place, one forward pass of each landscape, the mean loss of torch's own function, the share of right
answers. `python benchmarks/general.py` prints a table and writes it to benchmarks/README.md; names of networks measure these only and write nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pages import between
from torch import Tensor, nn

from minima_volume.models.resnet import resnet18
from minima_volume.perturbation.engine import LossEngine

ROUNDS = 15
README = Path(__file__).parent / "README.md"


class Residual(nn.Module):
    """x + f(x), four times."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(20, 64), nn.Linear(64, 10)
        self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(64) if norm else nn.Identity() for _ in range(4))
        self.residual = not norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block, norm in zip(self.blocks, self.norms, strict=True):
            y = torch.relu(norm(block(x)))
            x = x + y if self.residual else y
        return self.last(x)


class Sequences(nn.Module):
    """A transformer's encoder of two layers, the mean over 16 positions read as 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(self.embedding(x)).mean(1))


@dataclass(frozen=True)
class Work:
    """A network, its samples, and the sizes of three nested landscapes; `count` points are evaluated a round."""

    make: Callable[[], nn.Module]
    x: Callable[[torch.Generator], Tensor]
    sizes: tuple[int, int, int]
    count: int


WORKS = {
    "residual MLP": Work(lambda: Residual(False), lambda g: torch.randn(256, 20, generator=g), (128, 192, 256), 200),
    "BatchNorm MLP": Work(lambda: Residual(True), lambda g: torch.randn(256, 20, generator=g), (128, 192, 256), 200),
    "2-layer transformer": Work(Sequences, lambda g: torch.randint(30, (64, 16), generator=g), (32, 48, 64), 40),
    "resnet18": Work(
        lambda: resnet18((3, 32, 32), 10), lambda g: torch.randn(16, 3, 32, 32, generator=g), (8, 12, 16), 4
    ),
}


@torch.no_grad()
def naive(
    model: nn.Module,
    names: list[str],
    x: Tensor,
    y: Tensor,
    sizes: tuple[int, ...],
    direction: list[Tensor],
    coefficients: np.ndarray,
) -> np.ndarray:
    """Losses (K, B) along one direction."""
    have = dict(model.named_parameters())
    parameters = [have[name] for name in names]
    before = [parameter.clone() for parameter in parameters]
    found = np.empty((len(sizes), len(coefficients)))
    for k, size in enumerate(sizes):
        inputs, labels = x[:size], y[:size]
        for b, c in enumerate(coefficients):
            for parameter, minimum, step in zip(parameters, before, direction, strict=True):
                torch.add(minimum, step, alpha=float(c), out=parameter)
            outputs = model(inputs)
            found[k, b] = F.cross_entropy(outputs, labels).item()
            (outputs.argmax(1) == labels).float().mean().item()
    for parameter, minimum in zip(parameters, before, strict=True):
        parameter.copy_(minimum)
    return found


def compare(name: str) -> str:
    """One row of the table."""
    work, generator = WORKS[name], torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model, x = work.make().eval(), work.x(generator)
    y = torch.randint(10, (len(x),), generator=generator)
    coefficients = np.linspace(0, 1, work.count)
    ratios = []
    for sizes in (work.sizes[-1:], work.sizes):
        engine = LossEngine(model, x, y, "cross_entropy", sizes)
        assert engine.path.name == "general"
        direction = engine.directions.draw(1)[0]
        rays, names = engine.rays([1]), list(engine.directions.names)
        seconds: dict[str, list[float]] = {"naive": [], "ours": []}
        run = {
            "naive": lambda: naive(model, names, x, y, sizes, direction, coefficients),  # noqa: B023
            "ours": lambda: rays.evaluate(np.zeros(work.count, int), coefficients).loss,  # noqa: B023
        }
        np.testing.assert_allclose(run["ours"](), run["naive"](), rtol=2e-5)
        for number in range(ROUNDS):
            for who in sorted(run, reverse=bool(number % 2)):  # each goes first in every other round
                start = time.perf_counter()
                run[who]()
                seconds[who].append(time.perf_counter() - start)
        each = [1e3 * statistics.median(values) / work.count for values in seconds.values()]
        ratios.append((each[0], each[1], each[0] / each[1]))
    (alone, ours, ratio), (_, _, nested) = ratios
    return f"| {name} | {alone:.3g} ms | {ours:.3g} ms | {ratio:.2f}x | {nested:.2f}x |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(WORKS))
    chosen = parser.parse_args().networks
    torch.set_num_threads(1)
    lines = [
        "| network | naive loop, a point | general path | longest landscape alone | three nested landscapes |",
        "| --- | --- | --- | --- | --- |",
        *(compare(name) for name in chosen or WORKS),
    ]
    print("\n".join(lines))
    if not chosen:
        README.write_text(between(README.read_text(), "general", "\n".join(lines)))


if __name__ == "__main__":
    main()
