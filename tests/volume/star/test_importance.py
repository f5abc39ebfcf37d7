"""Importance sampling of rays: preconditioners against dense algebra, volumes against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from minima_volume import measure_volume
from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import Directions
from minima_volume.volume.star.importance import DAMPINGS, NUM_PILOTS, PILOT_SEED, choose_damping
from minima_volume.volume.star.preconditioner import PreconditionedDirections, Preconditioner, diagonal, full, low_rank
from minima_volume.volume.star.volume import log_unit_ball

THRESHOLD = 0.01


def regression(
    values: np.ndarray, rotated: bool, dtype: torch.dtype = torch.float64
) -> tuple[nn.Linear, Tensor, Tensor, float]:
    """A linear regression with an exact fit whose Hessian has these eigenvalues, and the log-volume of its ellipsoid."""
    n = len(values)
    generator = torch.Generator().manual_seed(n)
    left, basis = (torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    if not rotated:
        basis = torch.eye(n, dtype=torch.float64)
    x = math.sqrt(n / 2) * left @ torch.diag(torch.from_numpy(values).sqrt()) @ basis.T
    model = nn.Linear(n, 1, bias=False).to(dtype)
    with torch.no_grad():
        model.weight.copy_(torch.randn(1, n, generator=generator))
    x = x.to(dtype)
    log_volume = log_unit_ball(n) + n / 2 * math.log(2 * THRESHOLD) - 0.5 * float(np.log(values).sum())
    return model, x, model(x).detach(), log_volume


def measured(model: nn.Module, x: Tensor, y: Tensor, loss: object = "mse", **settings: object):
    settings = {"threshold": THRESHOLD, "num_directions": 20, "max_coefficient": 1e4, "progress": False} | settings
    settings.setdefault("measure", "lebesgue")
    return measure_volume(model, x, y, loss, **settings)


# ----------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("scaling", ["none", "filter"])
@pytest.mark.parametrize("rotated", [False, True], ids=["aligned", "rotated"])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_the_exact_hessian_gives_the_exact_volume(n: int, rotated: bool, scaling: str):
    """20 directions, condition number 10,000: within 0.01 nats in float64, every ray counts the same."""
    model, x, y, exact = regression(np.geomspace(1, 1e4, n), rotated)
    estimate = measured(model, x, y, preconditioner="full", scaling=scaling)
    assert estimate.log_volume == pytest.approx(exact, abs=0.01)
    assert estimate.effective_sample_size == pytest.approx(20, abs=0.01)
    assert estimate.estimator == "importance"
    assert estimate.preconditioner.name == "full"
    assert estimate.preconditioner.damping <= 1e-5
    assert estimate.preconditioner.num_pilots == NUM_PILOTS


@pytest.mark.parametrize("n", [60, 500, 501])
def test_the_default_is_exact_as_long_as_that_is_cheap(n: int):
    """The whole Hessian up to 500 parameters, within 0.01 nats of the truth; 20 eigenpairs and a diagonal above."""
    model, x, y, exact = regression(np.geomspace(1, 1e3, n), rotated=True)
    estimate = measured(model, x, y, estimator="importance", scaling="none")
    assert estimate.preconditioner.name == ("full" if n <= 500 else "low_rank")
    assert (abs(estimate.log_volume - exact) < 0.01) == (n <= 500)


def test_a_rotated_factor_that_is_not_symmetric():
    """P = H^-1 = L L' with L = C'^-1 Q, H = C C': exact ray by ray; its transpose has the same determinant and is not."""
    model, x, y, exact = regression(np.geomspace(1, 1e3, 8), rotated=True)
    hessian = 2 * x.T @ x / len(x)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    factor = torch.linalg.inv(torch.linalg.cholesky(hessian)).T @ rotation
    assert not torch.allclose(factor, factor.T, atol=0.1)
    log_det = -float(torch.logdet(hessian))
    estimates = [
        measured(model, x, y, preconditioner=Preconditioner("own", lambda w, m=m: m @ w, log_det), scaling="none")
        for m in (factor, factor.T)
    ]
    assert estimates[0].log_volume == pytest.approx(exact, abs=0.003)
    assert estimates[0].radii == pytest.approx(np.full(20, math.sqrt(2 * THRESHOLD)), rel=1e-4)
    assert estimates[0].effective_sample_size == pytest.approx(20, abs=1e-3)
    assert estimates[1].effective_sample_size < 10


@pytest.mark.parametrize(
    ("name", "rotated"), [("diagonal", False), ("adam", False), ("low_rank", True), ("full", True)]
)
def test_each_preconditioner_improves_the_effective_sample_size(name: str, rotated: bool):
    """An ill-conditioned quadratic, 300 fresh directions: plain ones have an effective sample size below 10."""
    model, x, y, exact = regression(np.geomspace(1, 1e3, 16), rotated)
    moments = {"weight": torch.from_numpy(np.geomspace(1, 1e3, 16)).square().reshape(1, -1)}
    plain = measured(model, x, y, num_directions=300)
    better = measured(model, x, y, num_directions=300, preconditioner=name, second_moments=moments)
    assert plain.effective_sample_size < 10
    assert plain.preconditioner is None
    assert better.effective_sample_size > 250
    assert better.log_volume == pytest.approx(exact, abs=0.02)
    assert better.interval[0] < exact + 0.02


def test_second_moments_that_an_optimiser_left_behind():
    """Adam's own state, given as the optimiser: around the minimum the mean square of a gradient is the curvature squared."""
    model, x, y, exact = regression(np.geomspace(1, 1e3, 16), rotated=False)
    minimum, random = model.weight.detach().clone(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    for _ in range(1000):
        with torch.no_grad():
            model.weight.copy_(minimum + torch.randn(minimum.shape, generator=random, dtype=torch.float64))
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        model.weight.copy_(minimum)
    plain = measured(model, x, y, num_directions=300)
    better = measured(model, x, y, num_directions=300, preconditioner="adam", second_moments=optimizer)
    assert plain.effective_sample_size < 10 and better.effective_sample_size > 250
    assert better.log_volume == pytest.approx(exact, abs=0.05)


def test_float32_agrees_with_float64():
    """The same regression in both: 0.02 nats."""
    estimates = [
        measured(*regression(np.geomspace(1, 100, 10), True, dtype)[:3], preconditioner="low_rank")
        for dtype in (torch.float32, torch.float64)
    ]
    assert estimates[0].log_volume == pytest.approx(estimates[1].log_volume, abs=0.02)


def test_a_dead_filter_is_left_out():
    """A row of zeros has F = 0: it does not move, and the volume is that of the other row."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        model.weight[1] = 0
    x = torch.randn(12, 3, dtype=torch.float64)
    y = model(x).detach()
    hessian = x.T @ x / 12  # of the mean over two outputs
    exact = log_unit_ball(3) + 1.5 * math.log(2 * THRESHOLD) - 0.5 * float(torch.logdet(hessian))
    for name in ("low_rank", "full"):
        estimate = measured(model, x, y, preconditioner=name)
        assert (estimate.num_params, estimate.num_zero) == (3, 3)
        assert estimate.log_volume == pytest.approx(exact, abs=0.01)


def test_a_real_network():
    """Digits, an MLP with 1,210 parameters: on 40 fresh directions the estimate rises by hundreds of nats, by the best damping.

    Weights and second moments after 300 full batches of AdamW (learning rate 0.01) are stored: not every minimum gains on few directions.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels[:60], dtype=torch.float32) / 16, torch.tensor(labels[:60])
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with np.load(Path(__file__).with_name("digits_network.npz"), allow_pickle=False) as stored:
        tensors = {name: torch.from_numpy(stored[name]) for name in stored.files}
    moments = {name.removeprefix("exp_avg_sq/"): tensors.pop(name) for name in list(tensors) if "/" in name}
    model.load_state_dict(tensors)
    settings = {"loss": "cross_entropy", "threshold": 0.1, "num_directions": 40, "max_coefficient": 64, "seed": 5}
    plain = measured(model, x, y, **settings).log_volume
    for name, gain in (("adam", 400), ("diagonal", 400), ("low_rank", 700)):
        better = measured(model, x, y, preconditioner=name, second_moments=moments, **settings)
        assert better.log_volume > plain + gain, name
        assert better.effective_sample_size >= 1


# ---------------------------------------------------------------------------------------------- preconditioners


def dense(preconditioner: Preconditioner, n: int) -> Tensor:
    """L, column by column."""
    return torch.stack([preconditioner.factor(unit) for unit in torch.eye(n, dtype=torch.float64)], 1)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("kind", ["diagonal", "low_rank", "full"])
def test_factors_against_dense_algebra(kind: str, damping: float):
    """L L' is the inverse of the damped curvature in units where its trace is n; log det P is its log-determinant."""
    n, k = 9, 4
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    hessian = root @ root.T
    values, vectors = torch.linalg.eigh(hessian)
    delta = damping * hessian.diagonal().mean() * torch.eye(n, dtype=torch.float64)
    if kind == "diagonal":
        made, curvature = diagonal(hessian.diagonal(), damping), torch.diag(hessian.diagonal()) + delta
    elif kind == "low_rank":
        top = vectors[:, -k:] @ torch.diag(values[-k:]) @ vectors[:, -k:].T
        made = low_rank(values[-k:], vectors[:, -k:], hessian.diagonal(), damping)
        curvature = top + torch.diag((hessian - top).diagonal()) + delta
    else:
        made, curvature = full(values, vectors, damping), hessian + delta
    inverse = torch.linalg.inv(curvature)
    inverse *= n / inverse.trace()
    factor = dense(made, n)
    assert torch.allclose(factor @ factor.T, inverse, rtol=1e-8, atol=1e-10)
    assert made.log_det == pytest.approx(float(torch.logdet(inverse)), abs=1e-8)
    assert made.damping == damping


def test_curvature_that_vanishes_needs_damping():
    """None instead of a preconditioner that reaches infinitely far."""
    zeros = torch.tensor([1.0, 0.0], dtype=torch.float64)
    unit = torch.eye(2, dtype=torch.float64)
    assert diagonal(zeros, 0.0) is None
    assert low_rank(zeros[:1], unit[:, :1], zeros, 0.0) is None
    assert full(zeros, unit, 0.0) is None
    assert diagonal(zeros, 1e-3) is not None


def test_negative_curvature_counts_by_its_size():
    """|H|: an eigenvalue of -4 shrinks directions as one of 4 does."""
    unit = torch.eye(2, dtype=torch.float64)
    negative, positive = (full(torch.tensor([1.0, sign * 4.0]), unit, 0.0) for sign in (-1, 1))
    assert torch.equal(dense(negative, 2), dense(positive, 2))


def test_directions_of_a_preconditioner():
    """A seed names the same normals w as without one; direction = F L w, the norm is ||w||, half log det P joins the Jacobian."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    plain = Directions.of(model)
    factor = torch.randn(11, 11, dtype=torch.float64)
    along = PreconditionedDirections.around(plain, Preconditioner("own", lambda w: factor @ w, 0.5))
    expected, norm = plain.draw(7)
    found, found_norm = along.draw(7)
    assert found_norm == pytest.approx(norm, rel=1e-12)
    scale = torch.cat([f.expand(t.shape).reshape(-1) for f, t in zip(plain.factors, plain.minimum, strict=True)])
    flat = torch.cat([part.reshape(-1) for part in expected]) / scale
    assert torch.allclose(torch.cat([part.reshape(-1) for part in found]), scale * (factor @ flat))
    assert along.log_det == pytest.approx(plain.log_det + 0.25, abs=1e-12)
    assert (along.num_params, along.names) == (11, plain.names)


# ----------------------------------------------------------------------------------------------------- damping


def test_the_damping_is_chosen_on_other_directions():
    """Pilot seeds are never those of the evaluation, nor those of another evaluation's pilots."""
    seen: list[range] = []

    def follow(directions: Directions, seeds: range) -> np.ndarray:
        seen.append(seeds)
        return np.ones(len(seeds))

    directions = Directions.of(nn.Linear(4, 1, bias=False))
    for seed in (1, 2):
        choose_damping(directions, lambda damping: Preconditioner("own", lambda w: w, 0.0, damping), follow, seed)
    assert all(seeds == seen[0] for seeds in seen[: len(DAMPINGS)])
    assert len(seen[0]) == NUM_PILOTS
    assert seen[0][0] >= PILOT_SEED
    assert not set(seen[0]) & set(seen[-1])


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 500, 2**31 - 1, 2**31, 2**32 - 500])
def test_pilots_are_other_numbers_than_directions(seed):
    """Not only other seeds: PyTorch's generator on the CPU knows the lower 32 bits alone."""
    seen: list[range] = []

    def follow(directions: Directions, seeds: range) -> np.ndarray:
        seen.append(seeds)
        return np.ones(len(seeds))

    directions = Directions.of(nn.Linear(4, 1, bias=False))
    choose_damping(directions, lambda damping: Preconditioner("own", lambda w: w, 0.0, damping), follow, seed)
    assert not {pilot % 2**32 for pilot in seen[0]} & {one % 2**32 for one in range(seed, seed + 500)}


def test_the_best_damping_wins():
    """Equal rays beat a luckier but uncertain estimate; far from the truth the highest estimate wins; infinite radii never do."""
    directions = Directions.of(nn.Linear(100, 1, bias=False))
    spread = np.random.default_rng(0).normal(size=NUM_PILOTS)
    cases = {DAMPINGS[0]: np.full(NUM_PILOTS, np.inf), DAMPINGS[2]: np.ones(NUM_PILOTS)}

    def choose(sd: float, gain: float) -> float | None:
        noisy = np.exp((sd * spread + gain) / 100)
        names = {damping: cases.get(damping, noisy) for damping in DAMPINGS}

        def follow(along: Directions, seeds: range) -> np.ndarray:
            return names[along.preconditioner.damping]

        damped = {damping: Preconditioner("own", lambda w: w, 0.0, damping) for damping in DAMPINGS}
        return choose_damping(directions, damped.get, follow, 1).damping

    assert choose(sd=1.0, gain=0.1) == DAMPINGS[2]
    assert choose(sd=30.0, gain=-100.0) == DAMPINGS[2]
    assert choose(sd=30.0, gain=0.0) == DAMPINGS[1]


def test_an_accuracy_threshold():
    """Two weights, two samples: right while both weights are positive; preconditioned rays find the quadrant within the ball too."""
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.ones_(model.weight)
    estimates = [
        measured(
            model, torch.eye(2, dtype=torch.float64), torch.ones(2), "bce_with_logits", threshold=None, accuracy_threshold=1.0,
            scaling="none", measure="ball", max_coefficient=1.0, num_directions=2000, preconditioner=preconditioner,
        ).log_volume
        for preconditioner in (None, Preconditioner("own", lambda w: w * torch.tensor([1.0, 0.5]), 2 * math.log(0.5)))
    ]  # fmt: skip
    # the disc of radius sqrt 2 around (1, 1) without what lies below or left of 0: two segments of angle pi / 2 that meet at 0
    exact = math.log(2 * math.pi - 2 * (math.pi / 2 - 1))
    assert estimates == pytest.approx([exact, exact], abs=0.06)


# ----------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preconditioner": "newton"}, "allowed: adam, diagonal, low_rank, full"),
        ({"estimator": "splitting"}, "does not estimate measure 'lebesgue'; allowed: monte_carlo, importance"),
        (
            {"estimator": "monte_carlo", "preconditioner": "full"},
            "preconditioner applies only to estimator='importance'",
        ),
        ({"preconditioner": "full", "damping": -1.0}, "at least 0"),
        ({"preconditioner": "adam"}, "needs second_moments"),
        ({"preconditioner": "adam", "second_moments": {}}, r"'weight' needs a tensor of shape \(1, 3\), got none"),
        ({"preconditioner": "adam", "second_moments": {"weight": torch.ones(3)}}, r"got \(3,\)"),
        ({"preconditioner": "adam", "second_moments": {"weight": -torch.ones(1, 3)}}, "at least 0"),
        ({"preconditioner": "adam", "second_moments": {"weight": torch.zeros(1, 3)}}, "curvature is 0"),
        ({"preconditioner": "adam", "second_moments": torch.optim.Adam(nn.Linear(3, 1).parameters())}, "trained it"),
    ],
)
def test_arguments_that_are_not_allowed(settings: dict, message: str):
    """Each is named in a ConfigError."""
    model, x, y, _ = regression(np.ones(3), rotated=False)
    with pytest.raises(ConfigError, match=message):
        measured(model, x, y, **settings)


def test_a_full_hessian_has_its_limit():
    """5,001 parameters are refused before anything is computed."""
    model = nn.Linear(5001, 1, bias=False)
    with pytest.raises(ConfigError, match="at most 5,000 parameters, the model has 5,001; take 'low_rank'"):
        measured(model, torch.ones(2, 5001), model(torch.ones(2, 5001)).detach(), preconditioner="full")


def test_damping_zero_on_a_singular_curvature():
    """Said, with the way out."""
    model = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="leave damping out"):
        measured(model, x, model(x).detach(), preconditioner="diagonal", damping=0.0)


def test_a_minimum_outside():
    """Nothing is preconditioned, the reason is given."""
    model, x, y, _ = regression(np.ones(3), rotated=False)
    estimate = measured(model, x, y + 1, preconditioner="full")
    assert estimate.log_volume is None
    assert "outside" in estimate.note
