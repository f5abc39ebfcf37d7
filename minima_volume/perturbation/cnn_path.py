"""The fast path for convolutional stacks: channels-last activations, tile by tile, one loop over coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.general_path import Write
from minima_volume.perturbation.layers import Layer
from minima_volume.perturbation.mlp_path import covers
from minima_volume.perturbation.tiles import Tile, plan_tiles

TILE_BYTES = 2 << 20
GPU_TILE_BYTES = 512 << 20
CHUNK = 16


Vectors = list[list[Tensor]]  # one list of tensors for each parameter vector
LaidOut = dict[str, Tensor]  # a parameter vector by name, see `_laid_out`


@dataclass(frozen=True)
class Networks:
    """B (direction, coefficient) pairs: the parameters of each, name -> tensor."""

    rows: list[int]
    coefficients: list[float]
    parameters: list[LaidOut]


class CNNPath:
    """Runs a stack of Conv2d, activations, pooling, flattening and Linear layers.

    The first convolution is linear in the coefficient: one product per direction and tile serves all its coefficients in the
    chunk. Grouped convolutions over the batch are slower on a CPU than this loop.
    """

    name = "cnn"
    features_first = False
    block = 4
    chunk = CHUNK

    def __init__(
        self,
        directions: Directions,
        x: Tensor,
        sizes: Sequence[int],
        layers: Sequence[Layer],
    ) -> None:
        self.layers = pool_first(layers)
        self.base = directions
        self.channels = self._channels_before_linear(x)
        self.minimum = self._laid_out(directions.minimum)
        self.x = x.contiguous(memory_format=torch.channels_last)
        per_sample = self._widest_activation() * x.element_size()
        room = GPU_TILE_BYTES if x.is_cuda else TILE_BYTES
        self.tiles = plan_tiles(sizes, max(16, min(1024, room // per_sample)))
        self.bytes_per_direction = sum(tensor.nbytes for tensor in directions.minimum)
        self.bytes_for_samples = self.x.nbytes

    @staticmethod
    def fits(layers: Sequence[Layer], directions: Directions, x: Tensor) -> bool:
        """Whether the stack begins with a convolution of x, flattens before its linear layers, and is all perturbed."""
        kinds = [layer.kind for layer in layers]
        if x.ndim != 4 or kinds[0] != "conv" or ("linear" in kinds and "flatten" not in kinds[: kinds.index("linear")]):
            return False
        return covers(layers, directions)

    @torch.no_grad()
    def _channels_before_linear(self, x: Tensor) -> dict[str, int]:
        """The channels of the images that the first linear layer sees flattened, by the name of its weight."""
        hidden, channels = x[:1], 0
        for layer in self.layers:
            if layer.kind == "flatten":
                channels = hidden.shape[1]
            if layer.kind == "linear":
                return {str(layer.weight): channels}
            hidden = layer.module(hidden)
        return {}

    def _laid_out(self, vector: Sequence[Tensor]) -> LaidOut:
        """A parameter vector by name, in the memory layout that the layers are run in.

        Images are flattened channels last, which copies nothing, so the columns of the next weight are put in that order.
        """
        laid_out = {}
        for name, tensor in zip(self.base.names, vector, strict=True):
            if channels := self.channels.get(name):
                rows, columns = tensor.shape
                laid_out[name] = tensor.view(rows, channels, columns // channels).transpose(1, 2).reshape(rows, columns)
            else:
                laid_out[name] = _channels_last(tensor)
        return laid_out

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

    def hold(self, directions: Sequence[list[Tensor]]) -> list[LaidOut]:
        return [self._laid_out(direction) for direction in directions]

    def stack(self, held: list[LaidOut], rows: Tensor, coefficients: Tensor) -> Networks:
        """The parameters of each (direction, coefficient)."""
        row_list, c_list = rows.tolist(), coefficients.tolist()
        parameters = [
            {name: torch.add(minimum, held[row][name], alpha=c) for name, minimum in self.minimum.items()}
            for row, c in zip(row_list, c_list, strict=True)
        ]
        return Networks(row_list, c_list, parameters)

    def outputs(self, stacked: Networks, held: list[LaidOut], tiles: Sequence[Tile]) -> Iterator[Tensor]:
        """Outputs (B, samples, features) of each tile."""
        return map(partial(self._forward, stacked, held), tiles)

    def _forward(self, stacked: Networks, held: list[LaidOut], tile: Tile) -> Tensor:
        x = self.x[tile.start : tile.stop]
        # corners are worth their copies where a direction has several coefficients; values are the same to the bit
        several = len(stacked.rows) >= 2 * len(set(stacked.rows))
        halved = several and len(self.layers) > 1 and is_halving(self.layers[1].module) and not x.is_cuda
        rest = self.layers[2:] if halved else self.layers[1:]

        def seen(parameters: LaidOut) -> Tensor:
            images = self._convolve(self.layers[0], x, parameters)
            return corners(images) if halved else images

        base, steps = seen(self.minimum), dict[int, Tensor]()
        outputs = []
        for row, c, parameters in zip(stacked.rows, stacked.coefficients, stacked.parameters, strict=True):
            if row not in steps:
                steps[row] = seen(held[row])
            hidden = halve_sum(base, steps[row], c) if halved else torch.add(base, steps[row], alpha=c)
            outputs.append(self._run(rest, hidden, parameters))
        return torch.stack(outputs)

    def written(self, writes: Sequence[Write]) -> Vectors:
        """Parameter vectors as `outputs_at` takes them."""
        vectors = [[torch.empty_like(tensor) for tensor in self.base.minimum] for _ in writes]
        for write, vector in zip(writes, vectors, strict=True):
            write(vector)
        return vectors

    def outputs_at(self, vectors: Vectors, tiles: Sequence[Tile]) -> Iterator[Tensor]:
        """Outputs (B, samples, features) of each tile at B parameter vectors."""
        for tile in tiles:
            x = self.x[tile.start : tile.stop]
            yield torch.stack([self._run(self.layers, x, self._laid_out(vector)) for vector in vectors])

    def _run(self, layers: Sequence[Layer], hidden: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        for layer in layers:
            if layer.kind == "conv":
                hidden = self._convolve(layer, hidden, parameters)
            elif layer.kind == "flatten" and self.channels:
                hidden = hidden.permute(0, 2, 3, 1).flatten(1)
            else:
                hidden = _apply(layer, hidden, parameters)
        return hidden

    def _convolve(self, layer: Layer, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        # images of one channel are channels-last and not at once, and torch takes the slower reading
        return _channels_last(_conv(layer.module, x, *_own(layer, parameters)))


def _apply(layer: Layer, hidden: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    if layer.kind == "linear":
        return F.linear(hidden, *_own(layer, parameters))
    if isinstance(layer.module, nn.ReLU):
        return hidden.relu_()
    if is_halving(layer.module) and not hidden.is_cuda:
        return halve(hidden)
    return layer.module(hidden)


def pool_first(layers: Sequence[Layer]) -> list[Layer]:
    """The same stack with each ReLU after the maximum pooling that follows it: the same numbers from fewer."""
    ordered = list(layers)
    for i, (layer, following) in enumerate(pairwise(layers)):
        if isinstance(layer.module, nn.ReLU) and isinstance(following.module, nn.MaxPool2d):
            ordered[i], ordered[i + 1] = following, layer
    return ordered


def is_halving(module: nn.Module) -> bool:
    """Whether a module takes maxima over 2 x 2 blocks and nothing else."""
    if not isinstance(module, nn.MaxPool2d):
        return False
    pairs = [module.kernel_size, module.stride, module.padding, module.dilation]
    sizes = [tuple(value) if isinstance(value, tuple) else (value, value) for value in pairs]
    return sizes == [(2, 2), (2, 2), (0, 0), (1, 1)] and not module.ceil_mode and not module.return_indices


def halve(images: Tensor) -> Tensor:
    """Maxima over 2 x 2 blocks, as elementwise maxima: three times as fast on a CPU as pooling, which also looks for indices."""
    high, wide = 2 * (images.shape[2] // 2), 2 * (images.shape[3] // 2)
    rows = torch.maximum(images[:, :, :high:2], images[:, :, 1:high:2])
    return torch.maximum(rows[:, :, :, :wide:2], rows[:, :, :, 1:wide:2])


def corners(images: Tensor) -> Tensor:
    """The four corners of 2 x 2 blocks of images (N, C, H, W), each in one piece: (4, N, H // 2, W // 2, C)."""
    high, wide = 2 * (images.shape[2] // 2), 2 * (images.shape[3] // 2)
    last = images.permute(0, 2, 3, 1)
    return torch.stack([last[:, i:high:2, j:wide:2] for i in (0, 1) for j in (0, 1)])


def halve_sum(base: Tensor, step: Tensor, c: float) -> Tensor:
    """`halve` of base + c * step, whose corners are given: the sum never lies in memory as a whole."""
    largest = torch.add(base[0], step[0], alpha=c)
    other = torch.empty_like(largest)
    for start, way in zip(base[1:], step[1:], strict=True):
        torch.maximum(largest, torch.add(start, way, alpha=c, out=other), out=largest)
    return largest.permute(0, 3, 1, 2)


def _own(layer: Layer, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    return parameters[str(layer.weight)], None if layer.bias is None else parameters[layer.bias]


def _conv(module: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return module._conv_forward(x, weight, bias)  # honours the padding mode, which F.conv2d does not know


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
