"""The volume of the star region around a minimum, from the radii of random directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm.auto import tqdm

from minima_volume.errors import UnboundedError
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine
from minima_volume.result import limits, number
from minima_volume.volume.condition import Condition
from minima_volume.volume.context import Context, Estimate
from minima_volume.volume.star.importance import DAMPINGS, NUM_PILOTS, Damped, choose_damping
from minima_volume.volume.star.preconditioner import PreconditionedDirections, Preconditioner, lengths
from minima_volume.volume.star.radii import Radii, find_radii
from minima_volume.volume.star.settings import Rays
from minima_volume.volume.star.uncertainty import log_mean
from minima_volume.volume.star.volume import StarVolume, star_volume


@dataclass(frozen=True)
class VolumeEstimate(Estimate):
    """The volume of one minimum, with everything needed to judge and to recompute it.

    It can be compared (`mv.compare`), tabled (`mv.table`), drawn (`plot`), saved (`save`) and loaded (`mv.load`).

    Attributes:
        measure: `lebesgue`, or `ball` where radii are capped.
        estimator: `monte_carlo` or `importance`.
        log_volume: log of the Lebesgue volume of the (capped) star region in parameter space; None if undefined (see `note`).
        log_exp_r_n: log mean r^n, the published number; None likewise. With importance sampling r is the whitened radius and half
            log det P is in log_volume, not here.
        interval: 95 %, of log_volume; the upper limit is None if the effective sample size does not allow one. It is of which directions
            were drawn: the radii's tolerance, up to n times as much, comes on top (0.003 at most in float64; see `default_tolerance`).
        effective_sample_size, largest_share: how many directions the mean rests on; share of the largest.
        num_censored: directions that never crossed; the volume then has no upper limit. Always 0 here: `lebesgue` raises, `ball` caps.
        num_capped: directions that end at the ball's radius max_coefficient * sqrt(n); 0 with `lebesgue`.
        preconditioner: P of the directions, with its damping (relative to the mean curvature) and the pilot directions on which
            that was chosen; None without importance sampling.
        verdict: how far to trust it, in words.
        radii: (D,) c * ||xi||; with importance sampling whitened, c * ||w|| for xi = L w, P = L L'.
        coefficients, censored, reentered, seeds: (D,) per direction.
        start_loss: loss (or accuracy, with an accuracy threshold) at the minimum itself.
        num_params: n, the perturbed entries; `num_zero` more have scaling 0 and are left out.
        left_out: parameters that were not perturbed.
        note: why values are None, or None.
        context: threshold, loss, samples and settings.
    """

    measure: str
    estimator: str
    log_volume: float | None
    log_exp_r_n: float | None
    interval: tuple[float, float | None] | None
    effective_sample_size: float | None
    largest_share: float | None
    num_censored: int
    num_capped: int
    preconditioner: Preconditioner | None
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
    context: Context

    @property
    def star(self) -> StarVolume:
        """The same as comparisons take it."""
        counts = len(self.radii), self.num_censored, int(self.reentered.sum())
        if self.log_volume is None or self.log_exp_r_n is None:
            return StarVolume(None, None, None, None, *counts, self.note)
        logs = self.num_params * np.log(self.radii.astype(np.float64))
        numbers = self.log_exp_r_n, self.log_volume, self.effective_sample_size, self.largest_share
        found = log_mean(logs, num_censored=self.num_censored)
        return StarVolume(*numbers, *counts, estimate=found, num_params=self.num_params, logs=logs, seeds=self.seeds)

    def __str__(self) -> str:
        return f"log volume {number(self.log_volume)} ({self.measure}), {self.context.where}; {self.verdict}"

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        context = self.context
        return [
            ("log volume", number(self.log_volume)),
            ("95 % interval", limits(self.interval)),
            ("measure", f"{self.measure}, {self.estimator}, {len(self.radii):,} directions"),
            ("threshold", f"{context.where}; {number(self.start_loss)} at the minimum"),
            ("landscape", f"{context.landscape}, {context.loss}"),
            ("parameters", f"{self.num_params:,}"),
            ("verdict", self.verdict),
        ]


def measure_rays(
    engine: LossEngine,
    condition: Condition,
    how: Rays,
    context: Context,
    preconditioner: Preconditioner | Damped | None = None,
    progress: bool = True,
) -> VolumeEstimate:
    """Follow random directions until the loss passes the threshold, and turn the radii into a volume.

    Args:
        engine: the model and its one landscape.
        condition: the threshold.
        how: the measure and everything else that decides the number.
        context: what the result says about all this.
        preconditioner: of the directions: ready, or still to be damped (see `importance`); None for plain directions.
        progress: show a progress bar.

    Raises:
        UnboundedError: `lebesgue`, and some direction never crosses the threshold.
    """
    directions, seed, count = engine.directions, how.seed, how.num_directions
    pilots = NUM_PILOTS * len(DAMPINGS) if callable(preconditioner) else 0
    with tqdm(total=2 * (count + pilots), unit="direction", disable=not progress) as bar:

        def follow(along: Directions, seeds: Sequence[int], ball: bool) -> tuple[Radii, int]:
            return _follow(engine.along(along), condition, seeds, how, ball, bar.update)

        if callable(preconditioner):
            bar.set_description("choosing the damping")
            # pilots are capped whatever the measure, so that every damping gets its score
            preconditioner = choose_damping(
                directions, preconditioner, lambda along, seeds: follow(along, seeds, True)[0].radius, seed
            )
        if preconditioner is not None:
            directions = PreconditionedDirections.around(directions, preconditioner)
        bar.set_description("following directions")
        radii, capped = follow(directions, range(seed, seed + count), how.measure == "ball")
    if directions.num_params and radii.censored.any():
        raise UnboundedError(
            f"{int(radii.censored.sum())} of {count} directions never cross the threshold up to max_coefficient "
            f"{how.max_coefficient:g}: the star region has no finite Lebesgue volume that rays could tell. Take measure='ball' (radii "
            "capped at max_coefficient * sqrt(n)), or a larger max_coefficient"
        )
    return _estimate(directions, radii, how.measure, capped, context)


def _follow(
    engine: LossEngine,
    condition: Condition,
    seeds: Sequence[int],
    how: Rays,
    ball: bool,
    on_done: Callable[[int], None],
) -> tuple[Radii, int]:
    """Radii of some directions; with `ball` capped at max_coefficient * sqrt(n), and how many were."""
    size, n = engine.sizes[0], engine.directions.num_params
    ceiling = condition.threshold if condition.kind == "loss" else float(engine.start.loss[0, 0])
    curves = trace_curves(engine, seeds, how.grid, ceiling, on_done)
    limit: float | np.ndarray = how.max_coefficient
    if ball and n:
        # coefficient and radius differ by the length of the direction, which is not that of w with a preconditioner
        limit = how.max_coefficient * math.sqrt(n) / np.array(lengths(engine.directions, seeds))
    found, _ = find_radii(
        engine, curves, [size], [condition], max_coefficient=limit, tolerance=how.tolerance, on_done=on_done
    )
    radii = found[size, condition]
    if not ball or radii.outside:
        return radii, 0
    capped = radii.censored | (radii.coefficient >= limit)
    coefficient = np.where(capped, limit, radii.coefficient)
    inside = replace(
        radii, coefficient=coefficient, radius=coefficient * curves.norms, censored=np.zeros_like(radii.censored)
    )
    return inside, int(capped.sum())


def measurable(engine: LossEngine, condition: Condition) -> bool:
    """Whether some parameter moves, and the minimum itself is inside."""
    inside = condition.inside(engine.start.loss, engine.start.accuracy, engine.sizes[0] * engine.answers)
    return engine.directions.num_params > 0 and bool(inside.all())


def _estimate(directions: Directions, radii: Radii, measure: str, num_capped: int, context: Context) -> VolumeEstimate:
    volume = replace(star_volume(radii, directions.num_params, directions.log_det), still=directions.note)
    preconditioner = directions.preconditioner if isinstance(directions, PreconditionedDirections) else None
    capped = f"; {num_capped} of {len(radii.radius)} directions end at the ball's radius" if num_capped else ""
    return VolumeEstimate(
        measure=measure,
        estimator="monte_carlo" if preconditioner is None else "importance",
        log_volume=volume.log_volume,
        log_exp_r_n=volume.log_exp_r_n,
        interval=volume.log_volume_interval,
        effective_sample_size=volume.effective_sample_size,
        largest_share=volume.largest_share,
        num_censored=volume.num_censored,
        num_capped=num_capped,
        preconditioner=preconditioner,
        verdict=volume.verdict + capped,
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
        context=context,
    )
