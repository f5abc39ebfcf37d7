"""The thresholds of a run against the trivial predictor and the start losses, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import Run
from minima_volume.stages.thresholds import threshold_keys
from minima_volume.stages.trained import Trained, load_models_and_data


def describe_thresholds(run: Run, trained: Trained | None = None) -> str:
    """Every threshold against the trivial predictor and the start losses, in words, from the results.json that are there.

    Args:
        run: a run whose volumes are estimated.
        trained: its models and samples; loaded when None.

    Raises:
        MissingStageError: a results.json is missing.
        DamagedFileError, StaleError: one cannot be read, or is of an earlier version.
    """
    trained = load_models_and_data(run) if trained is None else trained
    data, config = trained.dataset, run.config
    lines = []
    for threshold in config.volume.loss_thresholds:
        found: list[tuple[str, str]] = []
        trivials = []
        for landscape in config.data.levels:
            results = load_results(run.results_file(landscape, threshold))
            keys = threshold_keys(
                run,
                threshold,
                data.y_train[: data.base_size + landscape],
                results["model_data_levels"],
                results["start_loss_values"],
            )
            trivials.append(keys["trivial_loss"])
            if keys["threshold_verdict"]:
                found.append((f"+{landscape}", keys["threshold_verdict"]))
        lines.append(_heading(threshold, run, trivials, fine=not found))
        for verdict, group in groupby(found, key=lambda pair: pair[1]):
            lines.append(f"  landscape {', '.join(name for name, _ in group)}: {verdict}")
    return "\n".join(lines)


def _heading(threshold: float, run: Run, trivials: Sequence[float | None], *, fine: bool) -> str:
    known = [trivial for trivial in trivials if trivial is not None]
    if not known:
        above = "; above every start loss" if fine else ""
        return f"threshold {threshold:g}; loss {run.loss.name!r} has no trivial predictor{above}"
    lowest, highest = (f"{trivial:.3g}" for trivial in (min(known), max(known)))
    between = lowest if lowest == highest else f"{lowest} to {highest}"
    below = "; below it, and above every start loss" if fine else ""
    return f"threshold {threshold:g}; loss of the trivial predictor {between}{below}"
