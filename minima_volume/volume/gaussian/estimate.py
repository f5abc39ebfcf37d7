"""The front door's Gaussian local volume: one minimum of a person's own model, at one sigma or a profile of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from minima_volume.errors import ConfigError
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass, noted
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass


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
        """One line a sigma."""
        return "\n".join(f"sigma {s:g}: {v.verdict}" for s, v in zip(self.sigmas, self.volumes, strict=True))


def measure_local(
    engine: LossEngine,
    condition: Condition,
    sigma: float | Sequence[float],
    seed: int,
    settings: MassSettings,
    progress: bool = True,
) -> LocalVolume | VolumeProfile:
    """log P[still inside after theta* + sigma F z] at one sigma, or at each of several.

    Raises:
        ConfigError: no sigma, or one that is not a positive number.
    """
    sigmas = _numbers(sigma)
    for value in sigmas:
        Particles(engine, value)  # refuse a bad one before any is measured
    if np.ndim(sigma) == 0:
        return _one(engine, condition, sigmas[0], seed, settings, progress)
    return VolumeProfile(sigmas, tuple(_one(engine, condition, s, seed, settings, progress) for s in sigmas))


def _numbers(sigma: float | Sequence[float]) -> tuple[float, ...]:
    """Every size that is asked for."""
    try:
        array = np.asarray(sigma)
        if array.dtype.kind not in "iuf" or array.ndim > 1:
            raise TypeError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"sigma {sigma!r} is not allowed: it must be a number, or a sequence of numbers") from error
    if not array.size:
        raise ConfigError("sigma is an empty sequence; give a number, or several for a volume profile")
    return tuple(float(value) for value in np.atleast_1d(array))


def _one(
    engine: LossEngine, condition: Condition, sigma: float, seed: int, settings: MassSettings, progress: bool
) -> LocalVolume:
    target = Target(Particles(engine, sigma), condition)
    with tqdm(unit=" stages", disable=not progress, desc=f"sigma {sigma:g}") as bar:

        def show(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        mass = gaussian_mass(target, seed, settings, show)
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
