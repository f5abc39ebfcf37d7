"""Robustness as a volume: P[accuracy >= a | alpha] of one network, by plain draws or splitting, and its profile by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.names import perturbed_names
from minima_volume.perturbation.particles import Particles
from minima_volume.robustness.images import Images, dense
from minima_volume.robustness.noise import NAMES, SCALING
from minima_volume.seeding import generator
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass
from minima_volume.volume.gaussian.splitting import Splitting

ALL, ONLY, WITHOUT = "all", "only", "without"  # which tensors a cell perturbs: all, one, all but one
SUBSET_SEED = 0


@dataclass(frozen=True)
class Cell:
    """One probability to measure.

    Attributes:
        alpha: of the noise.
        accuracy: to be reached on the subset.
        part: all, only (one tensor) or without (all but one tensor).
        tensor: which one; empty with `all`.
    """

    alpha: float
    accuracy: float
    part: str = ALL
    tensor: str = ""

    @property
    def name(self) -> str:
        """What its file is called."""
        tail = f"_{self.part}_{self.tensor}" if self.tensor else ""
        return f"alpha{self.alpha:g}_accuracy{self.accuracy:g}{tail}"


def subset(images: Images, size: int) -> Tensor:
    """Positions of the test images that volumes are measured on, ascending: the same for every network and every run.

    Raises:
        ConfigError: there are fewer.
    """
    count = len(images.y_test)
    if size > count:
        raise ConfigError(f"volume.subset: {size} is not allowed: there are {count} test images")
    return torch.randperm(count, generator=generator(SUBSET_SEED, "volume subset"))[:size].sort().values


def noise_engine(model: nn.Module, x: Tensor, y: Tensor, only: Sequence[str] | None = None) -> LossEngine:
    """The loss engine under the study's noise.

    Biases and gains get a scaling of 0 instead of being left out: the same law, and perceptrons keep their fast path.

    Args:
        model: trained.
        x, y: images and labels.
        only: tensors that are hit; all that the study's noise hits by default.

    Raises:
        ConfigError: a tensor is not among those that the noise hits.
    """
    hit = perturbed_names(model, NAMES)
    if unknown := sorted(set(only or ()) - set(hit)):
        raise ConfigError(f"tensor {unknown[0]!r} gets no noise; allowed: {', '.join(hit)}")
    whole = Directions.of(model, SCALING, "weight_bias")
    chosen = set(hit if only is None else only)
    pairs = zip(whole.names, whole.factors, strict=True)
    factors = tuple(factor if name in chosen else torch.zeros_like(factor) for name, factor in pairs)
    engine = LossEngine(model, dense(x), y, directions=replace(whole, factors=factors))
    engine.check()
    return engine


def hit_tensors(model: nn.Module, cell: Cell) -> tuple[str, ...]:
    """The tensors that a cell perturbs."""
    hit = perturbed_names(model, NAMES)
    if cell.part == ALL:
        return hit
    return tuple(name for name in hit if (name == cell.tensor) == (cell.part == ONLY))


def layer_cells(model: nn.Module, alpha: float, accuracy: float) -> list[Cell]:
    """Each tensor alone, and all but each."""
    hit = perturbed_names(model, NAMES)
    parts = (ONLY, WITHOUT) if len(hit) > 1 else (ONLY,)
    return [Cell(alpha, accuracy, part, name) for part in parts for name in hit]


def measure_cell(
    model: nn.Module, samples: tuple[Tensor, Tensor], cell: Cell, settings: MassSettings, seed: int, draws: int
) -> dict[str, Any]:
    """One probability, and the mean accuracy over a few plain draws.

    Args:
        model: trained.
        samples: the subset.
        cell: what to measure.
        settings: how.
        seed: of all that is drawn.
        draws: plain draws for the mean accuracy.
    """
    engine = noise_engine(model, *samples, hit_tensors(model, cell))
    particles = Particles(engine, cell.alpha)
    mass = gaussian_mass(
        Target(particles, Condition("accuracy", cell.accuracy)), engine.directions.seed_of(seed), settings
    )
    drawn = particles.draw(draws, particles.generator(seed))
    accuracies = particles.evaluate(drawn).accuracy[0]
    return {
        **vars(cell),
        **mass_row(mass),
        "mean_accuracy": float(accuracies.mean()),
        "accuracy_std": float(np.std(accuracies, ddof=1)),
        "draws": draws,
        "start_accuracy": float(engine.start.accuracy[0, 0]),
        "subset": len(samples[1]),
    }


def mass_row(mass: GaussianMass) -> dict[str, Any]:
    """An estimate as a row: log P with its 95 % interval, and how it was made."""
    low, high = mass.interval
    numbers = {"log_mass": mass.estimate, "lower": low, "upper": high, "method": mass.method}
    return {**numbers, "num_forward": mass.num_forward, "words": mass.verdict}


def mass_settings(num_particles: int, num_repeats: int, num_moves: int | None) -> MassSettings:
    """How masses are estimated in a study."""
    return MassSettings("auto", num_repeats, splitting=Splitting(num_particles=num_particles, num_moves=num_moves))
