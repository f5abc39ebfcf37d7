"""The volume of the star region around a minimum, from the radii of random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm.auto import tqdm

from minima_volume.config import Coefficients
from minima_volume.errors import ConfigError
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.volume.crossings import Condition, Radii, find_radii
from minima_volume.volume.star import StarVolume, star_volume


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


def measure_rays(
    engine: LossEngine,
    condition: Condition,
    *,
    num_directions: int = 500,
    seed: int = 1,
    coefficients: Sequence[float] | None = None,
    max_coefficient: float = 16.0,
    tolerance: float | None = None,
    progress: bool = True,
) -> VolumeEstimate:
    """Follow random directions until the loss passes the threshold, and turn the radii into a volume.

    Args:
        engine: the model and its one landscape.
        condition: the threshold.
        num_directions, seed, coefficients, max_coefficient, tolerance, progress: see `measure.measure_volume`.

    Raises:
        ConfigError: an argument is not allowed.
    """
    grid = _grid(coefficients, max_coefficient)
    if num_directions < 1:
        raise ConfigError(f"num_directions {num_directions} is not allowed: it must be at least 1")
    ceiling = condition.threshold if condition.kind == "loss" else float(engine.start.loss[0, 0])
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


def _grid(coefficients: Sequence[float] | None, max_coefficient: float) -> np.ndarray:
    grid = Coefficients().values() if coefficients is None else np.asarray(coefficients, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2 or grid[0] != 0 or not bool((np.diff(grid) > 0).all()):
        raise ConfigError("coefficients must increase from 0 and be at least two")
    if max_coefficient < grid[-1]:
        raise ConfigError(f"max_coefficient {max_coefficient} must be at least the last coefficient {grid[-1]}")
    return grid


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
