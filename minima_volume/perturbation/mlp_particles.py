"""Particles of multilayer perceptrons: batches of unrelated networks, the first layer drawn in the space that the samples span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from minima_volume.perturbation.mlp_path import (
    MAX_CHUNK,
    SMALLEST_CHUNK,
    MLPPath,
    aligned,
    filled,
    products,
    whole_blocks,
)
from minima_volume.perturbation.tiles import Tile, tiles_for

WORTHWHILE = 0.9  # the first layer is projected when the samples span less than this share of its inputs
CACHE_BYTES, GPU_BYTES = 4 << 20, 1 << 30
# of the activations of particles that are drawn at once; which numbers a seed draws depends on it, so it stays
DRAWN_BYTES, GPU_DRAWN_BYTES = 1 << 20, 256 << 20


@dataclass(frozen=True)
class Block:
    """The numbers of a particle that perturb one weight or bias.

    Attributes:
        columns: where they are in the particle.
        shape: of the matrix they make, (out, in) or (out, 1).
        minimum: theta*, that shape; None for the first layer, whose minimum enters through its products.
        factor: F, broadcastable against the shape.
    """

    columns: slice
    shape: tuple[int, int]
    minimum: Tensor | None
    factor: Tensor

    def write(self, z: Tensor, sigma: float, out: Tensor) -> None:
        """theta* + sigma F z (or sigma F z) for B particles into `out` (B, out, in)."""
        part = z[:, self.columns].unflatten(1, self.shape)
        if self.minimum is None:
            torch.mul(part, sigma * self.factor, out=out)
        else:
            torch.addcmul(self.minimum, part, self.factor, value=sigma, out=out)


@dataclass(frozen=True)
class Stacked:
    """Padded weights (B, out, in) and biases (B, out, 1) of all layers; the first are sigma F z alone. `count` networks are asked for."""

    weights: list[Tensor]
    biases: list[Tensor | None]
    count: int


class MLPParticles:
    """Runs B unrelated perturbed networks at once.

    The first layer enters only through x Z'. Where x (T, d) has rank r < d, x = L Q' with orthonormal columns Q (d, r), and
    L z' with r normals has the law of x z' with d normals: r numbers a row are drawn instead of d.

    Args:
        path: of the model.
        size: samples of the largest landscape asked for.
    """

    def __init__(self, path: MLPPath, size: int) -> None:
        self.path = path
        tiles = tiles_for(path.tiles, size)
        x = path.x[tiles[0].start]
        if size not in path.seen:
            path.seen[size] = _seen(path, size, tiles)
        inputs, self.inputs = path.seen[size]
        self.base = {tile.start: path.first_base(tile) for tile in tiles}
        self.weights, self.biases, self.dim = self._blocks(inputs)
        widths = [(path.widths[0][0], aligned(inputs + 1)), *path.widths[1:]]
        numbers = sum(rows * columns for rows, columns in widths)
        room = (GPU_BYTES if x.is_cuda else CACHE_BYTES) // (numbers * x.element_size())
        activations = path.chunk_within(GPU_DRAWN_BYTES if x.is_cuda else DRAWN_BYTES, size)
        most = max(SMALLEST_CHUNK, min(MAX_CHUNK, room, activations))
        self.chunk = self.drawn = whole_blocks(most, path.on_gpu)
        self.room = [x.new_zeros(self.chunk, *shape) for shape in widths]
        self.bias_room = [
            None if block is None else x.new_zeros(self.chunk, shape[0], 1)
            for block, shape in zip(self.biases, widths, strict=True)
        ]

    def _blocks(self, inputs: int) -> tuple[list[Block], list[Block | None], int]:
        """The blocks of all weights and biases, and how many numbers they take."""
        weights: list[Block] = []
        biases: list[Block | None] = []
        start = 0
        for i, layer in enumerate(self.path.linears):
            assert layer.weight is not None
            columns = inputs if i == 0 else self.path.parameter(layer.weight)[0].shape[1]
            weights.append(self._block(layer.weight, columns, start, first=i == 0))
            start = weights[-1].columns.stop
            biases.append(None if layer.bias is None else self._block(layer.bias, 1, start, first=i == 0))
            start = start if layer.bias is None else start + weights[-1].shape[0]
        return weights, biases, start

    def _block(self, name: str, columns: int, start: int, first: bool) -> Block:
        minimum, factor = self.path.parameter(name)
        rows = len(minimum)
        return Block(
            slice(start, start + rows * columns),
            (rows, columns),
            None if first else minimum.view(rows, columns),
            factor.view(-1, 1) if factor.ndim else factor,
        )

    def stack(self, z: Tensor, sigma: float) -> Stacked:
        """The networks of the rows of z; what fills a block on a GPU are networks of before."""
        count = len(z)
        weights = [room[:count] for room in self.room]
        biases = [None if room is None else room[:count] for room in self.bias_room]
        for block, room in zip(self.weights, weights, strict=True):
            block.write(z, sigma, room[:, : block.shape[0], : block.shape[1]])
        for bias, place in zip(self.biases[1:], biases[1:], strict=True):
            if bias is not None and place is not None:
                bias.write(z, sigma, place[:, : bias.shape[0]])
        if (first := self.biases[0]) is not None:
            inputs = self.weights[0].shape[1]
            first.write(z, sigma, weights[0][:, : first.shape[0], inputs : inputs + 1])
        run = whole_blocks(count, self.path.on_gpu)
        return Stacked(
            [room[:run] for room in self.room], [None if room is None else room[:run] for room in self.bias_room], count
        )

    def take(self, stacked: Stacked, rows: Tensor) -> Stacked:
        """Some of the stacked networks, as copies."""
        count, rows = len(rows), filled(rows)
        weights = [w.index_select(0, rows) for w in stacked.weights]
        return Stacked(weights, [None if b is None else b.index_select(0, rows) for b in stacked.biases], count)

    def outputs(self, stacked: Stacked, tiles: Sequence[Tile]) -> Iterator[Tensor]:
        """Outputs (B, samples, features) of each tile, a transposed view that is valid until the next."""
        return map(partial(self._forward, stacked), tiles)

    def _forward(self, stacked: Stacked, tile: Tile) -> Tensor:
        seen, base, weights = self.inputs[tile.start], self.base[tile.start], stacked.weights
        hidden = self.path.workspace.take(len(weights[0]), *base.shape)
        products(base, weights[0], seen.expand(len(weights[0]), *seen.shape), hidden)
        return self.path.after_first(hidden, weights[1:], stacked.biases[1:], tile)[: stacked.count]


def _seen(path: MLPPath, size: int, tiles: Sequence[Tile]) -> tuple[int, dict[int, Tensor]]:
    """How many inputs the first layer has in the space that the samples span, and the samples there, by tile."""
    x = torch.cat([path.x[tile.start][:, : tile.stop - tile.start] for tile in tiles], 1).t()
    basis = samples_basis(x[:size])
    inputs = x.shape[1] if basis is None else basis.shape[1]
    # the first layer's bias is the weight of one more input that is always 1
    return inputs, {
        tile.start: _with_ones(path.x[tile.start] if basis is None else basis.t() @ path.x[tile.start])
        for tile in tiles
    }


def samples_basis(x: Tensor) -> Tensor | None:
    """Orthonormal columns Q (d, r) that span the rows of x (T, d), or None if r is not much smaller than d.

    They are computed on the CPU: a basis may be turned in many ways, and a particle is to be the same one on every device.

    >>> samples_basis(torch.eye(4)[:2]).shape, samples_basis(torch.eye(4))
    (torch.Size([4, 2]), None)
    """
    samples, inputs = x.shape
    double = x.double().cpu()
    if samples <= WORTHWHILE * inputs:
        basis = torch.linalg.qr(double.t()).Q
    else:
        values, vectors = torch.linalg.eigh(double.t() @ double)
        # what is dropped is below the rounding of single-precision samples
        keep = values > 1e-14 * values[-1]
        keep[-1] = True
        basis = vectors[:, keep]
    return basis.to(x.device, x.dtype) if basis.shape[1] <= WORTHWHILE * inputs else None


def _with_ones(x: Tensor) -> Tensor:
    """x (d, T) with one more row of ones, and rows of zeros up to a multiple of 16."""
    rows, columns = x.shape
    more = x.new_zeros(aligned(rows + 1) - rows, columns)
    more[0] = 1
    return torch.cat([x, more])
