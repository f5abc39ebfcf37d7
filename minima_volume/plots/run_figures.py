"""The figures that the stages of a run leave beside their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minima_volume.analysis.subjects import subject
from minima_volume.config.run import Config
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.atomic import read_npz, write_bytes
from minima_volume.files.lock import under_lock
from minima_volume.plots import style
from minima_volume.plots.growth import growth_with_directions
from minima_volume.plots.landscape import cutoff_curves, radius_histogram, volumes
from minima_volume.plots.masses import log_masses, volume_profiles
from minima_volume.plots.style import save_figure
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import VOLUME_FIGURES, Run

DPI = 110
SECONDS = 1.5  # about, for the figures of one results.json


@dataclass(frozen=True)
class VolumeFigures:
    """Work: the figures of one results.json.

    Attributes:
        config: of the run.
        folder: where they go.
        results, radii: what they show.
    """

    config: Config
    folder: Path
    results: Mapping[str, Any]
    radii: Mapping[str, Any]

    def drawn(self) -> dict[str, bytes]:
        """File name -> content, of the figures that the results have."""
        figures = (
            growth_with_directions(self.results),
            radius_histogram(self.results, self.radii),
            volumes(self.results),
            log_masses(self.results),
            volume_profiles(self.results),
        )
        return {
            f"{name}.png": style.figure_bytes(figure, "png", DPI)
            for name, figure in zip(VOLUME_FIGURES, figures, strict=True)
            if not isinstance(figure, str)
        }


@under_lock
def save_volume_figures(run: Run, results_files: Sequence[Path]) -> list[Path]:
    """Write growth.png and radius_histogram.png beside each results.json that lacks one of its figures or has older ones.

    Of two minima or more log_volume.png too, with Gaussian local volumes log_mass.png, and volume_profiles.png if these are at several sigmas.
    Many are drawn by the run's workers.

    Args:
        run: the run.
        results_files: what `estimate_volumes` returned.

    Returns:
        The figures that were written, in the order of `results_files`.
    """
    todo: list[VolumeFigures] = []
    for path in results_files:
        results = load_results(path)
        landscape, threshold = results["loss_landscape_data_param"], results["loss_threshold"]
        figures = run.volume_figures(landscape, threshold, results)
        if not all(figure.is_file() and figure.stat().st_mtime >= path.stat().st_mtime for figure in figures):
            todo.append(VolumeFigures(run.config, path.parent, results, read_npz(run.radii_file(landscape, threshold))))
    written: dict[Path, list[Path]] = {}
    workers = usable_workers(run.config, SECONDS * len(todo))
    for task, contents in run_tasks(VolumeFigures.drawn, todo, workers):
        written[task.folder] = [write_bytes(task.folder / name, content) for name, content in contents.items()]
    return [figure for task in todo for figure in written[task.folder]]


@under_lock
def save_cutoff_figure(run: Run, cutoffs: Mapping[str, Mapping[str, Any]]) -> Path | str:
    """Write loss_curves.png; if the run has one landscape alone, a sentence says why there is none."""
    figure = cutoff_curves(cutoffs, run.config.volume.loss_thresholds, subject(run.config.model_dump()))
    return figure if isinstance(figure, str) else save_figure(figure, run.loss_curves_figure, DPI)
