"""The figures that the stages of a run leave beside their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minima_volume.analysis.subjects import subject
from minima_volume.files.atomic import read_npz
from minima_volume.files.lock import under_lock
from minima_volume.plots.growth import growth_with_directions
from minima_volume.plots.landscape import cutoff_curves, radius_histogram, volumes
from minima_volume.plots.masses import log_masses, volume_profiles
from minima_volume.plots.style import save_figure
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import Run

DPI = 110


@under_lock
def save_volume_figures(run: Run, results_files: Sequence[Path]) -> list[Path]:
    """Write growth.png and radius_histogram.png beside each results.json that has none or older ones.

    Of two minima or more log_volume.png too, with Gaussian local volumes log_mass.png, and volume_profiles.png if these are at several sigmas.

    Args:
        run: the run.
        results_files: what `estimate_volumes` returned.
    """
    written = []
    for path in results_files:
        results = load_results(path)
        figures = run.volume_figures(results["loss_landscape_data_param"], results["loss_threshold"])
        if all(figure.is_file() and figure.stat().st_mtime >= path.stat().st_mtime for figure in figures):
            continue
        radii = read_npz(path.parent / "radii.npz")
        drawn = {
            "growth": growth_with_directions(results),
            "radius_histogram": radius_histogram(results, radii),
            "log_volume": volumes(results),
            "log_mass": log_masses(results),
            "volume_profiles": volume_profiles(results),
        }
        written += [
            save_figure(figure, path.parent / f"{name}.png", DPI)
            for name, figure in drawn.items()
            if not isinstance(figure, str)
        ]
    return written


@under_lock
def save_cutoff_figure(run: Run, cutoffs: Mapping[str, Mapping[str, Any]]) -> Path | str:
    """Write loss_curves.png; if the run has one landscape alone, a sentence says why there is none."""
    figure = cutoff_curves(cutoffs, run.config.volume.loss_thresholds, subject(run.config.model_dump()))
    return figure if isinstance(figure, str) else save_figure(figure, run.loss_curves_figure, DPI)
