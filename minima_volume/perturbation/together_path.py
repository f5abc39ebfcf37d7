"""The path for modules that say that copies of them may be run together: one vectorised pass for many parameter vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from minima_volume.hosts.host import Host
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.general_path import TILE, Held
from minima_volume.perturbation.tiles import Tile, plan_tiles
from minima_volume.samples import Samples, part

TOGETHER = "runs_together"  # attribute of modules without randomness and without changes of state, whose outputs are (samples, ...)
MAX_CHUNK = 32
NUMBERS = 1 << 22  # of all parameter vectors of a chunk


class TogetherPath:
    """Runs B parameter vectors of a module in one pass of `torch.func.vmap`.

    Args:
        host: the module.
        directions: of its parameters.
        x: inputs of all samples.
        sizes: samples of the landscapes.
    """

    name = "together"
    features_first = False
    block = 1

    def __init__(self, host: Host, directions: Directions, x: Samples, sizes: Sequence[int]) -> None:
        self.module, self.base, self.x = host.module, directions, x
        self.tiles = plan_tiles(sizes, TILE)
        self.bytes_per_direction = sum(tensor.nbytes for tensor in directions.minimum)
        self.bytes_for_samples = 0
        self.chunk = max(1, min(MAX_CHUNK, NUMBERS // directions.num_params))

        def run(parameters: dict[str, Tensor], samples: tuple[Samples, ...]) -> Tensor:
            return functional_call(self.module, parameters, samples)

        self._run = vmap(run, in_dims=(0, None))

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are run together, whatever the landscape."""
        return self.chunk

    def hold(self, directions: Sequence[list[Tensor]]) -> Held:
        return list(directions)

    def stack(self, held: Held, rows: Tensor, coefficients: Tensor) -> list[list[Tensor]]:
        """The parameters of each (direction, coefficient)."""
        return [
            [torch.add(minimum, step, alpha=c) for minimum, step in zip(self.base.minimum, held[row], strict=True)]
            for row, c in zip(rows.tolist(), coefficients.tolist(), strict=True)
        ]

    def forward(self, stacked: list[list[Tensor]], held: Held, tile: Tile) -> Tensor:
        """Outputs (B, samples, ...) of one tile."""
        return self.forward_at(stacked, tile)

    def room_for(self, count: int) -> list[list[Tensor]]:
        """Tensors to write parameter vectors into."""
        return [[torch.empty_like(tensor) for tensor in self.base.minimum] for _ in range(count)]

    def forward_at(self, vectors: Sequence[list[Tensor]], tile: Tile) -> Tensor:
        """Outputs (B, samples, ...) of one tile at B parameter vectors."""
        stacked = {
            name: torch.stack(column) for name, column in zip(self.base.names, zip(*vectors, strict=True), strict=True)
        }
        samples = part(self.x, tile.start, tile.stop)
        return self._run(stacked, samples if isinstance(samples, tuple) else (samples,))
