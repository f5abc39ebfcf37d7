"""The density of the Hessian's eigenvalues: closed forms, dense Hessians, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import normal
from scipy.integrate import trapezoid
from torch import nn

import minima_volume as mv
from minima_volume.curvature.density import eigenvalue_density
from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError


def quadratic(curvatures: torch.Tensor) -> MeanLoss:
    """A regression whose Hessian is diag(curvatures)."""
    n = len(curvatures)
    model = nn.Linear(n, 1, bias=False, dtype=torch.float64)
    x = torch.diag((curvatures * n / 2).sqrt())
    return MeanLoss.of(model, x, model(x).detach(), "mse")


def network() -> MeanLoss:
    """Not at a minimum, so that eigenvalues have both signs."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 6)).double()
    return MeanLoss.of(model, normal(40, 3), torch.arange(40) % 6, scaling="filter")


def test_few_distinct_eigenvalues_are_found_with_their_shares():
    """Of a diagonal Hessian every vector of signs sees each eigenvalue by its multiplicity, so Gauss's quadrature is exact."""
    values, counts = np.array([0.5, 1.0, 3.0, 10.0]), np.array([40, 30, 20, 10])
    found = eigenvalue_density(quadratic(torch.tensor(np.repeat(values, counts))), num_vectors=2, num_steps=20)
    assert found.method == "lanczos" and found.num_products == 8
    assert np.allclose(found.nodes, np.repeat(values, 2), rtol=1e-9)
    assert np.allclose(found.weights, np.repeat(counts, 2) / 200, rtol=1e-9)
    assert found.trace == pytest.approx(float(values @ counts))
    assert found.share_below(1.5) == pytest.approx(0.7)


def test_a_small_hessian_is_taken_whole():
    """All eigenvalues, as by the dense Hessian; the smoothed density integrates to 1."""
    loss = network()
    n = loss.num_entries
    dense = loss.hessian_product(torch.eye(n, dtype=torch.float64)).numpy()
    found = eigenvalue_density(loss, num_vectors=6, num_steps=40)
    assert found.method == "exact" and found.num_entries == n
    assert np.allclose(found.nodes, np.linalg.eigvalsh(dense), atol=1e-12)
    at = np.linspace(found.nodes[0] - 10 * found.width, found.nodes[-1] + 10 * found.width, 4001)
    assert trapezoid(found.smooth(at), at) == pytest.approx(1.0, abs=1e-6)


def test_moments_and_ends_of_a_network():
    """Of each vector the first moments are v' H^k v / n exactly; the ends of the spectrum are those of the dense Hessian."""
    loss = network()
    n = loss.num_entries
    dense = loss.hessian_product(torch.eye(n, dtype=torch.float64)).numpy()
    eigenvalues = np.linalg.eigvalsh(dense)
    found = eigenvalue_density(loss, num_vectors=1, num_steps=30, seed=3)
    assert found.method == "lanczos" and found.weights.sum() == pytest.approx(1)
    assert found.nodes[-1] == pytest.approx(eigenvalues[-1], rel=1e-6)
    assert found.nodes[0] == pytest.approx(eigenvalues[0], rel=1e-6)
    # the mean over many vectors has the trace of H^2: six standard errors, 2 |H^2|_F^2 at most per vector
    many = eigenvalue_density(loss, num_vectors=40, num_steps=3)
    second = float(many.weights @ many.nodes**2)
    error = np.sqrt(2 * (eigenvalues**4).sum() / 40) / n
    assert second == pytest.approx((eigenvalues**2).mean(), abs=6 * error)


def test_entries_that_do_not_move_have_no_eigenvalue():
    """A dead filter's scaling is 0: it is left out of n."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    with torch.no_grad():
        model[0].weight[2] = 0
    loss = MeanLoss.of(model, normal(10, 3), torch.arange(10) % 2, scaling="filter")
    assert eigenvalue_density(loss).num_entries == loss.num_entries - 3


def test_what_is_not_allowed():
    for wrong in ({"num_vectors": 0}, {"num_steps": 0}):
        with pytest.raises(ConfigError, match="must be at least 1"):
            eigenvalue_density(quadratic(torch.ones(3, dtype=torch.float64)), **wrong)


def test_other_views_have_it():
    """And leave it out if asked to; the reason of what has no Hessian is there."""
    model, x = nn.Linear(3, 1, bias=False).double(), normal(20, 3)
    quick = {"num_chains": 0, "scaling": "none"}
    views = mv.other_views(model, x, model(x).detach(), "mse", settings=mv.ViewSettings(**quick))
    assert views.density.nodes == pytest.approx(np.linalg.eigvalsh((2 * x.T @ x / 20).numpy()), rel=1e-9)
    assert "0.0% of 3 eigenvalues clearly below 0" in str(views)
    without = mv.other_views(model, x, model(x).detach(), "mse", settings=mv.ViewSettings(density_vectors=0, **quick))
    assert without.density is None and "density: left out" in str(without)
