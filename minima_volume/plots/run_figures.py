"""The figures that the stages of a run leave beside their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minima_volume.analysis.results import Results
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
    """Write log_volume.png, radius_histogram.png and growth.png beside each results.json that has none or an older one.

    Where it has Gaussian local volumes, log_mass.png too, and volume_profiles.png where these are at several sigmas.

    Args:
        run: the run.
        results_files: what `estimate_volumes` returned.
    """
    written = []
    for path in results_files:
        target = path.parent / "log_volume.png"
        if target.is_file() and target.stat().st_mtime >= path.stat().st_mtime:
            continue
        results = load_results(path)
        radii = read_npz(path.parent / "radii.npz")
        written.append(save_figure(radius_histogram(results, radii), path.parent / "radius_histogram.png", DPI))
        written.append(save_figure(growth_with_directions(results), path.parent / "growth.png", DPI))
        if (read := Results.of(results)).has_masses():
            written.append(save_figure(log_masses(results), path.parent / "log_mass.png", DPI))
            if len(read.sigmas) > 1:
                written.append(save_figure(volume_profiles(results), path.parent / "volume_profiles.png", DPI))
        written.append(save_figure(volumes(results), target, DPI))
    return written


@under_lock
def save_cutoff_figure(run: Run, cutoffs: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write loss_curves.png."""
    return save_figure(cutoff_curves(cutoffs, run.config.volume.loss_thresholds), run.loss_curves_figure, DPI)
