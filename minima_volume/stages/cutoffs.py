"""Notebook 4: the loss of each minimum as more data is added, and where it leaves the landscape."""

from __future__ import annotations

from typing import Any

import numpy as np

from minima_volume.execution.device import threads
from minima_volume.files.atomic import finite_or_none, write_json
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.training.evaluation import prefix_losses

MAX_POINTS = 500


@under_lock
@own_defaults()
def cutoffs(run: Run, trained: Trained | None = None) -> dict[str, dict[str, Any]]:
    """Cumulative mean loss over base, then additional samples in stored order, of every model; writes cutoffs/cutoffs.json.

    Args:
        run: the run.
        trained: its models and samples; loaded when None.

    Returns:
        `Model_<level>` -> `additional_data`, `base_train_size`, `indices` (numbers of samples, base size upwards),
        `loss_curve` (mean loss over that many samples), and `cutoffs`: for each loss threshold, as text, the smallest number of
        samples in `indices` at which the mean loss is above it (None if it never is).
    """
    trained = load_models_and_data(run) if trained is None else trained
    dataset, loss = trained.dataset, run.loss
    indices = sample_counts(dataset.sizes)
    result = {}
    with threads(run.config.experiment.threads):
        for level, model in trained.models.items():
            curve = prefix_losses(model, (dataset.x_train, dataset.y_train), loss, indices)
            result[f"Model_{level}"] = {
                "additional_data": run.config.level_of(level),
                "variation": run.config.variation,
                "variation_value": level,
                "base_train_size": dataset.base_size,
                "indices": indices.tolist(),
                "loss_curve": finite_or_none(curve.tolist()),
                "cutoffs": {f"{t:g}": first_above(indices, curve, t) for t in run.config.volume.loss_thresholds},
                "weights_hash": trained.records[level]["weights_hash"],
            }
    write_json(run.cutoffs_file, result)
    return result


def sample_counts(sizes: tuple[int, ...]) -> np.ndarray:
    """All numbers of samples from the base size up, or 500 of them in geometric steps; landscape sizes always among them.

    >>> sample_counts((3, 5)).tolist()
    [3, 4, 5]
    """
    first, last = sizes[0], sizes[-1]
    if last - first < MAX_POINTS:
        return np.arange(first, last + 1)
    return np.unique(np.concatenate([np.geomspace(first, last, MAX_POINTS).round().astype(int), np.array(sizes)]))


def first_above(indices: np.ndarray, curve: np.ndarray, threshold: float) -> int | None:
    """The first number of samples whose mean loss is above the threshold."""
    above = np.flatnonzero(~(curve <= threshold))
    return int(indices[above[0]]) if len(above) else None
