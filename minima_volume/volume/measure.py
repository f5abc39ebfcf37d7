"""The front door: the volume of one minimum of a person's own model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minima_volume.config import Coefficients
from minima_volume.errors import ConfigError
from minima_volume.losses import PerSample
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.crossings import Condition, Radii, find_radii
from minima_volume.volume.star import StarVolume, star_volume

MEASURES = ("lebesgue",)


@dataclass(frozen=True)
class VolumeEstimate:
    """The volume of one minimum, with everything needed to judge and to recompute it.

    Attributes:
        log_volume: log of the Lebesgue volume of the star region in parameter space; None where undefined (see `note`).
        log_exp_r_n: log mean r^n, the published number; None likewise.
        effective_sample_size, largest_share: how many directions the mean rests on; share of the largest.
        num_censored: directions that never crossed; the volume is then a lower bound.
        verdict: how far to trust it, in words.
        radii: (D,) c * ||xi||, lower bounds where `censored`.
        coefficients, censored, reentered, seeds: (D,) per direction.
        start_loss: loss (or accuracy, with an accuracy threshold) at the minimum itself.
        num_params: n, the perturbed entries; `num_zero` more have scaling 0 and are left out.
        left_out: parameters that were not perturbed.
        note: why values are None, or None.
    """

    log_volume: float | None
    log_exp_r_n: float | None
    effective_sample_size: float | None
    largest_share: float | None
    num_censored: int
    verdict: str
    radii: np.ndarray = field(repr=False)
    coefficients: np.ndarray = field(repr=False)
    censored: np.ndarray = field(repr=False)
    reentered: np.ndarray = field(repr=False)
    seeds: np.ndarray = field(repr=False)
    start_loss: float
    num_params: int
    num_zero: int
    left_out: tuple[str, ...]
    note: str | None


def measure_volume(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: str | PerSample = "cross_entropy",
    *,
    threshold: float | None = None,
    accuracy_threshold: float | None = None,
    measure: str = "lebesgue",
    num_directions: int = 500,
    seed: int = 1,
    scaling: str = "filter",
    names: str | Sequence[str] = "weight_bias",
    coefficients: Sequence[float] | None = None,
    max_coefficient: float = 16.0,
    tolerance: float | None = None,
    device: str | torch.device | None = None,
    memory_gib: float = 2.0,
    progress: bool = True,
) -> VolumeEstimate:
    """Measure how large a minimum is: random directions are followed until the loss passes a threshold.

    Args:
        model: a trained model; it comes back unchanged.
        x: (N, ...) inputs, one landscape.
        y: (N, ...) targets.
        loss: `cross_entropy`, `bce_with_logits`, `mse` (mean over outputs), or a callable (outputs, targets) -> (N,) losses.
        threshold: the loss that ends the minimum.
        accuracy_threshold: instead of a loss: the fraction of samples that must stay right.
        measure: `lebesgue`, the volume of the star region.
        num_directions: D, directions with seeds seed .. seed + D - 1.
        seed: of the first direction.
        scaling: `filter`, `none`, `layer` or `tensor_std`.
        names: `weight_bias`, `all`, or a list of parameter names.
        coefficients: (C,) grid on which crossings are bracketed, increasing from 0; 34 quadratic steps to 1 by default.
        max_coefficient: past the grid the search doubles up to here.
        tolerance: relative, of the radius; min(1e-4, 0.003 / n) by default, in float32 at least 2e-6.
        device: where to compute; the model's by default.
        memory_gib: memory budget.
        progress: show a progress bar.

    Returns:
        The estimate with its diagnostics.

    Parameters with requires_grad=False are perturbed like all others; leave them out with `names`.

    Raises:
        ConfigError: an argument is not allowed.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(64, 3), nn.Linear(3, 1, bias=False)
    >>> estimate = measure_volume(model, x, model(x).detach(), "mse", threshold=0.1, num_directions=2000, progress=False)
    >>> hessian = 2 * x.T @ x / 64
    >>> exact = np.log(4 / 3 * np.pi) + 1.5 * np.log(2 * 0.1) - 0.5 * torch.logdet(hessian).item()
    >>> bool(abs(estimate.log_volume - exact) < 0.1)
    True
    """
    _check(threshold, accuracy_threshold, measure, num_directions)
    grid = Coefficients().values() if coefficients is None else np.asarray(coefficients, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] != 0 or not bool((np.diff(grid) > 0).all()):
        raise ConfigError("coefficients must increase from 0 and be at least two")
    if max_coefficient < grid[-1]:
        raise ConfigError(f"max_coefficient {max_coefficient} must be at least the last coefficient {grid[-1]}")
    target = next(model.parameters()).device if device is None else torch.device(device)
    on_device = model if target == next(model.parameters()).device else _copy_to(model, target)
    engine = LossEngine(
        on_device, x.to(target), y.to(target), loss, scaling=scaling, names=names, memory_gib=memory_gib
    )
    engine.check(seed)
    if threshold is not None:
        condition = Condition("loss", threshold)
    else:
        assert accuracy_threshold is not None
        condition = Condition("accuracy", accuracy_threshold)
        if np.isnan(engine.start.accuracy).any():
            raise ConfigError(
                f"accuracy_threshold means nothing with loss {engine.loss.name!r} on these targets; give a loss threshold"
            )
    ceiling = threshold if threshold is not None else float(engine.start.loss[0, 0])
    with tqdm(total=2 * num_directions, unit="direction", disable=not progress) as bar:
        bar.set_description("walking")
        curves = trace_curves(engine, range(seed, seed + num_directions), grid, ceiling, bar.update)
        bar.set_description("refining")
        size = engine.sizes[0]
        found, _ = find_radii(
            engine,
            curves,
            [size],
            [condition],
            max_coefficient=max_coefficient,
            tolerance=tolerance,
            on_done=bar.update,
        )
    radii = found[size, condition]
    return _estimate(engine, radii, star_volume(radii, engine.directions.num_params, engine.directions.log_det))


def _check(threshold: float | None, accuracy_threshold: float | None, measure: str, num_directions: int) -> None:
    if measure not in MEASURES:
        raise ConfigError(f"measure {measure!r} is not known; allowed: {', '.join(MEASURES)}")
    if (threshold is None) == (accuracy_threshold is None):
        raise ConfigError("give either threshold (a loss) or accuracy_threshold (a fraction), not both or none")
    if threshold is not None and not 0 < threshold < np.inf:
        raise ConfigError(f"threshold {threshold} is not allowed: it must be a positive loss")
    if accuracy_threshold is not None and not 0 < accuracy_threshold <= 1:
        raise ConfigError(f"accuracy_threshold {accuracy_threshold} is not allowed: it must be above 0 and at most 1")
    if num_directions < 1:
        raise ConfigError(f"num_directions {num_directions} is not allowed: it must be at least 1")


def _copy_to(model: nn.Module, device: torch.device) -> nn.Module:
    import copy

    return copy.deepcopy(model).to(device)


def _estimate(engine: LossEngine, radii: Radii, volume: StarVolume) -> VolumeEstimate:
    directions = engine.directions
    return VolumeEstimate(
        log_volume=volume.log_volume,
        log_exp_r_n=volume.log_exp_r_n,
        effective_sample_size=volume.effective_sample_size,
        largest_share=volume.largest_share,
        num_censored=volume.num_censored,
        verdict=volume.verdict,
        radii=radii.radius,
        coefficients=radii.coefficient,
        censored=radii.censored,
        reentered=radii.reentered,
        seeds=radii.seeds,
        start_loss=radii.start,
        num_params=directions.num_params,
        num_zero=directions.num_zero,
        left_out=directions.left_out,
        note=volume.note,
    )
