"""The test-set loss along a few directions: a look that helps to choose a threshold."""

from __future__ import annotations

from minima_volume.execution.device import threads, usable_device
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.curves import Curves, trace_curves
from minima_volume.perturbation.engine import LossEngine
from minima_volume.stages.measured import on
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data

MAX_SAMPLES = 2000


@own_defaults()
def held_out_curves(run: Run, trained: Trained | None = None, *, num_directions: int = 5) -> dict[int, Curves]:
    """Walk a few of the run's directions on (at most 2,000 samples of) the test set, over the whole coefficient grid.

    Returns:
        level -> curves with one landscape, the test set.
    """
    trained = load_models_and_data(run) if trained is None else trained
    perturbation, device = run.config.perturbation, usable_device(run.config)
    x, y = (samples[:MAX_SAMPLES].to(device) for samples in (trained.dataset.x_test, trained.dataset.y_test))
    first = run.config.seeds.perturbation
    curves = {}
    with threads(run.config.experiment.threads):
        for level, model in trained.models.items():
            loss, scaling, names = run.config.training.loss, perturbation.scaling, perturbation.names
            engine = LossEngine(on(device, model), x, y, loss, scaling=scaling, names=names)
            curves[level] = trace_curves(
                engine, range(first, first + num_directions), perturbation.coefficients.values()
            )
    return curves
