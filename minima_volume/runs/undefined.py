"""A line for a run in which no minimum has a volume."""

from __future__ import annotations

from typing import Any

from minima_volume.errors import MissingStageError
from minima_volume.files.atomic import read_json
from minima_volume.stages.run import Run


def undefined_volumes(run: Run) -> str | None:
    """One line with the reason where no minimum has a volume in any landscape at any threshold, else None.

    Args:
        run: a run; without results.json there is nothing to say.
    """
    results = []
    for landscape in run.config.data.levels:
        for threshold in run.config.volume.loss_thresholds:
            try:
                results.append(read_json(run.results_file(landscape, threshold)))
            except MissingStageError:
                continue
    if not results or any(_has_volume(result) for result in results):
        return None
    thresholds = ", ".join(f"{threshold:g}" for threshold in run.config.volume.loss_thresholds)
    reason = next(
        (note for result in results for note in result.get("log_exp_r_n_notes", []) if note), "no reason is given"
    )
    return f"{run.folder.name}: no minimum has a volume at loss thresholds {thresholds}: {reason}"


def _has_volume(result: dict[str, Any]) -> bool:
    """Whether a minimum has a volume of either kind: of the star region, or Gaussian at some sigma."""
    masses = [mass for row in result.get("log_mass_values") or [] for mass in row or []]
    return any(value is not None for value in [*result["log_exp_r_n_values"], *masses])
