"""One minimum in more and more data: its Gaussian local volume until it leaves, the cliff."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from minima_volume.errors import ConfigError
from minima_volume.isolation import own_defaults
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.volume.gaussian.estimate import LocalVolume
from minima_volume.volume.measure import measure_volume


@own_defaults()
def masses_across(
    run: Run,
    minimum: int | None = None,
    sizes: Sequence[int] | None = None,
    *,
    sigma: float | None = None,
    trained: Trained | None = None,
    num_repeats: int = 4,
    progress: bool = True,
) -> pd.DataFrame:
    """The log mass of one minimum in landscapes of more and more samples, those it was not trained on among them.

    Args:
        run: the run.
        minimum: a value of its variation; the smallest level by default.
        sizes: samples of the landscapes; by default 12 in geometric steps from the base samples to a little past the cut-off.
        sigma: size of the perturbation; `volume.gaussian.sigma` by default.
        trained: its models and samples; loaded when None.
        num_repeats: of splitting, see `measure_volume`.
        progress: show a bar.

    Returns:
        Columns `size`, `start_loss` (of the minimum itself), `log_mass`, `lower`, `upper` (NaN outside), `inside`.

    Raises:
        ConfigError: no sigma.
    """
    config, threshold = run.config, run.config.volume.headline
    sigma = config.volume.gaussian.sigma if sigma is None else sigma
    if sigma is None:
        raise ConfigError("volume.gaussian.sigma is not set: give sigma (`minima-volume suggest-sigma` proposes one)")
    trained = load_models_and_data(run) if trained is None else trained
    minimum = config.minima[0] if minimum is None else minimum
    model, data = trained.models[minimum], trained.dataset
    losses = mean_losses(trained, minimum, config.training.loss)
    sizes = _steps(losses, config.data.base_size, threshold) if sizes is None else sizes
    rows = []
    for size in tqdm(sizes, unit=" landscapes", disable=not progress):
        row: dict[str, Any] = {
            "size": size,
            "start_loss": float(losses[size - 1]),
            "inside": bool(losses[size - 1] <= threshold),
        }
        if row["inside"]:
            mass = measure_volume(
                model,
                data.x_train[:size],
                data.y_train[:size],
                config.training.loss,
                threshold=threshold,
                sigma=sigma,
                num_repeats=num_repeats,
                scaling=config.perturbation.scaling,
                names=config.perturbation.names,
                progress=False,
            )
            assert isinstance(mass, LocalVolume)
            row |= {"log_mass": mass.log_mass, "lower": mass.interval[0], "upper": mass.interval[1]}
        rows.append(row)
    columns = ["size", "start_loss", "log_mass", "lower", "upper", "inside"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("log_mass", "lower", "upper"), float))


@own_defaults()
def mean_losses(trained: Trained, minimum: int, loss: str) -> np.ndarray:
    """(T,) mean loss of one minimum over the first 1, 2, ... training samples."""
    from minima_volume.losses.loss import get_loss
    from minima_volume.training.loop import per_sample

    samples = (trained.dataset.x_train, trained.dataset.y_train)
    losses, _ = per_sample(trained.models[minimum], samples, get_loss(loss))
    return losses.double().cumsum(0).numpy() / np.arange(1, len(losses) + 1)


def _steps(losses: np.ndarray, base: int, threshold: float) -> list[int]:
    above = np.flatnonzero(losses[base - 1 :] > threshold)
    leaves = base + int(above[0]) if len(above) else len(losses)
    inside = np.geomspace(base, max(leaves - 1, base), 10).round().astype(int)
    outside = [leaves, min(len(losses), round(leaves * 1.3))] if len(above) else []
    return sorted({*inside.tolist(), *outside})
