"""The general path: any nn.Module, one forward pass for each perturbed parameter vector."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from minima_volume.hosts.footprint import PROBED, Footprint
from minima_volume.hosts.host import Host
from minima_volume.losses.loss import Loss
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.tiles import Tile, plan_tiles
from minima_volume.samples import Samples, count, part, tensors

TILE = 512
TILE_BYTES = 2**28  # of activations, if a tile of 512 samples would take more


Held = list[list[Tensor]]  # (xi * F) of each direction, parameter by parameter


class GeneralPath:
    """Writes theta* + c * direction into the host's module and runs it.

    The weights are written whole each time, never accumulated; each pass starts from the same buffers and attributes. What is
    written to is a copy, or the user's own model, which the engine borrows.

    Args:
        host: the module.
        directions: of its parameters.
        x: inputs of all samples.
        sizes: samples of the landscapes.
        loss: what reads the outputs; a user's own takes them as the model gives them.
    """

    chunk = 1
    name = "general"
    features_first = False
    block = 1

    def __init__(self, host: Host, directions: Directions, x: Samples, sizes: Sequence[int], loss: Loss) -> None:
        self.host, self.base, self.x, self.loss = host, directions, x, loss
        self.parameters = host.parameters(directions.names)
        self.sizes = tuple(sizes)
        self.bytes_per_direction = sum(tensor.nbytes for tensor in directions.minimum)
        self.bytes_for_samples = 0
        self.moved = False

    @cached_property
    def tiles(self) -> list[Tile]:
        """How the samples are cut; the memory budget has no say, so that the last digits of a loss do not follow it."""
        return plan_tiles(self.sizes, self._tile())

    def _tile(self) -> int:
        most = min(TILE, count(self.x))
        if most < max(PROBED) or self.host.coupled:
            return most
        known = [*self.host.module.parameters(), *self.host.module.buffers(), *tensors(self.x)]
        return min(most, Footprint.of(lambda n: self.host.run(part(self.x, 0, n)), known).samples(TILE_BYTES))

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are run together, whatever the landscape."""
        return self.chunk

    def hold(self, directions: Sequence[list[Tensor]]) -> Held:
        """Keep what evaluating these directions needs; each is a list of one tensor per parameter."""
        return list(directions)

    def stack(self, held: Held, rows: Tensor, coefficients: Tensor) -> None:
        """Write the parameters for one (direction, coefficient)."""
        direction = held[int(rows[0])]
        for parameter, minimum, step in zip(self.parameters, self.base.minimum, direction, strict=True):
            torch.add(minimum, step, alpha=float(coefficients[0]), out=parameter.data)
        self.moved = True

    def put_back(self) -> None:
        """Write the minimum, if anything else was written."""
        if self.moved:
            for parameter, minimum in zip(self.parameters, self.base.minimum, strict=True):
                parameter.data.copy_(minimum)
        self.moved = False

    def forward(self, stacked: None, held: Held, tile: Tile) -> Any:
        """Outputs of one tile at the parameters last written: (1, samples, ...), or [outputs] for a user's own loss."""
        outputs = self.host.run(part(self.x, tile.start, tile.stop))
        return outputs.unsqueeze(0) if self.loss.batched else [outputs]

    def room_for(self, count: int) -> list[list[Tensor]]:
        """Tensors to write parameter vectors into: the module's parameters, one vector at a time."""
        assert count == 1
        self.moved = True
        return [[parameter.data for parameter in self.parameters]]

    def forward_at(self, vectors: Sequence[list[Tensor]], tile: Tile) -> Any:
        """Outputs of one tile at the parameter vector last written, see `forward`."""
        return self.forward(None, [], tile)
