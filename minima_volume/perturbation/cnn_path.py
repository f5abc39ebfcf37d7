"""The fast path for convolutional stacks: channels-last activations, tile by tile, one loop over coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.mlp_path import covers
from minima_volume.perturbation.tiles import Tile, plan_tiles
from minima_volume.perturbation.trace import Layer

TILE_BYTES = 4 << 20
GPU_TILE_BYTES = 512 << 20
CHUNK = 8


@dataclass(frozen=True)
class HeldDirections:
    directions: list[list[Tensor]]


@dataclass(frozen=True)
class Stacked:
    """B (direction, coefficient) pairs: the parameters of each, name -> tensor."""

    rows: list[int]
    coefficients: list[float]
    parameters: list[dict[str, Tensor]]


class CNNPath:
    """Runs a stack of Conv2d, activations, pooling, flattening and Linear layers.

    The first convolution is linear in the coefficient: one product a direction and tile serves all its coefficients in the
    chunk. Grouped convolutions over the batch are slower on a CPU than this loop.
    """

    name = "cnn"
    features_first = False
    block = 4
    chunk = CHUNK

    def __init__(
        self,
        model: nn.Module,
        directions: Directions,
        x: Tensor,
        sizes: Sequence[int],
        layers: Sequence[Layer],
    ) -> None:
        self.layers = list(layers)
        self.base = directions
        self.minimum = {
            name: _channels_last(tensor) for name, tensor in zip(directions.names, directions.minimum, strict=True)
        }
        self.x = x.contiguous(memory_format=torch.channels_last)
        per_sample = self._widest_activation() * x.element_size()
        room = GPU_TILE_BYTES if x.is_cuda else TILE_BYTES
        self.tiles = plan_tiles(sizes, max(16, min(1024, room // per_sample)))
        self.bytes_per_direction = sum(tensor.nbytes for tensor in directions.minimum)

    @staticmethod
    def fits(layers: Sequence[Layer], directions: Directions, x: Tensor) -> bool:
        """Whether the stack begins with a convolution of x, flattens before its linear layers, and is all perturbed."""
        kinds = [layer.kind for layer in layers]
        if x.ndim != 4 or kinds[0] != "conv" or ("linear" in kinds and "flatten" not in kinds[: kinds.index("linear")]):
            return False
        return covers(layers, directions)

    @torch.no_grad()
    def _widest_activation(self) -> int:
        hidden, widest = self.x[:1], 0
        for layer in self.layers:
            hidden = layer.module(hidden)
            widest = max(widest, hidden.numel())
        return widest

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are run together, whatever the landscape."""
        return self.chunk

    def hold(self, directions: Sequence[list[Tensor]]) -> HeldDirections:
        return HeldDirections([[_channels_last(tensor) for tensor in direction] for direction in directions])

    def stack(self, held: HeldDirections, rows: Tensor, coefficients: Tensor) -> Stacked:
        """The parameters of each (direction, coefficient)."""
        row_list, c_list = rows.tolist(), coefficients.tolist()
        parameters = [
            {
                name: torch.add(minimum, step, alpha=c)
                for (name, minimum), step in zip(self.minimum.items(), held.directions[row], strict=True)
            }
            for row, c in zip(row_list, c_list, strict=True)
        ]
        return Stacked(row_list, c_list, parameters)

    def forward(self, stacked: Stacked, held: HeldDirections, tile: Tile) -> Tensor:
        """Outputs (B, samples, features) of one tile."""
        x = self.x[tile.start : tile.stop]
        first, rest = self.layers[0], self.layers[1:]
        base = self._convolve(first, x, self.minimum)
        steps: dict[int, Tensor] = {}
        outputs = []
        for row, c, parameters in zip(stacked.rows, stacked.coefficients, stacked.parameters, strict=True):
            if row not in steps:
                steps[row] = self._convolve(first, x, dict(zip(self.minimum, held.directions[row], strict=True)))
            hidden = torch.add(base, steps[row], alpha=c)
            for layer in rest:
                hidden = _apply(layer, hidden, parameters)
            outputs.append(hidden)
        return torch.stack(outputs)

    def room_for(self, count: int) -> list[list[Tensor]]:
        """Tensors to write parameter vectors into."""
        return [[torch.empty_like(tensor) for tensor in self.minimum.values()] for _ in range(count)]

    def forward_at(self, vectors: Sequence[list[Tensor]], tile: Tile) -> Tensor:
        """Outputs (B, samples, features) of one tile at B parameter vectors."""
        x = self.x[tile.start : tile.stop]
        outputs = []
        for vector in vectors:
            parameters = dict(zip(self.minimum, vector, strict=True))
            hidden = self._convolve(self.layers[0], x, parameters)
            for layer in self.layers[1:]:
                hidden = _apply(layer, hidden, parameters)
            outputs.append(hidden)
        return torch.stack(outputs)

    def _convolve(self, layer: Layer, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        return _conv(layer.module, x, *_own(layer, parameters))


def _apply(layer: Layer, hidden: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    if layer.kind == "conv":
        return _conv(layer.module, hidden, *_own(layer, parameters))
    if layer.kind == "linear":
        return F.linear(hidden, *_own(layer, parameters))
    if isinstance(layer.module, nn.ReLU):
        return hidden.relu_()
    return layer.module(hidden)


def _own(layer: Layer, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    return parameters[str(layer.weight)], None if layer.bias is None else parameters[layer.bias]


def _conv(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return module._conv_forward(x, weight, bias)  # honours the padding mode, which F.conv2d does not know


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
