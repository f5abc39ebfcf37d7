"""The fast path for multilayer perceptrons: batches of perturbed networks as batched matrix products, features first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.layers import Layer
from minima_volume.perturbation.tiles import Tile, plan_tiles, tiles_for

CACHE_BYTES = 4 << 20  # activations of a chunk and tile should stay in the processor's cache
GPU_BYTES = 256 << 20
SMALLEST_CHUNK, MAX_CHUNK = 8, 512
GPU_BLOCK = 64  # networks in one product on a GPU, see `products`
ALIGNMENT = 16  # numbers; see `aligned`


def aligned(width: int) -> int:
    """The next multiple of 16: each matrix of a batch then begins on a cache line.

    Small matrix products round differently at other addresses, so without this the last digits of a loss would depend on
    the place of a direction in its batch.
    """
    return -(-width // ALIGNMENT) * ALIGNMENT


def whole_blocks(count: int, on_gpu: bool) -> int:
    """How many networks are run for `count` that are asked for: on a GPU a multiple of `GPU_BLOCK`."""
    return -(-count // GPU_BLOCK) * GPU_BLOCK if on_gpu else count


def filled(rows: Tensor) -> Tensor:
    """`rows` (B, ...) of networks, on a GPU with the last of them again and again up to whole blocks."""
    more = whole_blocks(len(rows), rows.is_cuda) - len(rows)
    return torch.cat([rows, rows[-1:].expand(more)]) if more else rows


def products(bias: Tensor | None, left: Tensor, right: Tensor, out: Tensor, block: int = GPU_BLOCK) -> Tensor:
    """bias + left @ right of B networks into `out` (B, rows, columns).

    A GPU's kernels add up in another order when they are given another number of networks, so they are given `block` of them each time: the
    last digits of a loss then do not depend on which others are measured with it.
    """
    parts = [slice(start, start + block) for start in range(0, len(left), block)] if left.is_cuda else [slice(None)]
    for part in parts:
        if bias is None:
            torch.bmm(left[part], right[part], out=out[part])
        else:
            torch.baddbmm(bias[part] if bias.ndim > 2 else bias, left[part], right[part], out=out[part])
    return out


@dataclass(frozen=True)
class HeldBatch:
    """A group of G directions.

    Attributes:
        weights: for each linear layer, (G, out, in).
        biases: for each linear layer, (G, out, 1), or None.
        first: start of a tile -> the first layer's products x D' + d, (G, out, samples), made when first needed.
    """

    weights: list[Tensor]
    biases: list[Tensor | None]
    first: dict[int, Tensor]


class Workspace:
    """Two buffers that activations take turns in. Fresh memory for each would cost more than what is computed in it."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.buffers = like, [like.new_empty(0), like.new_empty(0)]

    def take(self, *shape: int) -> Tensor:
        """An uninitialised tensor in the buffer that was taken the longer time ago; what was there is lost."""
        self.buffers.reverse()
        if self.buffers[0].numel() < math.prod(shape):
            with torch.inference_mode(False):  # else it could not be written to outside of it
                self.buffers[0] = self.like.new_empty(math.prod(shape))
        return self.buffers[0][: math.prod(shape)].view(shape)


Rows = Tensor | slice
MAX_RUNS = 8


@dataclass(frozen=True)
class NetworkBatch:
    """B (direction, coefficient) pairs.

    Attributes:
        runs: which directions they are, and their places: one run where taking the directions copies nothing or there are
            too many runs to go through, else runs of one direction each.
        coefficients: (B, 1, 1).
        weights, biases: of the layers after the first, (B, out, in) and (B, out, 1).
        count: how many are asked for; the others, on a GPU, fill a block.
    """

    runs: list[tuple[Rows, slice]]
    coefficients: Tensor
    weights: list[Tensor]
    biases: list[Tensor | None]
    count: int


class MLPPath:
    """Runs B perturbed networks at once on a tile of samples.

    The first layer is linear in the coefficient, x (W + c D)' = x W' + c x D', so it costs one product a direction, not one a
    coefficient. The other layers are `baddbmm` over stacked weights (B, out, in) and activations (B, features, samples).
    """

    name = "mlp"
    features_first = True
    block = 1

    def __init__(
        self,
        directions: Directions,
        x: Tensor,
        sizes: Sequence[int],
        layers: Sequence[Layer],
    ) -> None:
        minimum = dict(zip(directions.names, directions.minimum, strict=True))
        linears = [layer for layer in layers if layer.kind == "linear"]
        self.index = {name: position for position, name in enumerate(directions.names)}
        self.linears, self.directions = linears, directions
        shapes = [tuple(minimum[str(layer.weight)].shape) for layer in linears]
        last = len(linears) - 1
        # widths of inputs and outputs of each layer as they are stored: hidden ones are padded with zeros
        self.widths = [
            (out if i == last else aligned(out), wide if i == 0 else aligned(wide))
            for i, (out, wide) in enumerate(shapes)
        ]
        weights, biases = self._stack_parameters([list(directions.minimum)])
        self.weights = [weight[0] for weight in weights]
        self.biases = [None if bias is None else bias[0] for bias in biases]
        self.steps = [layer.module for layer in layers if layer.kind in ("linear", "elementwise")]
        widest = max(weight.shape[0] for weight in self.weights)
        self.tiles = plan_tiles(sizes, 512 if widest >= 64 or x.is_cuda else 128)
        self.on_gpu = x.is_cuda
        self.room = GPU_BYTES if x.is_cuda else CACHE_BYTES
        self.bytes_per_sample = widest * x.element_size()  # and parameter vector
        self.bytes_per_vector = sum(weight.numel() for weight in self.weights[1:]) * x.element_size()
        self.chunk = self.chunk_for(max(sizes))
        flat = x.flatten(1)
        self.x = {
            tile.start: _pad(flat[tile.start : tile.stop].t(), (flat.shape[1], aligned(tile.stop - tile.start)))
            for tile in self.tiles
        }
        self.dtype = x.dtype
        self.workspace = Workspace(x)
        self.first: dict[int, Tensor] = {}
        self.seen: dict[
            int, tuple[int, dict[int, Tensor]]
        ] = {}  # what particles see of the samples, see `mlp_particles`
        samples = sum(part.shape[1] for part in self.x.values())
        held = sum(weight.numel() for weight in self.weights) + len(self.weights[0]) * samples
        self.bytes_per_direction = held * x.element_size()
        tile = max(part.shape[1] for part in self.x.values())
        at_work = self.chunk * (2 * tile * self.bytes_per_sample + self.bytes_per_vector)
        self.bytes_for_samples = (x[0].numel() + len(self.weights[0])) * samples * x.element_size() + at_work

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are best run together on a landscape of this many samples."""
        fit = MAX_CHUNK if self.on_gpu else self.room // max(1, self.bytes_per_vector)  # whose weights do, too
        return min(self.chunk_within(self.room, size), max(SMALLEST_CHUNK, fit))

    def chunk_within(self, room: int, size: int) -> int:
        """Parameter vectors whose activations fit into so many bytes, tile by tile."""
        longest = max(tile.stop - tile.start for tile in tiles_for(self.tiles, size))
        return whole_blocks(max(SMALLEST_CHUNK, min(MAX_CHUNK, room // self.bytes_per_sample // longest)), self.on_gpu)

    @staticmethod
    def fits(layers: Sequence[Layer], directions: Directions, x: Tensor) -> bool:
        """Whether the layers are a perceptron fed by x, every weight and bias of which is perturbed."""
        kinds = [layer.kind for layer in layers]
        if kinds[0] == "flatten":
            kinds = kinds[1:]
        elif x.ndim != 2:
            return False
        return kinds[0] == "linear" and set(kinds) <= {"linear", "elementwise"} and covers(layers, directions)

    def hold(self, directions: Sequence[list[Tensor]]) -> HeldBatch:
        return HeldBatch(*self._stack_parameters(directions), {})

    def _stack_parameters(self, vectors: Sequence[list[Tensor]]) -> tuple[list[Tensor], list[Tensor | None]]:
        """Padded weights (G, out, in) and biases (G, out, 1) of each layer, from G parameter vectors."""
        weights: list[Tensor] = []
        biases: list[Tensor | None] = []
        for layer, shape in zip(self.linears, self.widths, strict=True):
            position = self.index[str(layer.weight)]
            weights.append(_pad(torch.stack([vector[position] for vector in vectors]), shape))
            if layer.bias is None:
                biases.append(None)
            else:
                position = self.index[layer.bias]
                biases.append(_pad(torch.stack([vector[position] for vector in vectors]).unsqueeze(2), (shape[0], 1)))
        return weights, biases

    def stack(self, held: HeldBatch, rows: Tensor, coefficients: Tensor) -> NetworkBatch:
        """Weights (B, out, in) and biases (B, out, 1) of the layers after the first at B (direction, coefficient) pairs."""
        count = len(rows)
        rows, coefficients = filled(rows), filled(coefficients)
        c = coefficients.to(self.dtype).view(-1, 1, 1)
        runs = _runs(rows)

        def at(minimum: Tensor, directions: Tensor) -> Tensor:
            return _along(minimum, directions, runs, c)

        weights = [at(w, d) for w, d in zip(self.weights[1:], held.weights[1:], strict=True)]
        biases = [
            None if b is None or d is None else at(b, d) for b, d in zip(self.biases[1:], held.biases[1:], strict=True)
        ]
        return NetworkBatch(runs, c, weights, biases, count)

    def outputs(self, stacked: NetworkBatch, held: HeldBatch, tiles: Sequence[Tile]) -> Iterator[Tensor]:
        """Outputs (B, samples, features) of each tile, a transposed view that is valid until the next."""
        return map(partial(self._forward, stacked, held), tiles)

    def _forward(self, stacked: NetworkBatch, held: HeldBatch, tile: Tile) -> Tensor:
        base = self.first_base(tile)
        hidden = self.workspace.take(len(stacked.coefficients), *base.shape)
        _along(base, self._products(held, tile), stacked.runs, stacked.coefficients, hidden)
        return self.after_first(hidden, stacked.weights, stacked.biases, tile)[: stacked.count]

    def after_first(
        self, hidden: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], tile: Tile
    ) -> Tensor:
        """Outputs (B, samples, features) from the first layer's outputs, in the workspace, and the parameters of the other layers."""
        layer = 0
        for step in self.steps[1:]:
            if isinstance(step, nn.Linear):
                weight, bias = weights[layer], biases[layer]
                out = self.workspace.take(len(weight), weight.shape[1], hidden.shape[2])
                hidden = products(bias, weight, hidden, out)
                layer += 1
            elif isinstance(step, nn.ReLU):
                hidden.relu_()
            else:
                hidden = step(hidden)
        return hidden[:, :, : tile.stop - tile.start].transpose(1, 2)

    def first_base(self, tile: Tile) -> Tensor:
        """The first layer's outputs (out, samples) at the minimum."""
        if tile.start not in self.first:
            base = self.weights[0] @ self.x[tile.start]
            self.first[tile.start] = base if self.biases[0] is None else base + self.biases[0]
        return self.first[tile.start]

    def _products(self, held: HeldBatch, tile: Tile) -> Tensor:
        """The first layer's products (G, out, samples) with the held directions."""
        if tile.start not in held.first:
            x = self.x[tile.start]
            weights = held.weights[0]
            out = x.new_empty(*weights.shape[:2], x.shape[1])
            held.first[tile.start] = products(held.biases[0], weights, x.expand(len(weights), *x.shape), out, block=1)
        return held.first[tile.start]

    def parameter(self, name: str) -> tuple[Tensor, Tensor]:
        """A parameter at the minimum, and its scaling."""
        return self.directions.minimum[self.index[name]], self.directions.factors[self.index[name]]


def _runs(rows: Tensor) -> list[tuple[Rows, slice]]:
    """Rows of held directions as few slices, so that taking them copies nothing; as they are where that is not possible."""
    count = len(rows)
    everything = slice(0, count)
    if rows.is_cuda:
        return [(rows, everything)]
    first = int(rows[0])
    if int(rows[-1]) - first == count - 1 and bool((rows.diff() == 1).all()):
        return [(slice(first, first + count), everything)]
    ends = [*(torch.nonzero(rows.diff()).flatten() + 1).tolist(), count]
    if len(ends) > MAX_RUNS:
        return [(rows, everything)]
    starts = [0, *ends[:-1]]
    return [
        (slice(row, row + 1), slice(start, end))
        for start, end, row in zip(starts, ends, rows[starts].tolist(), strict=True)
    ]


def _along(
    minimum: Tensor, directions: Tensor, runs: Sequence[tuple[Rows, slice]], c: Tensor, out: Tensor | None = None
) -> Tensor:
    """minimum + c * direction for B (direction, coefficient) pairs, (B, *minimum.shape)."""
    result = minimum.new_empty(len(c), *minimum.shape) if out is None else out
    for rows, places in runs:
        torch.addcmul(minimum, directions[rows], c[places], out=result[places])
    return result


def _pad(tensor: Tensor, shape: tuple[int, int]) -> Tensor:
    """A (..., rows, columns) tensor, contiguous, with zeros added up to `shape`."""
    rows, columns = tensor.shape[-2:]
    if (rows, columns) == shape:
        return tensor.contiguous()
    padded = tensor.new_zeros(*tensor.shape[:-2], *shape)
    padded[..., :rows, :columns] = tensor
    return padded


def covers(layers: Sequence[Layer], directions: Directions) -> bool:
    """Whether the layers' weights and biases are exactly the perturbed parameters."""
    own = {name for layer in layers for name in (layer.weight, layer.bias) if name is not None}
    return own == set(directions.names)
