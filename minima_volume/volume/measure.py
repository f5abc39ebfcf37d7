"""The front door: the volume of one minimum of a person's own model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from minima_volume.curvature.hessian import MeanLoss
from minima_volume.errors import ConfigError
from minima_volume.isolation import isolated
from minima_volume.losses.loss import LossLike
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.given import prepare
from minima_volume.samples import Samples
from minima_volume.training.second_moments import adam_second_moments
from minima_volume.volume.condition import condition_of
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile, measure_local
from minima_volume.volume.gaussian.mass import noted
from minima_volume.volume.gaussian.plan import METHODS, MassSettings
from minima_volume.volume.gaussian.splitting import Splitting
from minima_volume.volume.star.estimate import VolumeEstimate, measurable, measure_rays
from minima_volume.volume.star.importance import Damped, damped_preconditioner, default_preconditioner
from minima_volume.volume.star.preconditioner import Preconditioner
from minima_volume.volume.trivial import plateau_note

# what estimates each measure; the first is the default
MEASURES = {
    "gaussian": METHODS,
    "lebesgue": ("monte_carlo", "importance"),
    "ball": ("monte_carlo", "importance"),
}


@isolated
def measure_volume(
    model: nn.Module,
    x: Samples | DataLoader[Any] | Dataset[Any],
    y: Any = None,
    loss: LossLike = "cross_entropy",
    *,
    threshold: float | None = None,
    accuracy_threshold: float | None = None,
    measure: str = "gaussian",
    estimator: str | None = None,
    sigma: float | Sequence[float] | None = None,
    num_particles: int = 250,
    num_repeats: int = 8,
    num_moves: int = 20,
    precision: float = 0.3,
    num_directions: int = 500,
    seed: int = 1,
    scaling: str = "filter",
    names: str | Sequence[str] = "weight_bias",
    class_axis: int | None = None,
    coefficients: Sequence[float] | None = None,
    max_coefficient: float = 16.0,
    tolerance: float | None = None,
    preconditioner: str | Preconditioner | None = None,
    damping: float | None = None,
    second_moments: Mapping[str, Tensor] | torch.optim.Optimizer | None = None,
    device: str | torch.device | None = None,
    memory_gib: float = 2.0,
    progress: bool = True,
) -> LocalVolume | VolumeProfile | VolumeEstimate:
    """Measure how large a minimum is.

    By default the Gaussian local volume, log_mass(sigma) = log P[L(theta* + sigma F z) <= threshold], z standard normal: how
    likely a random perturbation of size sigma leaves the model a minimum. With `lebesgue` or `ball` the published-style volume
    of the star region, from random directions that are followed until the loss passes the threshold.

    Args:
        model: a trained model; it comes back unchanged.
        x: (N, ...) inputs, one landscape; a tuple of tensors if the model takes several inputs, a dictionary if it takes them by name;
            or a DataLoader or Dataset of pairs (inputs, targets), which is read once and held in memory.
        y: (N, ...) targets; left out with a DataLoader or Dataset.
        loss: `cross_entropy`, `bce_with_logits`, `mse` (mean over outputs), or a callable (outputs, targets) -> (N,) losses,
            or one loss of all samples. The callable gets the outputs as the model returns them: a tensor, a tuple, a dictionary.
        threshold: the loss that ends the minimum.
        accuracy_threshold: instead of a loss: the fraction of samples that must stay right.
        measure: `gaussian`; `lebesgue`, the volume of the star region, an error where that is unbounded; `ball`, of its part within
            max_coefficient * sqrt(n) of the minimum, in units of the scaling.
        estimator: of `gaussian`: `auto`, the default (`monte_carlo` where the probability allows, else `splitting`), or one of
            these. Of the others: `monte_carlo`, the default: isotropic directions; `importance`: directions that reach further where the loss
            is flat, which need far fewer (see `preconditioner`).
        sigma: of `gaussian`, required there: size of the perturbation in units of the scaling, a number, or several for a profile.
        num_particles, num_repeats, num_moves: of splitting: particles of a repeat, independent repeats, moves between stages.
        precision: of `gaussian`: half-width of the interval, nats, that more repeats are spent on (3 % of log_mass where more).
        num_directions: of the others: D, directions with seeds seed .. seed + D - 1.
        seed: of all that is drawn, or of the first direction.
        scaling: `filter`, `none`, `layer` or `tensor_std`.
        names: `weight_bias` (names that end in weight or bias, or begin with weight_ or bias_), `all`, or a list of names of parameters
            or modules, or globs; see `perturbation.names`. The verdict says what is left out.
        class_axis: of `cross_entropy`: the axis of the outputs that counts classes. By default axis 1, as PyTorch has it, (N, C) or
            (N, C, d1, ...), and the last where only that fits the labels; what was taken is said where both fit.
        coefficients: (C,) grid on which crossings are bracketed, increasing from 0; 34 quadratic steps to 1 by default.
        max_coefficient: past the grid the search doubles up to here; sets the radius of `ball`.
        tolerance: relative, of the radius; min(1e-4, 0.003 / n) by default, in float32 at least 2e-6.
        preconditioner: of `importance`: `adam` (Adam's second moments, free), `diagonal` (of the Gauss-Newton matrix), `low_rank` (20
            eigenpairs of the Hessian and that diagonal), `full` (the whole Hessian, n up to 5,000), or your own; by default `full` for n
            up to 500, `low_rank` above.
        damping: added to the curvature, relative to its mean; chosen on pilot directions by default.
        second_moments: for `adam`: the optimiser, or parameter name -> its `exp_avg_sq`.
        device: where to compute; the model's by default.
        memory_gib: memory budget.
        progress: show a progress bar.

    Returns:
        The estimate with its diagnostics: a LocalVolume, or a VolumeProfile where there are several sigmas; of `lebesgue` and `ball` a
        VolumeEstimate.

    The model is measured in evaluation mode (no dropout, running statistics of BatchNorm). What the caller has set makes
    no difference: gradients off, inference mode, autocast, torch's default type and device. Parameters with
    requires_grad=False are perturbed like all others; leave them out with `names`. A few forward passes first make sure that the
    model's outputs are a function of its parameters and inputs (see `hosts.doors`): what forward keeps between passes is put back
    before each, and a model that mixes the samples of a batch gets each landscape as one batch.

    Raises:
        ConfigError: an argument is not allowed, or the model cannot be measured rightly (its outputs are random, for example).
        UnboundedError: `lebesgue`, and some direction never crosses the threshold.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(64, 3), nn.Linear(3, 1, bias=False)
    >>> y = model(x).detach()
    >>> measure_volume(model, x, y, "mse", threshold=0.1, sigma=0.1, progress=False).log_mass
    0.0
    >>> estimate = measure_volume(model, x, y, "mse", threshold=0.1, measure="ball", num_directions=2000, progress=False)
    >>> hessian = 2 * x.T @ x / 64
    >>> exact = np.log(4 / 3 * np.pi) + 1.5 * np.log(2 * 0.1) - 0.5 * torch.logdet(hessian).item()
    >>> bool(abs(estimate.log_volume - exact) < 0.1)
    True
    """
    estimator = _estimator(measure, estimator, preconditioner, sigma)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ConfigError(f"seed {seed!r} is not allowed: it must be a whole number of at least 0")
    if not memory_gib > 0:
        raise ConfigError(f"memory_gib {memory_gib} is not allowed: it must be positive")
    condition = condition_of(threshold, accuracy_threshold)
    host, x, y, read = prepare(model, x, y, names, device)
    if isinstance(second_moments, torch.optim.Optimizer):
        second_moments = adam_second_moments(model, second_moments)
    with host.borrowed():
        engine = LossEngine(
            host, x, y, loss, scaling=scaling, names=names, class_axis=class_axis, memory_gib=memory_gib
        )
        if condition.kind == "accuracy" and np.isnan(engine.start.accuracy).any():
            raise ConfigError(
                f"accuracy is undefined for loss {engine.loss.name!r} on these targets; give a loss threshold, not accuracy_threshold"
            )
        engine.check(seed)
        notes = "; ".join(filter(None, (*engine.notes, read, plateau_note(engine.loss, engine.y, condition))))
        # the one place where measures part
        if measure == "gaussian":
            assert sigma is not None
            how = Splitting(num_particles=num_particles, num_moves=num_moves, memory=memory_gib * 2**30)
            settings = MassSettings(estimator, num_repeats, precision, how)
            local = measure_local(engine, condition, sigma, seed, settings, progress)
            if isinstance(local, VolumeProfile):
                return replace(local, volumes=tuple(noted(volume, notes) for volume in local.volumes))
            return noted(local, notes)
        chosen: Preconditioner | Damped | None = None
        if estimator == "importance" and measurable(engine, condition):
            mean_loss = MeanLoss.of(host, x, y, loss, scaling=scaling, names=names, class_axis=class_axis)
            chosen = _preconditioner(mean_loss, preconditioner, damping, second_moments, seed)
        estimate = measure_rays(
            engine,
            condition,
            measure=measure,
            preconditioner=chosen,
            num_directions=num_directions,
            seed=seed,
            coefficients=coefficients,
            max_coefficient=max_coefficient,
            tolerance=tolerance,
            progress=progress,
        )
    return replace(estimate, verdict=f"{estimate.verdict}; {notes}") if notes else estimate


def _estimator(
    measure: str,
    estimator: str | None,
    preconditioner: str | Preconditioner | None,
    sigma: float | Sequence[float] | None,
) -> str:
    if measure not in MEASURES:
        raise ConfigError(f"measure {measure!r} is not known; allowed: {', '.join(MEASURES)}")
    if (measure == "gaussian") != (sigma is not None):
        raise ConfigError(
            "measure 'gaussian' needs sigma, the size of the perturbation, e.g. sigma=0.07; the published-style star region is "
            "measure='lebesgue'"
            if sigma is None
            else f"sigma {sigma} has no use with measure {measure!r}; leave it out"
        )
    allowed = MEASURES[measure]
    if estimator is None:
        estimator = "importance" if preconditioner is not None else allowed[0]
    if estimator not in allowed:
        raise ConfigError(
            f"estimator {estimator!r} does not estimate measure {measure!r}; allowed: {', '.join(allowed)}"
        )
    if preconditioner is not None and estimator != "importance":
        raise ConfigError(
            f"preconditioner {preconditioner!r} has no use with estimator {estimator!r}; take 'importance'"
        )
    return estimator


def _preconditioner(
    mean_loss: MeanLoss,
    preconditioner: str | Preconditioner | None,
    damping: float | None,
    second_moments: Mapping[str, Tensor] | None,
    seed: int,
) -> Preconditioner | Damped:
    """What was asked for: ready, or still to be damped."""
    if isinstance(preconditioner, Preconditioner):
        return preconditioner
    name = preconditioner or default_preconditioner(mean_loss.directions.num_params)
    damped = damped_preconditioner(name, mean_loss, second_moments, seed=seed)
    if damping is None:
        return damped
    if not 0 <= damping < np.inf:
        raise ConfigError(f"damping {damping} is not allowed: it must be at least 0, relative to the mean curvature")
    ready = damped(damping)
    if ready is None:
        raise ConfigError(f"damping {damping:g} is too small: the curvature is 0 in some direction; leave damping out")
    return ready
