"""The general path: any nn.Module, one forward pass for each perturbed parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from minima_volume.hosts.footprint import PROBED, Footprint
from minima_volume.hosts.host import Host
from minima_volume.losses.loss import Loss
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.tiles import SMALLEST_TILE, Tile, plan_tiles
from minima_volume.samples import Samples, count, part, tensors

TILE = 512
TILE_BYTES = 2**28  # of activations, if a tile of 512 samples would take more
SMALL_BYTES, LARGE_TILE = 2**18, 256  # landscapes share a tile of so few activations, up to so many samples
TOGETHER = 16  # parameter vectors whose outputs are read together, which is what a small model waits for
OUTPUT_BYTES, VECTOR_BYTES = 2**20, 2**25  # of their outputs and of themselves, at most


Held = list[list[Tensor]]  # (xi * F) of each direction, parameter by parameter
Write = Callable[[Sequence[Tensor]], None]  # writes one parameter vector


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
        most = min(TILE, count(self.x))
        if most < max(PROBED) or self.host.coupled:
            return plan_tiles(self.sizes, most)
        known = [*self.host.module.parameters(), *self.host.module.buffers(), *tensors(self.x)]
        footprint = Footprint.of(lambda n: self.host.run(part(self.x, 0, n)), known)
        smallest = max(SMALLEST_TILE, min(LARGE_TILE, footprint.samples(SMALL_BYTES)))
        return plan_tiles(self.sizes, min(most, footprint.samples(TILE_BYTES)), smallest)

    @cached_property
    def together(self) -> int:
        """Parameter vectors whose outputs are read at once; values do not depend on it."""
        if not self.loss.batched or self.host.coupled:
            return 1
        outputs = sum(tensor.nbytes for tensor in tensors(self.host.run(part(self.x, 0, 1)))) * self.sizes[-1]
        vector = sum(parameter.nbytes for parameter in self.parameters)
        return max(1, min(TOGETHER, OUTPUT_BYTES // max(1, outputs), VECTOR_BYTES // max(1, vector)))

    def chunk_for(self, size: int) -> int:
        """Parameter vectors that are best read together, whatever the landscape."""
        return self.together

    def hold(self, directions: Sequence[list[Tensor]]) -> Held:
        """Keep what evaluating these directions needs; each is a list of one tensor per parameter."""
        return list(directions)

    def stack(self, held: Held, rows: Tensor, coefficients: Tensor) -> Sequence[Write]:
        """The parameters for each (direction, coefficient), written when their turn comes."""
        pairs = zip(rows.tolist(), coefficients.tolist(), strict=True)
        return [partial(self._along, held[row], c) for row, c in pairs]

    def _along(self, direction: list[Tensor], c: float, out: Sequence[Tensor]) -> None:
        if out[0].is_cuda:  # a kernel of its own for each of many small tensors costs more than what is computed in it
            _copy(out, self.base.minimum)
            torch._foreach_add_(list(out), direction, alpha=c)
            return
        for parameter, minimum, step in zip(out, self.base.minimum, direction, strict=True):
            torch.add(minimum, step, alpha=c, out=parameter)

    def written(self, writes: Sequence[Write]) -> Sequence[Write]:
        """Parameter vectors as `outputs` takes them: there is one place for them all."""
        return writes

    def put_back(self) -> None:
        """Write the minimum, if anything else was written."""
        if self.moved:
            _copy([parameter.data for parameter in self.parameters], self.base.minimum)
        self.moved = False

    def outputs(self, stacked: Sequence[Write], held: Held, tiles: Sequence[Tile]) -> Iterator[Any]:
        """Outputs (B, samples, ...) of each tile, or [outputs] for a user's own loss; every parameter vector is written once."""
        return self.outputs_at(stacked, tiles)

    def outputs_at(self, stacked: Sequence[Write], tiles: Sequence[Tile]) -> Iterator[Any]:
        """The same without directions."""
        places, self.moved = [parameter.data for parameter in self.parameters], True
        if len(stacked) == 1:
            stacked[0](places)
            yield from self.outputs_here(tiles)
            return
        found: list[Tensor] = []
        for row, write in enumerate(stacked):
            write(places)
            for k, outputs in enumerate(self.outputs_here(tiles)):
                if not row:
                    found.append(outputs.new_empty(len(stacked), *outputs.shape[1:]))
                found[k][row] = outputs[0]  # at once: a module may use what it returned again
        yield from found

    def outputs_here(self, tiles: Sequence[Tile]) -> Iterator[Any]:
        """Outputs (1, samples, ...) of each tile at the parameters as they are."""
        for tile in tiles:
            outputs = self.host.run(part(self.x, tile.start, tile.stop))
            yield outputs.unsqueeze(0) if self.loss.batched else [outputs]


def _copy(out: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Write tensors into others of their shapes."""
    torch._foreach_copy_(list(out), list(tensors))
