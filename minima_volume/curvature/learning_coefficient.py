"""The local learning coefficient: how fast the mass around a minimum grows with the loss, by Langevin dynamics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minima_volume.confidence import CONFIDENCE
from minima_volume.curvature.chains import effective_sample_size, split_r_hat
from minima_volume.curvature.hessian import MeanLoss
from minima_volume.curvature.spectrum import top_eigenvalues
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator, normals

STEP_SHARE = 0.05  # step * steepest / 4 of an automatic step: the bias of the steepest direction
BIAS_ALLOWED, R_HAT_ALLOWED, DRAWS_NEEDED = 0.15, 1.1, 50
PILOTS, PLACES = 10, 4  # pilot walks at most; places on each walk where the curvature is looked at


@dataclass(frozen=True)
class LearningCoefficient:
    """A local learning coefficient, and whether the chains can be believed.

    Attributes:
        value: lambda_hat, the mean over the chains; None if a chain diverged.
        interval: 95 %, Student's t over the chains' values; Monte Carlo error only, not the bias that `discretisation` bounds.
        chain_values: (C,) lambda_hat of each chain, NaN where it diverged.
        losses: (C, burn-in + S) mean loss at every step, burn-in first: the traces to look at.
        num_burn_in: steps that are left out.
        r_hat, effective_sample_size: of the losses after burn-in; None if a chain diverged.
        step_size: epsilon.
        beta, localisation: inverse temperature, and gamma.
        discretisation: step * (n_samples beta h + gamma) / 4 with h the largest curvature met, an upper bound of the relative
            bias by the step's size (a direction of curvature h reads 1 / (1 - it) too large); None if there is no Hessian.
        start_loss: L*, the loss at the minimum.
        verdict: how far to trust it, in words.
    """

    value: float | None
    interval: tuple[float, float] | None
    chain_values: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    num_burn_in: int
    r_hat: float | None
    effective_sample_size: float | None
    step_size: float
    beta: float
    localisation: float
    discretisation: float | None
    start_loss: float
    verdict: str


def learning_coefficient(
    mean_loss: MeanLoss,
    *,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_burn_in: int = 500,
    localisation: float = 100.0,
    beta: float | None = None,
    step_size: float | None = None,
    seed: int = 1,
    on_chain: Callable[[], object] | None = None,
) -> LearningCoefficient:
    """lambda_hat = n_samples beta (E[L] - L*), the expectation over the localised, tempered posterior around the minimum.

    The posterior exp(-n_samples beta L(z) - gamma / 2 ||z||^2) is walked by Langevin dynamics from z = 0,

        z <- z - epsilon / 2 (n_samples beta grad L(z) + gamma z) + sqrt(epsilon) N(0, I),

    with full-batch gradients (SGLD without minibatch noise) and no accept-reject step. On a quadratic loss with curvatures h
    this reads 1/2 sum a / (a + gamma) / (1 - epsilon (a + gamma) / 4), a = n_samples beta h: half the number of directions that are
    steep against gamma. L is the loss as it is; for `mse` with m outputs this is the negative log-likelihood of noise of
    variance m / 2.

    Args:
        mean_loss: the loss and its coordinates; with scaling `none` gamma is per squared parameter, as published.
        num_chains: at least 2.
        num_draws: S, steps of each chain that count, at least 8.
        num_burn_in: steps before them.
        localisation: gamma > 0: the walk stays within about 1 / sqrt(gamma) of the minimum in each coordinate.
        beta: inverse temperature; 1 / log n_samples by default, which needs at least 3 samples.
        step_size: epsilon; by default pilot walks find the largest curvature h and take 0.2 / (n_samples beta h + gamma).
        seed: of the noise.
        on_chain: called after each chain, for a progress bar.

    Raises:
        ConfigError: an argument is not allowed, the loss at the minimum is not finite, or the automatic step finds no Hessian.

    Sources: Lau et al. 2023, "The Local Learning Coefficient" (their lambda_hat); Welling and Teh 2011 (SGLD).
    """
    _check(mean_loss, num_chains, num_draws, num_burn_in, localisation, beta, step_size)
    count = mean_loss.num_samples
    beta = 1 / math.log(count) if beta is None else beta
    start = mean_loss.value()
    if not math.isfinite(start):
        raise ConfigError(f"the loss at the minimum is {start:g}; it must be finite")
    walk = _Walk(mean_loss, count * beta, localisation)
    step = _pilot_step(walk, num_burn_in, seed) if step_size is None else step_size
    rows, curvatures = [], []
    for chain in range(num_chains):
        noise = generator(seed, f"langevin chain {chain}")
        losses, met = walk.run(mean_loss.zeros(), step, num_burn_in + num_draws, noise)
        rows.append(losses)
        curvatures.append(_largest_curvature(mean_loss, met, seed))
        if on_chain is not None:
            on_chain()
    traces = np.stack(rows)
    draws = traces[:, num_burn_in:]
    finite = np.isfinite(traces).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.where(finite, count * beta * (draws.mean(axis=1) - start), np.nan)
    steepest = max((h for h in curvatures if h is not None), default=None)
    bias = None if steepest is None else step * (count * beta * steepest + localisation) / 4
    healthy = bool(finite.all())
    r_hat = split_r_hat(draws) if healthy else None
    effective = effective_sample_size(draws) if healthy else None
    return LearningCoefficient(
        value=float(values.mean()) if healthy else None,
        interval=_interval(values) if healthy else None,
        chain_values=values,
        losses=traces,
        num_burn_in=num_burn_in,
        r_hat=r_hat,
        effective_sample_size=effective,
        step_size=step,
        beta=beta,
        localisation=localisation,
        discretisation=bias,
        start_loss=start,
        verdict=_verdict(values, r_hat, effective, bias),
    )


@dataclass(frozen=True)
class _Walk:
    """Langevin dynamics in one posterior: `strength` = n_samples beta, `localisation` = gamma."""

    mean_loss: MeanLoss
    strength: float
    localisation: float

    def run(self, z: Tensor, step: float, num_steps: int, noise: torch.Generator) -> tuple[np.ndarray, list[Tensor]]:
        """Losses at z_1 .. z_S (NaN from where the walk left the finite numbers), and a few places on the way."""
        losses, met = np.full(num_steps, np.nan), []
        _, gradient = self.mean_loss.gradient(z)
        for i in range(num_steps):
            kick = normals(noise, len(z)).to(z)
            z = z - step / 2 * (self.strength * gradient + self.localisation * z) + math.sqrt(step) * kick
            loss, gradient = self.mean_loss.gradient(z)
            if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
                break
            losses[i] = loss
            if (i + 1) % math.ceil(num_steps / PLACES) == 0:
                met.append(z)
        return losses, met

    def largest_step(self, curvature: float) -> float:
        return 4 * STEP_SHARE / (self.strength * max(curvature, 0.0) + self.localisation)


def _pilot_step(walk: _Walk, num_steps: int, seed: int) -> float:
    """A step small enough for the curvature at the minimum and at the places that a walk with this step comes to.

    The curvature of cross-entropy is far smaller at a loss of 1e-4 than at the losses that the posterior reaches.
    """
    zeros = walk.mean_loss.zeros()
    step = walk.largest_step(float(top_eigenvalues(walk.mean_loss, 1, seed=seed, tolerance=0.05).eigenvalues[0]))
    for pilot in range(PILOTS):
        noise = generator(seed, f"langevin pilot {pilot}")
        losses, met = walk.run(zeros, step, max(20, num_steps // 4), noise)
        curvature = _largest_curvature(walk.mean_loss, met, seed)
        smaller = step / 10 if curvature is None else walk.largest_step(curvature)
        if smaller >= 0.8 * step and np.isfinite(losses).all():
            break
        step = min(step / 2, smaller)
    return step


def _largest_curvature(mean_loss: MeanLoss, places: list[Tensor], seed: int) -> float | None:
    """The largest eigenvalue of the Hessian at a few places; None if there is none."""
    found = []
    for z in places:
        with contextlib.suppress(ConfigError):
            found += top_eigenvalues(
                mean_loss, 1, z=z, seed=seed, tolerance=0.05, max_products=200
            ).eigenvalues.tolist()
    return max(found, default=None)


def _interval(values: np.ndarray) -> tuple[float, float]:
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _verdict(values: np.ndarray, r_hat: float | None, effective: float | None, bias: float | None) -> str:
    """A verdict on how far to trust it; the most basic problem comes first."""
    diverged = np.flatnonzero(np.isnan(values))
    if len(diverged):
        return f"undefined: {len(diverged)} of {len(values)} chains diverged; take a smaller step_size or a larger localisation"
    assert r_hat is not None and effective is not None
    problems = []
    if values.mean() < 0 or (values < 0).any():
        problems.append(
            f"negative in {int((values < 0).sum())} of {len(values)} chains: the walk finds lower losses than the minimum's own, so it is "
            "not a minimum of this landscape; train longer or raise localisation"
        )
    if r_hat > R_HAT_ALLOWED:
        problems.append(
            f"not converged: R-hat {r_hat:.2f} (should be below {R_HAT_ALLOWED:g}); take more burn-in and draws"
        )
    if effective < DRAWS_NEEDED:
        problems.append(
            f"few draws: effective sample size {effective:.0f} (should be above {DRAWS_NEEDED}); take more draws"
        )
    if bias is None:
        problems.append("the bias by the step's size is unknown: there is no Hessian")
    elif bias > BIAS_ALLOWED:
        problems.append(
            f"the step is too large: its bias in the steepest direction is about {bias / max(1 - bias, 0.01):.0%}; take a smaller step_size"
        )
    return "; ".join(problems) or f"estimate: R-hat {r_hat:.2f}, effective sample size {effective:.0f}"


def _check(
    mean_loss: MeanLoss,
    num_chains: int,
    num_draws: int,
    num_burn_in: int,
    localisation: float,
    beta: float | None,
    step_size: float | None,
) -> None:
    for name, count, least in (
        ("num_chains", num_chains, 2),
        ("num_draws", num_draws, 8),
        ("num_burn_in", num_burn_in, 0),
    ):
        if count < least:
            raise ConfigError(f"{name} {count} is not allowed: it must be at least {least}")
    for name, value in (("localisation", localisation), ("beta", beta), ("step_size", step_size)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name} {value} is not allowed: it must be a positive number")
    if beta is None and mean_loss.num_samples < 3:
        raise ConfigError(
            f"beta = 1 / log n_samples needs at least 3 samples, the landscape has {mean_loss.num_samples}; give beta"
        )
