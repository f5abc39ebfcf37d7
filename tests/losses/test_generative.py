"""The evidence lower bound against closed forms: distributions of torch, and a model whose posterior is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as D

from minima_volume.losses.generative import Bernoulli, Columns, Gaussian, SAELoss, VAELoss, kl_per_dimension
from minima_volume.models.vae import VAE


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_likelihoods_are_those_of_torch():
    """Summed over all features of a sample, constants included."""
    parameters, x = normals(5, 12), normals(5, 3, 2, 2, seed=1)
    gaussian = Gaussian((3, 2, 2), scale=0.5)
    expected = D.Normal(parameters, 0.5).log_prob(x.flatten(1)).sum(-1)
    torch.testing.assert_close(gaussian.log_prob(parameters, x), expected)
    binary = (x > 0).double()
    expected = D.Bernoulli(logits=parameters).log_prob(binary.flatten(1)).sum(-1)
    torch.testing.assert_close(Bernoulli((3, 2, 2)).log_prob(parameters, binary), expected)
    assert gaussian.mean(parameters).shape == Bernoulli((3, 2, 2)).mean(parameters).shape == x.shape
    table = torch.tensor([[0.3, -1.0, 2, 0], [1.0, 0.5, 0, 1]], dtype=torch.float64)
    columns = Columns(2, (3, 2))
    parameters = normals(2, columns.outputs)
    expected = D.Normal(parameters[:, :2], 1.0).log_prob(table[:, :2]).sum(-1)
    expected += D.Categorical(logits=parameters[:, 2:5]).log_prob(table[:, 2])
    expected += D.Categorical(logits=parameters[:, 5:]).log_prob(table[:, 3])
    torch.testing.assert_close(columns.log_prob(parameters, table), expected)
    assert columns.features(table)[0].tolist() == [0.3, -1.0, 0, 0, 1, 1, 0] and columns.inputs == 7
    assert columns.mean(parameters)[:, 2].tolist() == parameters[:, 2:5].argmax(-1).tolist()


@pytest.mark.parametrize(("numbers", "sizes"), [(3, ()), (0, (2, 4))])
def test_tables_of_one_kind_of_column(numbers, sizes):
    """Numbers alone, or categories alone."""
    columns = Columns(numbers, sizes)
    x = torch.zeros(2, numbers + len(sizes), dtype=torch.float64)
    assert columns.features(x).shape == (2, columns.inputs)
    flat = columns.log_prob(torch.zeros(2, columns.outputs, dtype=torch.float64), x)
    expected = -0.5 * math.log(2 * math.pi) * numbers - sum(map(math.log, sizes))
    assert flat.tolist() == pytest.approx([expected, expected])


def test_kl_is_that_of_torch_and_keeps_its_digits():
    """Also close to the prior, where the textbook form loses them."""
    mean, log_variance = normals(4, 3), normals(4, 3, seed=1)
    posterior = D.Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(kl_per_dimension(mean, log_variance), D.kl_divergence(posterior, D.Normal(0.0, 1.0)))
    assert kl_per_dimension(torch.zeros(1), torch.tensor([1e-3])).item() == pytest.approx(2.5e-7, rel=1e-3)


def linear_vae() -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """x = W z + e with e of variance 1 and z in one dimension: the posterior is N(W'x / (1 + W'W), 1 / (1 + W'W)); exact log p(x)."""
    model = VAE(Gaussian((4,)), 1, hidden_dims=()).double()
    w = normals(4, 1)
    precision = 1 + (w.T @ w).item()
    with torch.no_grad():
        model.decoder[0].weight.copy_(w)
        model.decoder[0].bias.zero_()
        model.encoder[1].weight.copy_(torch.cat([w.T / precision, torch.zeros(1, 4)]))
        model.encoder[1].bias.copy_(torch.tensor([0.0, -math.log(precision)]))
    x = normals(6, 4, seed=2)
    exact = D.MultivariateNormal(torch.zeros(4).double(), torch.eye(4) + w @ w.T).log_prob(x)
    return model, x, exact


def test_the_bound_is_the_log_likelihood_if_the_posterior_is_exact():
    """In the mean over draws: an odd pair of draws and a quadratic integrand need only three quadrature points."""
    model, x, exact = linear_vae()
    loss = VAELoss(model.likelihood)
    nodes = ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
    with torch.no_grad():
        bound = sum(w * -loss(model(x, torch.full((6, 1), node, dtype=torch.float64)), x) for node, w in nodes)
        torch.testing.assert_close(bound, exact)
        # with the exact posterior each importance weight is p(x), whatever was drawn
        torch.testing.assert_close(model.log_likelihood(x, normals(3, 6, 1, seed=5)), exact)
    outputs = model(x, torch.zeros(6, 1).double())
    doubled = VAELoss(model.likelihood, beta=3.0, reconstruction_weight=2.0)(outputs, x)
    kl = kl_per_dimension(outputs["mean"], outputs["log_variance"]).sum(-1)
    torch.testing.assert_close(doubled, 2 * loss(outputs, x) + kl)


def test_importance_samples_tighten_a_loose_bound():
    """With a wrong posterior the estimate of many draws is between the bound and the truth; equal seeds, so no chance involved."""
    model, x, exact = linear_vae()
    with torch.no_grad():
        model.encoder[1].bias[1] += 1.0
        noise = normals(2000, 6, 1, seed=3)
        one = model.log_likelihood(x, noise[:1])
        single = torch.stack([model.log_likelihood(x, draw[None]) for draw in noise]).mean(0)
        many = model.log_likelihood(x, noise)
    assert bool((single < many).all()) and one.shape == exact.shape
    torch.testing.assert_close(many, exact, atol=0.2, rtol=0)


def test_sparse_loss():
    """Squared error summed over features, and the L1 norm of the code."""
    outputs = {"reconstruction": torch.tensor([[1.0, 2.0]]), "code": torch.tensor([[0.5, 0.0, 1.5]])}
    assert SAELoss(0.1, 2.0)(outputs, torch.tensor([[0.0, 0.0]])).item() == pytest.approx(2 * 5 + 0.1 * 2)
