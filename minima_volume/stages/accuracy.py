"""Notebook 5: test accuracy and loss of every model, and test_accuracies.npz."""

from __future__ import annotations

import numpy as np

from minima_volume.execution.device import threads
from minima_volume.files.atomic import write_npz
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.stages.provenance import provenance
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.training.evaluation import evaluate


@under_lock
@own_defaults()
def measure_test_accuracies(run: Run, trained: Trained | None = None) -> dict[str, np.ndarray]:
    """Measure every model on the whole test set and write test_accuracies.npz.

    Args:
        run: the run.
        trained: its models and samples; loaded when None.

    Returns:
        `additional_data`, `dataset_size` (minima,) counts; `test_accs` fractions and `test_loss`, (minima,); `variation`, its
            name, and `variation_values` (minima,).
    """
    trained = load_models_and_data(run) if trained is None else trained
    loss = run.loss
    samples = trained.dataset.x_test, trained.dataset.y_test
    with threads(run.config.experiment.threads):
        rows = [evaluate(model, samples, loss) for model in trained.models.values()]
    levels = [run.config.level_of(minimum) for minimum in trained.models]
    result = {
        "additional_data": np.array(levels),
        "dataset_size": trained.dataset.base_size + np.array(levels),
        "variation": np.array(run.config.variation),
        "variation_values": np.array(list(trained.models)),
        "test_accs": np.array([row[1] for row in rows]),
        "test_loss": np.array([row[0] for row in rows]),
        "weights_hash": np.array([record["weights_hash"] for record in trained.records.values()]),
        "threads": np.array(provenance(run.config)["threads"]),
    }
    write_npz(run.accuracies_file, result)
    return result
