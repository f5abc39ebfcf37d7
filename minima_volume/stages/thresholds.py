"""The thresholds of a run against the trivial predictor and the start losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from torch import Tensor

from minima_volume.files.atomic import read_json
from minima_volume.stages.run import Run, minimum_name
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.volume.condition import Condition
from minima_volume.volume.trivial import threshold_verdict, trivial_loss


def conditions_of(run: Run, threshold: float) -> list[Condition]:
    """The loss condition of a threshold, and the accuracy condition paired with it."""
    accuracy = run.config.volume.accuracy_for(threshold)
    pair = [Condition("loss", threshold)]
    return pair if accuracy is None else [*pair, Condition("accuracy", accuracy)]


def threshold_keys(
    run: Run, threshold: float, targets: Tensor, levels: Sequence[int], starts: Sequence[float | None]
) -> dict[str, Any]:
    """`trivial_loss` and `threshold_verdict` of one results.json.

    Args:
        run: the run.
        threshold: of the loss.
        targets: of the landscape.
        levels, starts: of its minima: values of the variation, and losses at coefficient 0.
    """
    trivial = trivial_loss(run.config.training.loss, targets)
    names = [minimum_name(level, run.config.variation) for level in levels]
    verdict = threshold_verdict(threshold, trivial, dict(zip(names, starts, strict=True)))
    return {"trivial_loss": trivial, "threshold_verdict": verdict or None}


def describe_thresholds(run: Run, trained: Trained | None = None) -> str:
    """Every threshold against the trivial predictor and the start losses, in words, from the results.json that are there.

    Args:
        run: a run whose volumes are estimated.
        trained: its models and samples; loaded when None.

    Raises:
        MissingStageError: a results.json is missing.
    """
    trained = load_models_and_data(run) if trained is None else trained
    data, config = trained.dataset, run.config
    lines = []
    for threshold in config.volume.loss_thresholds:
        found: list[tuple[str, str]] = []
        trivials = []
        for landscape in config.data.levels:
            results = read_json(run.results_file(landscape, threshold))
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
        lowest, highest = (f"{trivial:.3g}" for trivial in (min(trivials), max(trivials)))
        between = lowest if lowest == highest else f"{lowest} to {highest}"
        fine = "" if found else "; below it, and above every start loss"
        lines.append(f"threshold {threshold:g}; loss of the trivial predictor {between}{fine}")
        for verdict, group in groupby(found, key=lambda pair: pair[1]):
            lines.append(f"  landscape {', '.join(name for name, _ in group)}: {verdict}")
    return "\n".join(lines)
