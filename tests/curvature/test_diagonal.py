"""The diagonal of the Gauss-Newton matrix, which preconditions rays, against dense algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minima_volume.curvature.diagonal import gauss_newton_diagonal
from minima_volume.curvature.hessian import MeanLoss


def softplus_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.softplus(outputs - targets).sum(1) + (outputs[:, 0] * outputs[:, 1]).square()


def dense_gauss_newton(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> Tensor:
    """mean_i J_i' H_i J_i in float64 by automatic differentiation, sample by sample, with the textbook losses."""
    from torch.func import functional_call, hessian, jacrev

    textbook = {
        "cross_entropy": nn.functional.cross_entropy,
        "bce_with_logits": lambda o, t: nn.functional.binary_cross_entropy_with_logits(o[:, 0], t),
        "mse": nn.functional.mse_loss,
        "own": lambda o, t: softplus_loss(o, t).mean(),
    }[loss]
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    total: Tensor | float = 0.0
    for i in range(len(x)):
        inputs, target = x[i : i + 1], y[i : i + 1]
        jacobian = jacrev(lambda p, inputs=inputs: functional_call(model, p, (inputs,)))(parameters)
        outputs = model(inputs).detach()
        flat = torch.cat([j.reshape(outputs.numel(), -1) for j in jacobian.values()], 1)
        curvature = hessian(lambda o, target=target: textbook(o, target))(outputs)
        total = total + flat.T @ curvature.reshape(outputs.numel(), -1) @ flat / len(x)
    return total


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits", "mse", "own"])
def test_gauss_newton_diagonal_against_dense(loss: str):
    """Exact to rounding in the coordinates of the filter norms; 4,000 random passes agree to 12 %."""
    torch.manual_seed(0)
    outputs = 1 if loss == "bce_with_logits" else 3
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    y = {
        "cross_entropy": torch.arange(7) % 3,
        "bce_with_logits": (torch.arange(7) % 2).double(),
        "mse": torch.randn(7, 3, dtype=torch.float64),
        "own": torch.randn(7, 3, dtype=torch.float64),
    }[loss]
    mean_loss = MeanLoss.of(model, x, y, softplus_loss if loss == "own" else loss, scaling="filter")
    directions = mean_loss.directions
    scale = torch.cat(
        [f.expand(t.shape).reshape(-1) for f, t in zip(directions.factors, directions.minimum, strict=True)]
    )
    dense_matrix = dense_gauss_newton(model, x, y, loss)
    if loss == "own":  # its Hessian may be indefinite; negative curvature is cut off sample by sample
        assert bool((gauss_newton_diagonal(mean_loss) >= 0).all())
        return
    expected = dense_matrix.diagonal() * scale.square()
    assert torch.allclose(gauss_newton_diagonal(mean_loss), expected, rtol=1e-9, atol=1e-14)
    random = gauss_newton_diagonal(mean_loss, num_passes=4000, seed=3)
    assert torch.allclose(random, expected, rtol=0.12, atol=1e-12)


def test_gauss_newton_diagonal_of_tokens():
    """Outputs (samples, tokens, classes): the loss of a sample is the mean over its tokens."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 3), nn.Tanh(), nn.Linear(3, 4)).double()
    x, y = torch.randint(0, 5, (6, 2)), torch.randint(0, 4, (6, 2))
    found = gauss_newton_diagonal(MeanLoss.of(model, x, y, "cross_entropy"))
    # every token a sample of its own has the same mean
    alone = gauss_newton_diagonal(MeanLoss.of(model, x.reshape(-1), y.reshape(-1), "cross_entropy"))
    assert torch.allclose(found, alone, rtol=1e-12, atol=1e-15)
    assert bool((found > 0).any())
