"""The general path: any nn.Module, one forward pass for each perturbed parameter vector."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.tiles import Tile, plan_tiles

TILE = 512


@dataclass(frozen=True)
class HeldDirections:
    """Directions held for a while: (xi * F) of each, parameter by parameter."""

    directions: list[list[Tensor]]


class GeneralPath:
    """Writes theta* + c * direction into a copy of the model and runs it.

    The weights are written whole each time, never accumulated; the copy is in evaluation mode and its buffers are put back
    whenever a forward pass changed them. The user's own model is not touched.
    """

    chunk = 1
    name = "general"
    features_first = False
    block = 1

    def __init__(self, model: nn.Module, directions: Directions, x: Tensor, sizes: Sequence[int]) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.base = directions
        self.x = x
        self.tiles = plan_tiles(sizes, TILE)
        parameters = dict(self.model.named_parameters())
        self.parameters = [parameters[name] for name in directions.names]
        self.buffers = [
            (owner, name, buffer, buffer.clone(), buffer._version)
            for owner in self.model.modules()
            for name, buffer in owner.named_buffers(recurse=False)
        ]
        self.bytes_per_direction = sum(tensor.nbytes for tensor in directions.minimum)
        self.bytes_for_samples = 0

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are run together, whatever the landscape."""
        return self.chunk

    def hold(self, directions: Sequence[list[Tensor]]) -> HeldDirections:
        """Keep what evaluating these directions needs; each is a list of one tensor a parameter."""
        return HeldDirections(list(directions))

    def stack(self, held: HeldDirections, rows: Tensor, coefficients: Tensor) -> None:
        """Write the parameters for one (direction, coefficient)."""
        direction = held.directions[int(rows[0])]
        for parameter, minimum, step in zip(self.parameters, self.base.minimum, direction, strict=True):
            torch.add(minimum, step, alpha=float(coefficients[0]), out=parameter.data)

    def forward(self, stacked: None, held: HeldDirections, tile: Tile) -> Tensor:
        """Outputs (1, samples, ...) of one tile at the parameters last written."""
        return self.run(self.x[tile.start : tile.stop]).unsqueeze(0)

    def room_for(self, count: int) -> list[list[Tensor]]:
        """Tensors to write parameter vectors into: the copy's own parameters, one vector at a time."""
        assert count == 1
        return [[parameter.data for parameter in self.parameters]]

    def forward_at(self, vectors: Sequence[list[Tensor]], tile: Tile) -> Tensor:
        """Outputs (1, samples, ...) of one tile at the parameter vector last written."""
        return self.run(self.x[tile.start : tile.stop]).unsqueeze(0)

    def run(self, x: Tensor) -> Tensor:
        """One forward pass that leaves the samples and the buffers as they were."""
        outputs = self.model(x.clone())  # a model may work on its input in place
        for owner, name, buffer, saved, version in self.buffers:
            owner._buffers[name] = buffer
            if buffer._version != version:
                buffer.copy_(saved)
        return outputs
