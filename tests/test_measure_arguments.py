"""The front door says what is wrong with samples, models and settings before anything runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minima_volume import measure_volume
from minima_volume.errors import ConfigError

MODEL = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 2))
X, Y = torch.zeros(6, 4), torch.zeros(6, dtype=torch.long)


class NoParameters(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("model", "x", "y", "message"),
    [
        (MODEL, np.zeros((6, 4)), Y, r"x is a numpy.ndarray; it must be a torch.Tensor: convert it with torch.as_tensor\(x\)"),
        (MODEL, X, [0] * 6, r"y is a builtins.list; .* torch.as_tensor\(y\)"),
        (MODEL, X, Y[:5], "x has 6 samples, y has 5"),
        (MODEL, X[:0], Y[:0], r"x has shape \(0, 4\); it must hold at least one sample"),
        (MODEL, torch.tensor(1.0), Y, r"x has shape \(\)"),
        (MODEL, torch.zeros(6, 5), Y, r"cannot take samples of shape \(5,\) \(x has shape \(6, 5\).*0.weight \(3, 4\)"),
        (MODEL, X.long(), Y, "cannot take samples .* torch.int64"),
        (MODEL, X.double(), Y, r"x is torch.float64, the model torch.float32; convert it with x.to\(torch.float32\)"),
        (MODEL.forward, X, Y, "model is a method; it must be a torch.nn.Module"),
        (NoParameters(), X, Y, "NoParameters has no parameters"),
        (MODEL, X, Y + 2, "labels go from 2 to 2, the model has 2 outputs"),
        (MODEL, X, X, "needs integer labels"),
    ],
)  # fmt: skip
def test_samples_and_models(model: nn.Module, x: Tensor, y: Tensor, message: str):
    """One ConfigError each, that names the thing, its value and the way out."""
    with pytest.raises(ConfigError, match=message):
        measure_volume(model, x, y, threshold=0.1, measure="lebesgue", progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measure": "gauss"}, "'gauss' is not known; allowed: .*lebesgue, ball"),
        ({"measure": "ball", "estimator": "mean"}, "'mean' does not estimate measure 'ball'; allowed: monte_carlo, importance"),
        ({"measure": "ball", "max_coefficient": math.inf}, "finite"),
        ({"measure": "ball", "max_coefficient": math.nan}, "finite"),
        ({"measure": "lebesgue", "num_directions": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_settings(settings: dict, message: str):
    """Likewise for what is asked of it."""
    with pytest.raises(ConfigError, match=message):
        measure_volume(MODEL, X, Y, threshold=5.0, progress=False, **settings)


def test_the_model_comes_back_as_it_was():
    """Weights, buffers and modes, also with a curvature measured and a model in training mode with one layer in evaluation."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    model[1].eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = torch.randn(6, 4), torch.tensor([0, 1] * 3)
    measure_volume(
        model,
        x,
        y,
        threshold=5.0,
        measure="ball",
        num_directions=3,
        preconditioner="low_rank",
        damping=1.0,
        progress=False,
    )
    assert [layer.training for layer in model] == [True, False, True]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
