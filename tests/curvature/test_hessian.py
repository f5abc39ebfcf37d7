"""Hessian, sharpness and learning coefficient against closed forms and dense Hessians, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import regression
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian
from torch.nn.attention import SDPBackend, sdpa_kernel

from minima_volume.curvature import (
    MeanLoss,
    ViewSettings,
    hessian_trace,
    other_views,
    sam_sharpness,
    top_eigenvalues,
)
from minima_volume.errors import ConfigError


def small_net(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    x = torch.randn(50, 4, generator=random).to(dtype)
    return model, x, torch.randint(0, 3, (50,), generator=random)


def dense(mean_loss: MeanLoss, z: Tensor, differentiate: Callable[..., Any]) -> Tensor:
    """The derivative of the whole-batch mean loss with respect to z through torch.func, an independent route."""
    parts = mean_loss.directions

    def loss(z: Tensor) -> Tensor:
        pieces = z.split([t.numel() for t in parts.minimum])
        state = {
            name: tensor + factor * piece.reshape(tensor.shape)
            for name, tensor, factor, piece in zip(parts.names, parts.minimum, parts.factors, pieces, strict=True)
        }
        state |= {name: buffer.clone() for name, buffer in mean_loss.host.module.named_buffers()}
        outputs = functional_call(mean_loss.host.module, state, (mean_loss.x.clone(),))
        return mean_loss.loss.per_sample(outputs, mean_loss.y).mean()

    with sdpa_kernel(SDPBackend.MATH):
        return differentiate(loss)(z)


@pytest.mark.parametrize("tile", [None, 1, 7, 400])
@pytest.mark.parametrize("scaling", ["none", "filter"])
def test_products_are_those_of_a_quadratic(scaling, tile):
    """H = 2 X'X / T, and F H F in scaled coordinates, however the samples are tiled."""
    model, x, y, exact = regression(np.geomspace(5, 0.01, 12))
    mean_loss = MeanLoss.of(model, x, y, "mse", scaling=scaling, tile=tile)
    factor = model.weight.detach().norm().item() if scaling == "filter" else 1.0
    products = mean_loss.hessian_product(torch.eye(12).double())
    assert torch.allclose(products, factor**2 * exact, rtol=1e-10, atol=1e-12)
    step = torch.linspace(-1, 1, 12).double()
    assert mean_loss.value(step) == pytest.approx(float(factor**2 * step @ exact @ step / 2), rel=1e-10)
    assert torch.allclose(mean_loss.gradient(step)[1], factor**2 * exact @ step, rtol=1e-10)


@pytest.mark.parametrize("scaling", ["none", "filter", "layer", "tensor_std"])
def test_a_network_against_the_dense_hessian(scaling):
    """Value, gradient and all columns of the Hessian, at the minimum and away from it; one vector as in a batch."""
    mean_loss = MeanLoss.of(*small_net(), scaling=scaling, tile=13)
    for z in (mean_loss.zeros(), 0.1 * torch.ones(mean_loss.num_entries).double()):
        exact = dense(mean_loss, z, hessian)
        found = mean_loss.hessian_product(torch.eye(len(z)).double(), z)
        assert torch.allclose(found, exact, rtol=1e-9, atol=1e-10)
        assert torch.allclose(mean_loss.hessian_product(torch.ones_like(z), z), exact.sum(1), rtol=1e-9, atol=1e-10)
        value, gradient = mean_loss.gradient(z)
        assert torch.allclose(gradient, dense(mean_loss, z, grad), rtol=1e-9, atol=1e-12)
        assert value == pytest.approx(mean_loss.value(z), rel=1e-14)


class Shared(nn.Module):
    """Tied weights, a norm with buffers, attention, and a forward that writes to a buffer and to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm, self.attention = nn.BatchNorm1d(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x += 0
        tokens = self.norm(self.second(torch.tanh(self.first(x)))).unflatten(1, (1, 4)).expand(-1, 2, 4)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1) * self.scale


def test_tied_weights_attention_and_names():
    """Tied weights count once and move together; a name list is obeyed; fused attention still has a Hessian."""
    torch.manual_seed(0)
    model = Shared().double().eval()
    x, y = torch.randn(9, 4).double(), torch.randint(0, 4, (9,))
    mean_loss = MeanLoss.of(model, x, y, names="all")
    assert mean_loss.num_entries == sum(p.numel() for p in model.parameters())
    exact = dense(mean_loss, mean_loss.zeros(), hessian)
    assert torch.allclose(mean_loss.hessian_product(torch.eye(len(exact)).double()), exact, atol=1e-10)
    some = MeanLoss.of(model, x, y, names=["first.weight"])
    assert torch.allclose(some.hessian_product(torch.eye(16).double()), exact[1:17, 1:17], atol=1e-10)


def test_the_model_comes_back_unchanged():
    """Weights, buffers, gradients, requires_grad and training mode of the user's model, after every view; also under no_grad."""
    torch.manual_seed(0)
    model = Shared().train()
    model.first.bias.requires_grad_(False)
    model.scale.grad = torch.full((), 3.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = ViewSettings(num_chains=2, num_draws=8, num_burn_in=8, num_products=9)
    x, y = torch.randn(9, 4), torch.randint(0, 4, (9,))
    with torch.no_grad():
        views = other_views(model, x.clone(), y, settings=settings)
    assert list(views.notes) == ["left_out"] and views.learning_coefficient is not None
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training and model.norm.training and not model.first.bias.requires_grad
    assert model.scale.grad == 3.0 and model.first.weight.grad is None


def test_the_losses_own_second_derivatives():
    """The stable cross-entropy has the textbook's Hessian."""
    model, x, y = small_net()
    stable = MeanLoss.of(model, x, y).hessian_product(torch.eye(83).double())
    plain = MeanLoss.of(
        model, x, y, lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, reduction="none")
    )
    assert torch.allclose(stable, plain.hessian_product(torch.eye(83).double()), atol=1e-11)


@pytest.mark.parametrize("n", [8, 300])
def test_a_rotated_spectrum(n):
    """The largest eigenvalues with their vectors: dense for small n, Lanczos beyond; residuals are the true ones."""
    spectrum = np.concatenate([[7.0, 5.0, 5.0, 1.0], np.geomspace(0.5, 1e-3, n - 4)])
    model, x, y, exact = regression(spectrum)
    found = top_eigenvalues(MeanLoss.of(model, x, y, "mse"), 4, tolerance=1e-8)
    assert np.allclose(found.eigenvalues, [7, 5, 5, 1], rtol=1e-7) and found.note is None
    assert np.allclose(found.vectors.T @ found.vectors, np.eye(4), atol=1e-8)
    assert np.linalg.norm(exact.numpy() @ found.vectors - found.vectors * found.eigenvalues, axis=0) == pytest.approx(
        7 * found.residuals, abs=1e-12
    )
    assert (found.residuals < 1e-6).all() and found.num_products < 300


def test_spectrum_is_reproducible_and_float32_agrees():
    """Same seed, same bits; float32 within rounding; another seed within the tolerance."""
    values = {}
    for dtype in (torch.float64, torch.float32):
        model, x, y, _ = regression(np.geomspace(5, 1e-3, 200))
        mean_loss = MeanLoss.of(model.to(dtype), x.to(dtype), y.to(dtype), "mse")
        values[dtype] = top_eigenvalues(mean_loss, tolerance=1e-6).eigenvalues
        assert np.array_equal(values[dtype], top_eigenvalues(mean_loss, tolerance=1e-6).eigenvalues)
        assert np.allclose(values[dtype], top_eigenvalues(mean_loss, seed=2, tolerance=1e-6).eigenvalues, rtol=1e-5)
    assert np.allclose(values[torch.float32], values[torch.float64], rtol=1e-5)


def test_spectra_without_a_largest_eigenvalue():
    """A loss that is linear in the parameters, and an early stop, which a note reports."""
    model, x, y, _ = regression(np.ones(100))
    flat = MeanLoss.of(model, x, y, lambda outputs, targets: outputs.squeeze(-1))
    assert top_eigenvalues(flat, 3).eigenvalues.tolist() == [0, 0, 0]
    model, x, y, _ = regression(np.linspace(1, 1.001, 300))
    stopped = top_eigenvalues(MeanLoss.of(model, x, y, "mse"), 5, tolerance=1e-12, max_products=20)
    assert stopped.note is not None and "of 5 eigenvalues converged" in stopped.note
    with pytest.raises(ConfigError, match="301 eigenvalues are not allowed: the Hessian has 300"):
        top_eigenvalues(MeanLoss.of(model, x, y, "mse"), 301)


def test_the_trace():
    """Exact for small n; else the errors over 40 seeds are as large as the standard errors say, and unbiased."""
    model, x, y, exact = regression(np.geomspace(5, 1e-2, 20))
    found = hessian_trace(MeanLoss.of(model, x, y, "mse"))
    assert found.value == pytest.approx(float(exact.trace()), rel=1e-12) and found.method == "exact"
    model, x, y, exact = regression(np.concatenate([[50, 20], np.geomspace(2, 0.01, 120)]))
    mean_loss = MeanLoss.of(model, x, y, "mse")
    many = [hessian_trace(mean_loss, num_products=36, seed=seed) for seed in range(40)]
    scores = np.array([(one.value - float(exact.trace())) / one.standard_error for one in many])
    assert abs(scores.mean()) < 3 / math.sqrt(40) * scores.std() and 0.7 < scores.std() < 1.6
    assert max(one.standard_error for one in many) < 0.03 * float(exact.trace())


def test_sam_on_a_quadratic():
    """One step is rho |g| + rho^2 g'Hg / 2|g|^2; many steps reach the ball's maximum, known from the secular equation."""
    model, x, y, exact = regression(np.geomspace(5, 0.1, 12), shift=0.02)
    mean_loss, rho = MeanLoss.of(model, x, y, "mse", scaling="filter"), 0.05
    gradient = exact @ torch.full((12,), 0.02, dtype=torch.float64)
    one = sam_sharpness(mean_loss, rho)
    curvature = gradient @ exact @ gradient / gradient.square().sum()
    assert one.first_order == pytest.approx(rho * float(gradient.norm()), rel=1e-12)
    assert one.one_step == pytest.approx(rho * float(gradient.norm()) + rho**2 / 2 * float(curvature), rel=1e-9)
    values, vectors = torch.linalg.eigh(exact)
    along = (vectors.T @ gradient).numpy()

    def excess(mu: float) -> float:
        return float(np.linalg.norm(along / (mu - values.numpy())) - rho)

    mu = brentq(excess, float(values[-1]) + 1e-9, 1e6, xtol=1e-13)
    e = along / (mu - values.numpy())
    many = sam_sharpness(mean_loss, rho, num_steps=200)
    assert many.value == pytest.approx(float(along @ e + (values.numpy() * e * e).sum() / 2), rel=1e-8)
    assert many.one_step == one.one_step < many.value


def test_asam_follows_p_squared_g():
    """e = rho p^2 g / |p g| with p = |theta|; scaling one layer up and the next down changes SAM's value, not ASAM's."""
    model, x, y, exact = regression(np.geomspace(5, 0.1, 12), shift=0.02)
    gradient, p = exact @ torch.full((12,), 0.02, dtype=torch.float64), model.weight.detach().abs()[0]
    found = sam_sharpness(MeanLoss.of(model, x, y, "mse"), 0.1, adaptive=True)
    e = 0.1 * p**2 * gradient / (p * gradient).norm()
    assert found.one_step == pytest.approx(float(gradient @ e + e @ exact @ e / 2), rel=1e-9)
    assert found.first_order == pytest.approx(0.1 * float((p * gradient).norm()), rel=1e-9)
    net, x, y = small_net()
    values = []
    for scale in (1.0, 4.0):
        with torch.no_grad():
            net[0].weight *= scale
            net[0].bias *= scale
            net[2].weight /= scale
        mean_loss = MeanLoss.of(net, x, y)
        values.append([sam_sharpness(mean_loss, 0.05, adaptive=adaptive).value for adaptive in (False, True)])
    assert values[0][1] == pytest.approx(values[1][1], rel=1e-9) and values[0][0] != pytest.approx(
        values[1][0], rel=0.05
    )


def test_sam_where_the_gradient_vanishes():
    """SAM's step is undefined, and a note says so; more steps find the steepest direction from a random start."""
    model, x, y, _ = regression(np.array([8.0, 1.0, 0.5]))
    found = sam_sharpness(MeanLoss.of(model, x, y, "mse"), 0.1)
    assert found.value == 0 and found.note is not None and "vanishes" in found.note
    assert sam_sharpness(MeanLoss.of(model, x, y, "mse"), 0.1, num_steps=30).value == pytest.approx(0.04, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x.to("meta"), y), "the samples are on meta, the model on cpu"),
        (lambda x, y: (x.float(), y), "x is torch.float32, the model torch.float64"),
        (lambda x, y: (x[:, :2], y), "Linear cannot take samples of shape"),
        (lambda x, y: (x, y[:3]), "x has 400 samples, y has 3"),
    ],
)
def test_samples_that_do_not_fit(change, words):
    """One message each, with both sides."""
    model, x, y, _ = regression(np.ones(4))
    with pytest.raises(ConfigError, match=words):
        MeanLoss.of(model, *change(x, y), "mse")
