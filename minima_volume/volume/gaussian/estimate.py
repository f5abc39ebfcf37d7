"""The front door's Gaussian local volume: one minimum of a person's own model, at one sigma or a profile of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from minima_volume.errors import ConfigError
from minima_volume.execution.meter import Meter
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.result import limits, number
from minima_volume.volume.condition import Condition
from minima_volume.volume.context import Context, Estimate
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass, noted
from minima_volume.volume.gaussian.plan import OnProgress, gaussian_mass
from minima_volume.volume.gaussian.settings import Gaussian, sizes_of


@dataclass(frozen=True)
class LocalVolume(GaussianMass, Estimate):
    """A Gaussian local volume with what it was measured on; see `GaussianMass` for the estimate itself.

    It can be compared (`mv.compare`), tabled (`mv.table`), drawn (`plot`), saved (`save`) and loaded (`mv.load`).

    Attributes:
        sigma: size of the perturbation, in units of `scaling`.
        start_loss: loss (or accuracy, with an accuracy threshold) at the minimum itself.
        num_params: n, the perturbed entries; `num_zero` more have scaling 0.
        left_out: parameters that were not perturbed.
        context: threshold, loss, samples and settings.
    """

    sigma: float = 0.0
    scaling: str = "filter"
    start_loss: float = 0.0
    num_params: int = 0
    num_zero: int = 0
    left_out: tuple[str, ...] = ()
    context: Context = field(kw_only=True)

    def __str__(self) -> str:
        return f"log mass {number(self.log_mass)} at sigma {self.sigma:g}, {self.context.where}; {self.verdict}"

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        return [
            ("log mass", number(self.log_mass)),
            ("95 % interval", limits(self.interval)),
            ("sigma", f"{self.sigma:g} ({self.context.settings['scaling']})"),
            *shared_facts(self),
            ("verdict", self.verdict),
        ]


@dataclass(frozen=True)
class VolumeProfile(Estimate):
    """Gaussian local volumes of one minimum at several sigmas; saved, drawn and so on like each of them.

    Attributes:
        sigmas: (S,) as given.
        volumes: one each.
    """

    sigmas: tuple[float, ...]
    volumes: tuple[LocalVolume, ...]

    def at(self, sigma: float) -> LocalVolume:
        """The volume at one of the sigmas.

        Raises:
            ConfigError: it was not measured there.
        """
        wanted = sizes_of(sigma)
        if len(wanted) > 1 or wanted[0] not in self.sigmas:
            raise ConfigError(f"sigma {sigma} was not measured; the profile has {', '.join(map(str, self.sigmas))}")
        return self.volumes[self.sigmas.index(wanted[0])]

    @property
    def context(self) -> Context:  # type: ignore[override]
        """Threshold, loss, samples and settings, the same for all."""
        return self.volumes[0].context

    @property
    def log_mass(self) -> np.ndarray:
        """(S,) log masses; NaN where undefined or only bounded."""
        return np.array([np.nan if v.estimate is None else v.estimate for v in self.volumes])

    @property
    def interval(self) -> np.ndarray:
        """(S, 2) limits of the 95 % intervals; NaN where nothing bounds that side."""
        return np.array([[np.nan if limit is None else limit for limit in v.interval] for v in self.volumes])

    @property
    def verdict(self) -> str:
        """One line per sigma, and one for what is to be said of each."""
        notes = [(volume.note or "").split("; ") for volume in self.volumes]
        shared = [text for text in notes[0] if text and all(text in others for others in notes)]
        if len(notes) == 1 or any(None in (volume.log_mass, *volume.interval) for volume in self.volumes):
            shared = []  # where something is no estimate, its note is what is known
        own = ["; ".join(text for text in texts if text not in shared) or None for texts in notes]
        lines = [
            f"sigma {sigma:g}: {replace(volume, note=note).verdict}"
            for sigma, volume, note in zip(self.sigmas, self.volumes, own, strict=True)
        ]
        return "\n".join([*lines, f"at each sigma: {'; '.join(shared)}"] if shared else lines)

    def __str__(self) -> str:
        return f"log masses, {self.context.where}\n{self.verdict}"

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        values = [
            (f"log mass at sigma {volume.sigma:g}", f"{number(volume.log_mass)} ({limits(volume.interval)})")
            for volume in self.volumes
        ]
        return [*values, *shared_facts(self.volumes[0]), ("verdict", self.verdict)]


def shared_facts(volume: LocalVolume) -> list[tuple[str, str]]:
    """What a volume was measured on, to read."""
    context = volume.context
    return [
        ("threshold", f"{context.where}; {number(volume.start_loss)} at the minimum"),
        ("landscape", f"{context.landscape}, {context.loss}"),
        ("parameters", f"{volume.num_params:,}"),
    ]


def measure_local(
    engine: LossEngine, condition: Condition, how: Gaussian, context: Context, notes: str = "", progress: bool = True
) -> LocalVolume | VolumeProfile:
    """log P[still inside after theta* + sigma F z] at one sigma, or at each of several.

    Args:
        engine: the model and its one landscape.
        condition: the threshold.
        how: sigma and everything else that decides the number.
        context: what the result says about all this.
        notes: what a reader must know about the model or the threshold.
        progress: show a progress bar.

    Raises:
        ConfigError: a sigma is not a positive number of the model's type.
    """
    for value in how.sigmas:
        Particles(engine, value)  # refuse a bad one before any is measured
    with Meter(len(how.sigmas), progress) as meter:
        volumes = tuple(
            noted(_one(engine, condition, sigma, how, context, _part(meter, i, how)), notes)
            for i, sigma in enumerate(how.sigmas)
        )
    return volumes[0] if isinstance(how.sigma, float) else VolumeProfile(how.sigmas, volumes)


def _part(meter: Meter, i: int, how: Gaussian) -> OnProgress:
    """The progress of the i-th sigma within that of all."""
    sigmas = how.sigmas
    name = f"sigma {sigmas[i]:g}" + (f" ({i + 1} of {len(sigmas)})" if len(sigmas) > 1 else "")
    return lambda share, text: meter.at(i + share, f"{name}: {text}")


def _one(
    engine: LossEngine, condition: Condition, sigma: float, how: Gaussian, context: Context, on_progress: OnProgress
) -> LocalVolume:
    target = Target.of(engine, sigma, engine.sizes[-1], condition)
    mass = gaussian_mass(target, engine.directions.seed_of(how.seed), how.plan, on_progress)
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
        context=context,
    )
