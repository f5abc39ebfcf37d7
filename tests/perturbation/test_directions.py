"""Directions: the Gaussian of a seed and what it is multiplied by."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from minima_volume import measure_volume
from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import (
    SCALINGS,
    Directions,
    draw_gaussian,
    filter_norm,
    scaling_factor,
)
from minima_volume.perturbation.engine import LossEngine

SHAPES = [torch.Size(shape) for shape in ((8, 5), (8,), (3, 8), (3,))]  # an MLP 5-8-3
NORMS = {1: 8.644454, 2: 7.063181, 3: 7.623281}  # golden: they fix what a seed means, to 1e-5


def mlp(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("seed", NORMS)
def test_golden_norms(seed: int):
    """||xi|| of a fixed architecture never changes: old sweeps and new ones share their directions."""
    norm = math.sqrt(sum(xi.double().square().sum().item() for xi in draw_gaussian(seed, SHAPES)))
    assert norm == pytest.approx(NORMS[seed], abs=1e-5)
    assert Directions.of(mlp()).draw(seed)[1] == pytest.approx(NORMS[seed], abs=1e-5)


def test_xi_is_randn_of_one_generator_parameter_by_parameter():
    """Bit for bit: named_parameters order, float32, on the CPU, one generator for the whole vector."""
    model = mlp().double()
    generator = torch.Generator().manual_seed(11)
    expected = [torch.randn(p.shape, generator=generator) for _, p in model.named_parameters()]
    direction, norm = Directions.of(model, "none").draw(11)
    for got, xi in zip(direction, expected, strict=True):
        assert got.dtype == torch.float64
        assert torch.equal(got, xi.double())
    assert norm == pytest.approx(torch.cat([xi.flatten() for xi in expected]).double().norm().item(), rel=1e-12)


def test_seeds_name_independent_directions():
    """Seed 0 is a seed like any other, and neighbours are uncorrelated (4 standard errors at n = 10,000)."""
    draws = [draw_gaussian(seed, [torch.Size([100, 100])])[0].flatten() for seed in (0, 1, 2)]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(3)
    assert correlation.abs().max() < 0.04
    assert torch.equal(draws[0], draw_gaussian(0, [torch.Size([100, 100])])[0].flatten())


def test_filter_norms_of_linear_and_convolution():
    """One norm a row of a matrix, one a filter of a convolution, 1 for one-dimensional parameters."""
    linear, conv = nn.Linear(4, 3), nn.Conv2d(2, 5, 3)
    for i in range(3):
        assert filter_norm(linear.weight)[i, 0].item() == pytest.approx(
            math.sqrt(sum(v**2 for v in linear.weight[i].tolist()))
        )
    assert filter_norm(conv.weight).shape == (5, 1, 1, 1)
    for i in range(5):
        assert filter_norm(conv.weight)[i].item() == pytest.approx(conv.weight[i].flatten().norm().item())
    assert torch.equal(filter_norm(linear.bias), torch.ones(3))


def test_scalings():
    """The words of the `scaling` setting, written out."""
    weight, bias = torch.tensor([[3.0, 4.0], [6.0, 8.0]]), torch.tensor([1.0, 3.0])
    assert scaling_factor(weight, "filter").tolist() == [[5.0], [10.0]]
    assert scaling_factor(weight, "none").item() == 1
    assert scaling_factor(weight, "layer").item() == pytest.approx(math.sqrt(125))
    assert scaling_factor(weight, "tensor_std").item() == pytest.approx(np.std([3, 4, 6, 8]))
    assert [scaling_factor(bias, s).max().item() for s in SCALINGS[:4]] == [1, 1, 1, 1]  # the last: std of {1, 3} is 1
    assert scaling_factor(3 * bias, "tensor_std").item() == 3
    assert scaling_factor(weight, "sample_std").item() == pytest.approx(np.std([3, 4, 6, 8], ddof=1))
    assert scaling_factor(torch.ones(5), "sample_std").item() == scaling_factor(torch.ones(1), "sample_std").item()
    assert scaling_factor(torch.ones(5), "sample_std").item() == pytest.approx(1e-8)
    with pytest.raises(ConfigError, match="filter, none, layer, tensor_std, sample_std"):
        scaling_factor(weight, "filters")


@pytest.mark.parametrize("scaling", SCALINGS)
def test_log_det_is_the_sum_over_entries(scaling: str):
    """sum_j log F_j, entry by entry, and the direction is xi * F."""
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4)).double()
    directions = Directions.of(model, scaling)
    factors = torch.cat(
        [f.expand(p.shape).flatten() for f, p in zip(directions.factors, directions.minimum, strict=True)]
    )
    assert len(factors) == directions.num_params == sum(p.numel() for p in model.parameters())
    assert directions.log_det == pytest.approx(factors.log().sum().item(), rel=1e-10)
    xi = torch.cat([t.flatten() for t in draw_gaussian(4, directions.shapes, torch.float64)])
    torch.testing.assert_close(torch.cat([t.flatten() for t in directions.draw(4)[0]]), xi * factors)


def test_dead_filters_are_left_out_everywhere():
    """Rows with F = 0 do not move and count neither in n, nor in log_det, nor in ||xi||; the Gaussian is still drawn whole."""
    model = mlp()
    with torch.no_grad():
        model[0].weight[2] = 0
        model[2].weight[1] = 0
    directions = Directions.of(model)
    assert directions.num_zero == 5 + 8
    assert directions.num_params == 8 * 5 + 8 + 3 * 8 + 3 - 13
    alive = [row for layer in (model[0], model[2]) for row in layer.weight if row.norm() > 0]
    assert directions.log_det == pytest.approx(sum(len(row) * math.log(row.norm().item()) for row in alive), rel=1e-6)
    direction, norm = directions.draw(1)
    assert not direction[0][2].any()
    assert not direction[2][1].any()
    xi = draw_gaussian(1, SHAPES)
    dropped = xi[0][2].double().square().sum() + xi[2][1].double().square().sum()
    whole = sum(t.double().square().sum() for t in xi)
    assert norm == pytest.approx(math.sqrt(whole - dropped), rel=1e-12)
    assert torch.equal(direction[3], xi[3])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_all_zero_parameters(scaling: str):
    """A zero matrix moves under `none`, and by the floor of `sample_std`; n and log_det stay finite."""
    model = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(model.weight)
    directions = Directions.of(model, scaling)
    moves = scaling in ("none", "sample_std")
    assert directions.num_params == (12 if moves else 0)
    assert directions.log_det == pytest.approx(12 * math.log(1e-8) if scaling == "sample_std" else 0)
    assert (directions.draw(1)[1] > 0) == moves


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.position = nn.Parameter(torch.zeros(5, 4))
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x) + self.position)


def test_tied_weights_count_once_and_left_out_names_are_reported():
    """A tied matrix is one parameter; what does not end in weight or bias is left out and said so."""
    directions = Directions.of(Tied())
    assert directions.names == ("embed.weight",)
    assert directions.left_out == ("position",)
    assert directions.num_params == 28


def test_names():
    """`all` takes everything; a list takes those, in the model's order whatever the list's."""
    assert Directions.of(Tied(), "none", "all").names == ("position", "embed.weight")
    chosen = Directions.of(mlp(), names=["2.bias", "0.weight"])
    assert chosen.names == ("0.weight", "2.bias")
    assert chosen.left_out == ("0.bias", "2.weight")
    first = torch.Generator().manual_seed(5)
    assert torch.equal(chosen.draw(5)[0][1], (torch.randn(8, 5, generator=first), torch.randn(3, generator=first))[1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("biases", "weight_bias, weights, all"),
        (["0.weight", "1.weight"], r"'1.weight' matches no parameter.*0.weight, 0.bias"),
        ([], "no parameter"),
    ],
)
def test_wrong_names(names: str | list[str], message: str):
    """The message names what is wrong and what there is."""
    with pytest.raises(ConfigError, match=message):
        Directions.of(mlp(), names=names)


def test_a_model_with_nothing_to_perturb():
    """No parameter at all is an error, not an empty vector."""
    with pytest.raises(ConfigError, match="none"):
        Directions.of(nn.ReLU())


def test_the_minimum_is_a_copy():
    """Changing the model afterwards does not move the minimum that the directions start from."""
    model = mlp()
    directions = Directions.of(model)
    before = directions.minimum[0].clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(directions.minimum[0], before)


@pytest.mark.parametrize("fast", [True, False])
def test_nothing_of_the_users_changes(fast: bool):
    """Parameters, requires_grad, gradients, training mode, samples and every random state are bit-identical after measuring."""
    model = mlp().train()
    x, y = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
    nn.functional.cross_entropy(model(x), y).backward()
    model[0].bias.requires_grad_(False)
    before = copy.deepcopy(model)
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    x_before, y_before = x.clone(), y.clone()
    states = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    if fast:
        measure_volume(model, x, y, threshold=2.0, num_directions=5, progress=False, measure="lebesgue")
    else:
        engine = LossEngine(model, x, y, fast=False)
        engine.rays([1, 2]).evaluate(np.array([0, 1]), np.array([0.5, 1.0]))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1][1])  # noqa: NPY002
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert model.training
    for (name, now), then, gradient in zip(model.named_parameters(), before.parameters(), gradients, strict=True):
        assert torch.equal(now, then), name
        assert now.requires_grad == then.requires_grad
        assert (now.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(now.grad, gradient)
