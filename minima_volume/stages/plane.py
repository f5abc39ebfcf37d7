"""The plane through three minima of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm.auto import tqdm

from minima_volume.errors import ConfigError
from minima_volume.execution.device import threads
from minima_volume.isolation import own_defaults
from minima_volume.perturbation.plane import Plane, plane_losses
from minima_volume.stages.run import Run
from minima_volume.stages.trained import Trained, load_models_and_data


@own_defaults()
def run_plane(
    run: Run,
    minima: Sequence[int] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    trained: Trained | None = None,
    resolution: int = 41,
    margin: float = 0.35,
    progress: bool = True,
) -> Plane:
    """The plane through three minima of a run, in several of its landscapes.

    Args:
        run: the run; its models and samples are read.
        minima: three values of the run's variation, the origin first; by default the smallest, the middle and the largest.
        sizes: samples of the landscapes; by default those of these minima's own training data.
        trained: its models and samples; loaded when None.
        resolution, margin: see `plane_losses`.
        progress: show a bar.

    Raises:
        ConfigError: the run has fewer than three minima, or not these.
    """
    trained = load_models_and_data(run) if trained is None else trained
    chosen = three_of(run.config.minima) if minima is None else list(minima)
    if unknown := set(chosen) - set(trained.models):
        raise ConfigError(f"minima {sorted(unknown)} are not in {run.folder.name}; it has {run.config.minima}")
    if sizes is None:
        sizes = sorted({run.config.data.base_size + run.config.level_of(minimum) for minimum in chosen})
    data = trained.dataset
    with tqdm(total=resolution**2, unit=" points", disable=not progress) as bar, threads(run.config.experiment.threads):
        return plane_losses(
            [trained.models[minimum] for minimum in chosen],
            data.x_train,
            data.y_train,
            run.config.training.loss,
            sizes,
            resolution=resolution,
            margin=margin,
            on_done=bar.update,
        )


def three_of(minima: Sequence[int]) -> list[int]:
    """The smallest, the middle and the largest.

    >>> three_of([0, 120, 300, 600, 1200])
    [0, 300, 1200]
    """
    if len(minima) < 3:
        raise ConfigError(f"a plane goes through three minima; this run has {list(minima)}")
    return [minima[0], minima[len(minima) // 2], minima[-1]]
