"""Memory of a pass, foretold from passes on 2 and 4 samples."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minima_volume.curvature import hessian
from minima_volume.curvature.hessian import MeanLoss
from minima_volume.hosts.footprint import KERNELS, Footprint, _watched
from minima_volume.losses.registry import get_loss
from minima_volume.perturbation.engine import LossEngine
from minima_volume.training.evaluation import evaluate


def test_the_peak_moves_from_what_is_fixed_to_what_grows() -> None:
    """40 n bytes are gone before 4,000 bytes come: the peak is the larger, not their sum, and not on the line through small n."""
    known = torch.zeros(1000)

    def run(n: int) -> None:
        grows = torch.zeros(n, 10)
        known.view(10, 100)  # no new memory
        del grows
        gc.collect()
        torch.zeros(1000)

    footprint = Footprint.of(run, [known])
    assert footprint.bytes(10) == 4000
    assert footprint.bytes(1000) == KERNELS * 40 * 1000
    assert footprint.samples(6000) == 100
    assert footprint.samples(10) == 1
    assert Footprint(np.array([8.0]), np.array([0.0])).samples(4.0) >= 2**30


def test_a_pass_that_depends_on_the_number_of_samples() -> None:
    def run(n: int) -> Tensor:
        return sum((torch.zeros(25) for _ in range(n)), torch.zeros(25))

    assert Footprint.of(run).bytes(2) >= 200


class Wide(nn.Module):
    """0.5 MiB for each sample, which no layer's output shows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.passes = nn.Linear(2, 2), []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(len(x))
        return self.fc(x) + x.new_zeros(len(x), 2**17).sum(1, keepdim=True)


def test_tiles_of_the_general_path_follow_the_activations() -> None:
    """400 samples are counted as 300 MiB; a tile takes at most 256, whatever the budget, and losses are those of a plain pass."""
    torch.manual_seed(0)
    model, x, y = Wide(), torch.randn(400, 2), torch.randint(2, (400,))
    plain = evaluate(nn.Sequential(model.fc), (x, y), get_loss("cross_entropy"))[0]
    tiles = []
    for budget in (0.5, 2.0):
        engine = LossEngine(model, x, y, memory_gib=budget, fast=False)
        tiles.append([tile.stop - tile.start for tile in engine.path.tiles])
        assert engine.start.loss[0, 0] == pytest.approx(plain, rel=1e-6)
    assert tiles[0] == tiles[1]
    assert max(tiles[0]) == 200  # not 400


def test_a_tile_of_a_hessian_product_counts_the_second_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of attention it takes several times what the gradient's graph does; what is alive during a product stays within the tile's room."""
    room = 2**23
    monkeypatch.setattr(hessian, "TILE_BYTES", room)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    model, x, y = (
        nn.Sequential(layer, nn.Flatten(), nn.Linear(384, 3)),
        torch.randn(300, 24, 16),
        torch.randint(3, (300,)),
    )
    mean_loss = MeanLoss.of(model, x, y)
    assert 1 < mean_loss.tile < 150
    known = [*mean_loss.host.module.parameters(), x, y]
    vector = torch.ones(mean_loss.num_entries)
    peak = max(_watched(lambda: mean_loss.hessian_product(vector), known).live)
    assert room / (2 * KERNELS) < peak < room
