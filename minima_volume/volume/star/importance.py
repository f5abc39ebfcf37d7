"""Importance sampling of rays: directions drawn from a preconditioner, its damping chosen on pilot directions.

With xi = L w, w standard normal and P = L L', the region in coordinates w has the volume V_n E[r_w^n], r_w = c ||w||, since
w / ||w|| is uniform on the sphere; theta = theta* + F L w multiplies volumes by prod_j F_j |det L| = prod_j F_j (det P)^1/2.
So half log det P is all that importance sampling adds: no direction carries a weight, whatever P is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from minima_volume.arguments import SEEDS
from minima_volume.curvature.diagonal import gauss_newton_diagonal
from minima_volume.curvature.hessian import MeanLoss
from minima_volume.curvature.spectrum import top_eigenvalues
from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import Directions
from minima_volume.volume.star.preconditioner import (
    PreconditionedDirections,
    Preconditioner,
    diagonal,
    full,
    low_rank,
)

PRECONDITIONERS = ("adam", "diagonal", "low_rank", "full")
DAMPINGS = (1e-10, *(10.0**power for power in range(-5, 4)))  # relative to the mean curvature
NUM_PILOTS = 32
PILOT_SEED = SEEDS // 2  # pilots of smaller seeds begin here, those of larger ones at 0
STANDARD_ERRORS = 3.0
RANK = 20
FULL_LIMIT = 5000
FULL_DEFAULT = (
    500  # parameters: up to here the whole Hessian takes a second or two, and is exact where the loss is quadratic
)

Damped = Callable[[float], Preconditioner | None]
Follow = Callable[[Directions, Sequence[int]], np.ndarray]


def default_preconditioner(n: int) -> str:
    """What is taken for n parameters where nothing else is asked for.

    >>> default_preconditioner(500), default_preconditioner(501)
    ('full', 'low_rank')
    """
    return "full" if n <= FULL_DEFAULT else "low_rank"


def damped_preconditioner(
    name: str,
    mean_loss: MeanLoss,
    second_moments: Mapping[str, Tensor] | None = None,
    *,
    rank: int = RANK,
    seed: int = 1,
) -> Damped:
    """Measure the curvature of the loss at the minimum once, and hand back what makes a preconditioner of it.

    Args:
        name: `adam`: sqrt(v) of Adam's second moments, as Adam itself takes them; `diagonal`: the Gauss-Newton diagonal;
            `low_rank`: the largest eigenpairs of the Hessian, and that diagonal for the rest; `full`: the whole Hessian.
        mean_loss: the loss, in the scaled coordinates z.
        second_moments: parameter name -> Adam's `exp_avg_sq`, for `adam`.
        rank: eigenpairs of `low_rank`.
        seed: of random signs and of Lanczos' start.

    Returns:
        damping -> preconditioner, or None if that damping leaves it singular.

    Raises:
        ConfigError: no such preconditioner, too many parameters for it, second moments that do not fit, or no curvature.
    """
    kept = mean_loss.directions.moving
    n = int(kept.sum())
    if name == "adam":
        h = _from_adam(mean_loss.directions, second_moments)[kept]
        return lambda damping: diagonal(_curved(h, name), damping, name)
    if name == "diagonal":
        h = _curved(gauss_newton_diagonal(mean_loss, seed=seed)[kept], name)
        return lambda damping: diagonal(h, damping)
    if name == "low_rank":
        h = _curved(gauss_newton_diagonal(mean_loss, seed=seed)[kept], name)
        spectrum = top_eigenvalues(mean_loss, min(rank, n), seed=seed)
        positive = spectrum.eigenvalues > 1e-9 * np.abs(spectrum.eigenvalues).max(initial=0.0)
        values = torch.from_numpy(spectrum.eigenvalues[positive].copy())
        vectors = torch.from_numpy(spectrum.vectors[:, positive].copy())[kept]
        return lambda damping: low_rank(values, vectors, h, damping)
    if name == "full":
        if n > FULL_LIMIT:
            raise ConfigError(
                f"preconditioner 'full' takes at most {FULL_LIMIT:,} parameters, the model has {n:,}; take 'low_rank'"
            )
        values, vectors = torch.linalg.eigh(_hessian(mean_loss, kept))
        _curved(values.abs(), name)
        return lambda damping: full(values, vectors, damping)
    raise ConfigError(f"preconditioner {name!r} is not known; allowed: {', '.join(PRECONDITIONERS)}")


def choose_damping(directions: Directions, damped: Damped, follow: Follow, seed: int) -> Preconditioner:
    """The damping with the highest estimate on pilot directions, after three standard errors are taken off.

    Whatever P, the estimate log mean r^n + 1/2 log det P has the same limit, and stays below it for want of directions, the further the
    worse P is. Near the limit the standard error sqrt(1 / ESS - 1 / D) decides: it is 0 where all rays agree. The pilots'
    seeds are disjoint from those of the directions that are evaluated later, so the choice does not bias the estimate.

    Args:
        directions: the plain ones.
        damped: damping -> preconditioner.
        follow: (directions, seeds) -> (D,) whitened radii.
        seed: of the first direction that is evaluated later; each has pilots of its own.

    Raises:
        ConfigError: no damping gives a preconditioner and finite radii.
    """
    best: tuple[float, Preconditioner] | None = None
    first = PILOT_SEED if seed < PILOT_SEED else 0
    pilots = [first + (NUM_PILOTS * seed + i) % PILOT_SEED for i in range(NUM_PILOTS)]
    for damping in DAMPINGS:
        if (preconditioner := damped(damping)) is None:
            continue
        radii = follow(PreconditionedDirections.around(directions, preconditioner), pilots)
        if not bool((np.isfinite(radii) & (radii > 0)).all()):
            continue
        logs = directions.num_params * np.log(radii)
        weights = np.exp(logs - logs.max())
        error = math.sqrt(max(0.0, float((weights**2).sum() / weights.sum() ** 2) - 1 / NUM_PILOTS))
        score = float(logs.max()) + math.log(weights.mean()) + preconditioner.log_det / 2 - STANDARD_ERRORS * error
        if best is None or score > best[0]:
            best = score, replace(preconditioner, num_pilots=NUM_PILOTS)
    if best is None:
        raise ConfigError(
            f"no damping from {DAMPINGS[0]:g} to {DAMPINGS[-1]:g} gives a preconditioner with finite radii; "
            "take another one, or estimator='monte_carlo'"
        )
    return best[1]


def _hessian(mean_loss: MeanLoss, kept: Tensor) -> Tensor:
    """The Hessian (n, n) over the entries that move, float64 on the CPU."""
    columns = torch.cat(
        [
            mean_loss.hessian_product(part.to(mean_loss.zeros())).double().cpu()[:, kept]
            for part in torch.eye(mean_loss.num_entries, dtype=torch.float32, device="cpu")[kept].split(64)
        ]
    )
    return (columns + columns.T) / 2


def _from_adam(directions: Directions, second_moments: Mapping[str, Tensor] | None) -> Tensor:
    """F sqrt(v) F, (N,) float64."""
    if second_moments is None:
        raise ConfigError(
            "preconditioner 'adam' needs second_moments: the optimiser, or its exp_avg_sq by parameter name "
            "(`records[level]['exp_avg_sq']` of load_models_and_data)"
        )
    parts = []
    for name, tensor, factor in zip(directions.names, directions.minimum, directions.factors, strict=True):
        v = second_moments.get(name)
        if v is None or v.shape != tensor.shape:
            raise ConfigError(
                f"second_moments: parameter {name!r} needs a tensor of shape {tuple(tensor.shape)}, "
                f"got {'none' if v is None else tuple(v.shape)}"
            )
        if not bool((v.isfinite() & (v >= 0)).all()):
            raise ConfigError(f"second_moments: those of parameter {name!r} must be finite and at least 0")
        parts.append((v.to(tensor.device).double().sqrt() * factor.double().square()).reshape(-1).cpu())
    return torch.cat(parts)


def _curved(h: Tensor, name: str) -> Tensor:
    """h where it is finite and not all 0."""
    if not bool(h.isfinite().all()) or not bool((h > 0).any()):
        raise ConfigError(
            f"preconditioner {name!r}: the curvature is {'0' if bool(h.isfinite().all()) else 'not finite'} at this minimum"
        )
    return h
