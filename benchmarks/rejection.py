"""How many samples splitting looks at where particles are given up early, as a share of all: MNIST, [256, 128], 6,000 samples.

    python benchmarks/rejection.py

One repeat of 60 particles at a log mass near -8, with stated moves (whose steps have 30 % accepted) and at the pilot's pace (35 %). Prints a
table and writes it to benchmarks/README.md. That scores are the same to the bit is a test (tests/perturbation/test_rejection.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pages import between
from torch import Tensor
from workloads import Workload, build

from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.rejection import Rejection
from minima_volume.perturbation.tiles import Tile
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.splitting import Splitting, splitting

README = Path(__file__).parent / "README.md"
WORKLOAD, LEVEL, SIZE, SIGMA, PARTICLES = "MNIST MLP [256,128]", 5940, 6000, 0.053, 60


@dataclass
class Counted:
    """Samples that particles were evaluated on, and those that they would have been without an end."""

    seen: int = 0
    all: int = 0
    finished: int = 0


def share(work: Workload, num_moves: int | None) -> str:
    """A row of the table."""
    counted, add, finished, empty = Counted(), Rejection._add, Rejection._finished, Rejection._empty

    def counting_add(self: Rejection, state: Tensor, outputs: Any, tile: Tile) -> Tensor:
        counted.seen += len(state) * (tile.stop - tile.start)
        return add(self, state, outputs, tile)

    def counting_finished(self: Rejection, state: Tensor) -> Tensor:
        counted.finished += len(state)
        return finished(self, state)

    def counting_empty(self: Rejection, count: int, z: Tensor) -> Tensor:
        counted.all += count
        return empty(self, count, z)

    engine = LossEngine(work.models[LEVEL], work.x, work.y, work.loss, [SIZE])
    event = Target.of(engine, SIGMA, SIZE, Condition("loss", work.threshold))
    Rejection._add, Rejection._finished, Rejection._empty = counting_add, counting_finished, counting_empty  # type: ignore[method-assign]
    try:
        (repeat,) = splitting(event, [1], Splitting(num_particles=PARTICLES, num_moves=num_moves))
    finally:
        Rejection._add, Rejection._finished, Rejection._empty = add, finished, empty  # type: ignore[method-assign]
    moves = "as a pilot finds" if num_moves is None else str(num_moves)
    proposals, spent = counted.finished / counted.all, counted.seen / (counted.all * SIZE)
    return f"| {moves} | {repeat.log_mass:.1f} | {proposals:.2f} | {spent:.2f} |"


def main() -> None:
    torch.set_num_threads(1)
    work, rows = build(WORKLOAD), []
    for num_moves in (3, 10, None):
        rows.append(share(work, num_moves))
        print(rows[-1], flush=True)
    head = "| moves a stage | log mass | particles that reach the last sample | samples looked at, of all |\n| --- | --- | --- | --- |"
    text = README.read_text(encoding="utf-8")
    README.write_text(between(text, "rejection", "\n".join([head, *rows])), encoding="utf-8")


if __name__ == "__main__":
    main()
