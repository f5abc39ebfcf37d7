"""The volumes of one landscape and their comparisons as tables to read, made from one results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from minima_volume.errors import ConfigError
from minima_volume.stages.run import minimum_name
from minima_volume.volume.claims import two_sided

INDEX_NAMES = {"level": "trained on +", "epoch": "epoch", "batch_size": "batch size"}


def volume_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row a minimum: its log-volume with interval, and what it rests on.

    Args:
        results: a results.json.
        by: "loss" or "accuracy", the threshold of the radii.
    """
    suffix = _suffix(results, by)
    columns = {
        "log volume": [_number(value) for value in results[f"log_volume{suffix}_values"]],
        "95 % interval": [interval_text(interval) for interval in results[f"log_volume{suffix}_intervals"]],
        "log mean r^n": [_number(value) for value in results[f"log_exp_r_n{suffix}_values"]],
        "effective sample size": [_number(value) for value in results[f"effective_sample_size{suffix}"]],
        "largest share": ["" if v is None else f"{v:.0%}" for v in results[f"largest_share{suffix}"]],
        "directions": results[f"num_directions{suffix}"],
        "censored": results[f"num_censored{suffix}"],
        "start loss": [_number(value) for value in results["start_loss_values"]],
        "test loss": [_number(value) for value in results["test_loss_values"]],
        "verdict": [text.partition(":")[0] for text in results[f"verdicts{suffix}"]],
    }
    return pd.DataFrame(
        columns, index=pd.Index(results["model_data_levels"], name=INDEX_NAMES[results.get("variation", "level")])
    )


def _name(results: Mapping[str, Any], minimum: int) -> str:
    return minimum_name(minimum, results.get("variation", "level"))


def comparison_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row a compared pair: the first log-volume minus the second, with its own interval, its p-value, and this after Holm's procedure.

    The pairs are one family: told apart is what has an adjusted p-value of at most 0.05.

    Args:
        results: a results.json.
        by: "loss" or "accuracy".
    """
    pairs = results[f"comparisons{_suffix(results, by)}"]
    columns = {
        "first": [_name(results, pair["levels"][0]) for pair in pairs],
        "second": [_name(results, pair["levels"][1]) for pair in pairs],
        "log volumes, first - second": [_number(pair["log_volume_difference"]) for pair in pairs],
        "95 % interval": [interval_text(pair["log_volume_interval"]) for pair in pairs],
        "probability that the first is larger": [_share(pair["log_volume_probability"]) for pair in pairs],
        "p": [_share(pair.get("log_volume_p_value", two_sided(pair["log_volume_probability"]))) for pair in pairs],
        "p, Holm": [_share(pair.get("log_volume_p_adjusted")) for pair in pairs],
        "told apart": ["yes" if pair["told_apart"] else "no" for pair in pairs],
    }
    return pd.DataFrame(columns)


def verdicts(results: Mapping[str, Any], by: str = "loss") -> str:
    """The verdicts of all minima and of all pairs, a line each, the overall one, and what is wrong with the threshold."""
    suffix = _suffix(results, by)
    minima = zip(results["model_data_levels"], results[f"verdicts{suffix}"], strict=True)
    pairs = [(pair["levels"], pair["verdict"]) for pair in results[f"comparisons{suffix}"]]
    return "\n".join(
        [
            *(f"{_name(results, level)}: {text}" for level, text in minima),
            *(f"{_name(results, first)} and {_name(results, second)}: {text}" for (first, second), text in pairs),
            f"all in all: {results[f'overall_verdict{suffix}']}",
            *(
                [f"threshold {results['loss_threshold']:g}: {wrong}"]
                if (wrong := results.get("threshold_verdict"))
                else []
            ),
        ]
    )


def interval_text(interval: Sequence[float | None] | None) -> str:
    """An interval to read.

    >>> interval_text([-2.581, -2.4916]), interval_text([-11855.38, None]), interval_text([None, None])
    ('-2.58 to -2.49', '-11,855 or more', 'none')
    """
    low, high = interval or (None, None)
    if low is None or high is None:
        if low is None and high is None:
            return "none"
        return f"{_number(low)} or more" if high is None else f"{_number(high)} or less"
    return f"{_number(low)} to {_number(high)}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _suffix(results: Mapping[str, Any], by: str) -> str:
    suffixes = {"loss": "", "accuracy": "_acc"}
    if by not in suffixes:
        raise ConfigError(f"by {by!r} is not known; allowed: loss, accuracy")
    if f"comparisons{suffixes[by]}" not in results:
        raise ConfigError("these results have no accuracy threshold: pair one with the loss threshold in config.yaml")
    return suffixes[by]
