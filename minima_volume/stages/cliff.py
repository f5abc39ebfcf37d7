"""One minimum in more and more data: its Gaussian local volume until it leaves, the cliff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from minima_volume.errors import ConfigError
from minima_volume.execution.device import threads
from minima_volume.isolation import own_defaults
from minima_volume.losses.loss import Loss
from minima_volume.stages.mass_cells import current_masses, mass_settings
from minima_volume.stages.measured import make_engine
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.training.evaluation import prefix_losses
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.gaussian.plan import MassSettings, gaussian_mass


@own_defaults()
def masses_across(
    run: Run,
    minimum: int | None = None,
    sizes: Sequence[int] | None = None,
    *,
    sigma: float | None = None,
    trained: Trained | None = None,
    num_repeats: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The log mass of one minimum in landscapes of more and more samples, those it was not trained on among them.

    The run's own settings and headline threshold hold. What results.json has of the minimum is taken from there, so that the two
    cannot disagree; the other landscapes are measured now and not kept.

    Args:
        run: the run.
        minimum: a value of its variation; the smallest by default.
        sizes: samples of the landscapes; by default 12 in geometric steps from the base samples to a little past the cut-off, and the
            run's own landscapes on the way.
        sigma: size of the perturbation; `volume.gaussian.sigma` by default.
        trained: its models and samples; loaded when None.
        num_repeats: repeats of splitting in the landscapes that are measured now; `volume.gaussian.num_repeats` by default.
        progress: show a bar.

    Returns:
        Columns `size`, `start_loss` (of the minimum itself), `log_mass`, `lower`, `upper` (NaN outside), `inside`.

    Raises:
        ConfigError: no sigma, no such minimum, or a size that is not between 1 and the number of training samples.
    """
    config, threshold = run.config, run.config.volume.headline
    sigma = config.volume.gaussian.sigma if sigma is None else sigma
    if sigma is None:
        raise ConfigError("volume.gaussian.sigma is not set: give sigma (`minima-volume suggest-sigma` proposes one)")
    trained = load_models_and_data(run) if trained is None else trained
    minimum = config.minima[0] if minimum is None else minimum
    if minimum not in trained.models:
        raise ConfigError(f"minimum {minimum} is not in {run.folder.name}; it has {config.minima}")
    losses = mean_losses(trained, minimum, run.loss)
    if sizes is None:
        sizes = _steps(losses, config.data.base_size, threshold, [pair.size for pair in run.pairs(minimum)])
    elif wrong := [size for size in sizes if not 1 <= size <= len(losses)]:
        raise ConfigError(f"size {wrong[0]} is not allowed: the run has {len(losses)} training samples")
    kept = {
        cell.size: mass
        for pair in run.pairs(minimum)
        for cell, mass in current_masses(run, trained, pair.landscape, threshold, [sigma]).items()
        if (cell.minimum, cell.sigma, cell.condition.kind) == (minimum, sigma, "loss")
    }
    settings = mass_settings(run)
    settings = settings if num_repeats is None else replace(settings, num_repeats=num_repeats)
    rows = []
    for size in tqdm(sizes, unit=" landscapes", disable=not progress):
        row: dict[str, Any] = {
            "size": size,
            "start_loss": float(losses[size - 1]),
            "inside": bool(losses[size - 1] <= threshold),
        }
        if row["inside"]:
            mass = kept.get(size) or _measured(run, trained, minimum, size, sigma, settings)
            row |= {"log_mass": mass.estimate, "lower": mass.interval[0], "upper": mass.interval[1]}
        rows.append(row)
    columns = ["size", "start_loss", "log_mass", "lower", "upper", "inside"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("log_mass", "lower", "upper"), float))


def _measured(
    run: Run, trained: Trained, minimum: int, size: int, sigma: float, settings: MassSettings
) -> GaussianMass:
    """As notebook 3 measures it."""
    config = run.config
    with threads(config.experiment.threads):
        engine = make_engine(run, trained, minimum, sizes=[size])
        event = Target.of(engine, sigma, size, Condition("loss", config.volume.headline))
        return gaussian_mass(event, event.particles.engine.directions.seed_of(config.seeds.perturbation), settings)


@own_defaults()
def mean_losses(trained: Trained, minimum: int, loss: Loss) -> np.ndarray:
    """(T,) mean loss of one minimum over the first 1, 2, ... training samples."""
    samples = (trained.dataset.x_train, trained.dataset.y_train)
    return prefix_losses(trained.models[minimum], samples, loss, np.arange(1, len(samples[0]) + 1))


def _steps(losses: np.ndarray, base: int, threshold: float, own: Sequence[int]) -> list[int]:
    above = np.flatnonzero(losses[base - 1 :] > threshold)
    last = base + int(above[0]) - 1 if len(above) else len(losses)  # the largest landscape that it is still inside of
    inside = np.geomspace(base, max(last, base), 10).round().astype(int)
    outside = [last + 1, min(len(losses), round((last + 1) * 1.3))] if len(above) else []
    return sorted({*inside.tolist(), *outside, *(size for size in own if size <= last)})
