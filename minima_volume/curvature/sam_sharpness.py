"""SAM- and ASAM-sharpness: how far the loss rises within a small ball around the minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.seeding import generator, normals


@dataclass(frozen=True)
class Sharpness:
    """How far the loss rises within a ball.

    Attributes:
        value: the largest loss increase seen, L(theta* + e) - L(theta*), over the steps; a lower bound of the maximum.
        one_step: the increase at the first step, which is SAM's own.
        first_order: rho ||p g||, the maximum of the loss's linearisation.
        rho: radius of the ball.
        adaptive: whether p = |theta*| (ASAM) or 1 (SAM).
        num_steps: ascent steps taken.
        note: said where the gradient vanishes at the minimum, so that SAM's step is undefined; else None.
    """

    value: float
    one_step: float
    first_order: float
    rho: float
    adaptive: bool
    num_steps: int
    note: str | None = None


def sam_sharpness(
    mean_loss: MeanLoss, rho: float = 0.05, *, adaptive: bool = False, num_steps: int = 1, seed: int = 1
) -> Sharpness:
    """max over ||e / p|| <= rho of L(theta* + e) - L(theta*): to first order, or by a few more ascent steps.

    The linearised maximum is at

        e = rho p^2 g / ||p g||,    g the gradient with respect to theta,

    with p = 1 for SAM and p = |theta*|, entry by entry, for ASAM (its eta is 0: entries that are 0 do not move). `num_steps = 1`
    evaluates the loss there, as SAM does. Further steps take the gradient at the last e and project the step in its direction
    onto the ball's surface, e <- rho p^2 g(e) / ||p g(e)||; on a convex loss each rises (the generalised power method).

    Args:
        mean_loss: the loss; its own scaling is not used: the ball is round in theta (SAM) or in theta / |theta*| (ASAM).
        rho: radius; the papers take 0.05 for SAM, 0.5 for ASAM.
        adaptive: ASAM.
        num_steps: ascent steps; 1 is SAM.
        seed: of the start where the gradient is exactly 0 and num_steps > 1.

    Raises:
        ConfigError: rho or num_steps is not allowed, or the loss is not finite at the minimum.

    Sources: Foret et al. 2021, "Sharpness-Aware Minimization"; Kwon et al. 2021, "ASAM"; Journée et al. 2010, "Generalized
    Power Method".
    """
    if not 0 < rho < math.inf:
        raise ConfigError(f"rho {rho} is not allowed: it must be a positive radius")
    if num_steps < 1:
        raise ConfigError(f"num_steps {num_steps} is not allowed: it must be at least 1")
    directions = mean_loss.directions
    theta = torch.cat([tensor.reshape(-1) for tensor in directions.minimum])
    p = theta.abs() if adaptive else torch.ones_like(theta)
    ones = tuple(tensor.new_ones(()) for tensor in directions.minimum)
    plain = replace(mean_loss, directions=replace(directions, factors=ones, scaling="none"))
    start, gradient = plain.gradient()
    norm = _norm(p * gradient)
    if not (math.isfinite(start) and math.isfinite(norm)):
        raise ConfigError(f"the loss at the minimum is {start:g} with a gradient of norm {norm:g}; both must be finite")
    note, increases = None, []
    if norm == 0:
        note = "the gradient vanishes at the minimum: SAM's step is undefined"
        increases.append(0.0)
        gradient = normals(generator(seed, "ascent start"), len(p)).to(p)
    for _ in range(num_steps - len(increases)):
        length = _norm(p * gradient)
        if length == 0:
            break
        step = (rho / length) * p.square() * gradient
        loss, gradient = plain.gradient(step)
        increases.append(loss - start)
        if not math.isfinite(loss):
            break
    finite = [increase for increase in increases if not math.isnan(increase)]
    value = max(finite) if finite else math.nan
    return Sharpness(value, increases[0], rho * norm, rho, adaptive, num_steps, note)


def _norm(vector: torch.Tensor) -> float:
    return float(vector.double().norm())
