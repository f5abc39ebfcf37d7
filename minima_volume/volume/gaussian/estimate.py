"""The front door's Gaussian local volume: one minimum of a person's own model, at one sigma or a profile of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minima_volume.execution.meter import Meter
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass, noted
from minima_volume.volume.gaussian.plan import OnProgress, gaussian_mass
from minima_volume.volume.gaussian.settings import Gaussian


@dataclass(frozen=True)
class LocalVolume(GaussianMass):
    """A Gaussian local volume with what it was measured on; see `GaussianMass` for the estimate itself.

    Attributes:
        sigma: size of the perturbation, in units of `scaling`.
        start_loss: loss (or accuracy, with an accuracy threshold) at the minimum itself.
        num_params: n, the perturbed entries; `num_zero` more have scaling 0.
        left_out: parameters that were not perturbed.
    """

    sigma: float = 0.0
    scaling: str = "filter"
    start_loss: float = 0.0
    num_params: int = 0
    num_zero: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeProfile:
    """Gaussian local volumes of one minimum at several sigmas.

    Attributes:
        sigmas: (S,) as given.
        volumes: one each.
    """

    sigmas: tuple[float, ...]
    volumes: tuple[LocalVolume, ...]

    @property
    def log_mass(self) -> np.ndarray:
        """(S,) log masses; NaN where undefined or only bounded."""
        return np.array([np.nan if v.log_mass is None else v.log_mass for v in self.volumes])

    @property
    def interval(self) -> np.ndarray:
        """(S, 2) limits of the 95 % intervals; NaN where nothing bounds that side."""
        return np.array([[np.nan if limit is None else limit for limit in v.interval] for v in self.volumes])

    @property
    def verdict(self) -> str:
        """One line per sigma."""
        return "\n".join(f"sigma {s:g}: {v.verdict}" for s, v in zip(self.sigmas, self.volumes, strict=True))


def measure_local(
    engine: LossEngine, condition: Condition, how: Gaussian, notes: str = "", progress: bool = True
) -> LocalVolume | VolumeProfile:
    """log P[still inside after theta* + sigma F z] at one sigma, or at each of several.

    Args:
        engine: the model and its one landscape.
        condition: the threshold.
        how: sigma and everything else that decides the number.
        notes: what a reader must know about the model or the threshold.
        progress: show a progress bar.

    Raises:
        ConfigError: a sigma is not a positive number of the model's type.
    """
    for value in how.sigmas:
        Particles(engine, value)  # refuse a bad one before any is measured
    with Meter(len(how.sigmas), progress) as meter:
        volumes = tuple(
            noted(_one(engine, condition, sigma, how, _part(meter, i, how)), notes)
            for i, sigma in enumerate(how.sigmas)
        )
    return volumes[0] if isinstance(how.sigma, float) else VolumeProfile(how.sigmas, volumes)


def _part(meter: Meter, i: int, how: Gaussian) -> OnProgress:
    """The progress of the i-th sigma within that of all."""
    sigmas = how.sigmas
    name = f"sigma {sigmas[i]:g}" + (f" ({i + 1} of {len(sigmas)})" if len(sigmas) > 1 else "")
    return lambda share, text: meter.at(i + share, f"{name}: {text}")


def _one(engine: LossEngine, condition: Condition, sigma: float, how: Gaussian, on_progress: OnProgress) -> LocalVolume:
    mass = gaussian_mass(Target(Particles(engine, sigma), condition), how.seed, how.plan, on_progress)
    directions, start = engine.directions, engine.start
    mass = noted(mass, directions.note)
    return LocalVolume(
        **vars(mass),
        sigma=sigma,
        scaling=directions.scaling,
        start_loss=float((start.loss if condition.kind == "loss" else start.accuracy)[-1, 0]),
        num_params=directions.num_params,
        num_zero=directions.num_zero,
        left_out=directions.left_out,
    )
