"""What a run says as tables to read: its models, the volumes of one landscape and their comparisons, where minima leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from minima_volume.analysis.quantities import AXIS_LABELS
from minima_volume.analysis.readable import readable
from minima_volume.analysis.results import Results
from minima_volume.stages.run import variation_of
from minima_volume.stages.trained import Trained

HISTORIES = {"train loss": "train_loss", "test loss": "test_loss", "test accuracy": "test_accs"}
INDEX_NAMES = {"level": "trained on +", "epoch": "epoch", "batch_size": "batch size"}
NOT_MEASURED = (
    "Gaussian local volumes were not measured: set volume.gaussian.sigma (`minima-volume suggest-sigma` proposes one)"
)


def volume_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row per minimum: its log-volume with interval, and what it rests on.

    Args:
        results: a results.json.
        by: "loss" or "accuracy", the threshold of the radii.
    """
    read = Results.of(results)
    stars = read.stars(by)
    columns = {
        "log volume": [_number(star.log_volume) for star in stars],
        "95 % interval": [interval_text(star.limits) for star in stars],
        "log mean r^n": [_number(star.log_exp_r_n) for star in stars],
        "effective sample size": [_number(star.effective_sample_size) for star in stars],
        "largest share": ["" if star.largest_share is None else f"{star.largest_share:.0%}" for star in stars],
        "directions": [star.num_directions for star in stars],
        "censored": [star.num_censored for star in stars],
        "start loss": [_number(value) for value in read.content["start_loss_values"]],
        "test loss": [_number(value) for value in read.test_losses],
        "verdict": [star.verdict.partition(":")[0] for star in stars],
    }
    return pd.DataFrame(columns, index=pd.Index(read.minima, name=INDEX_NAMES[read.variation]))


def comparison_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row per compared pair: the first log-volume minus the second, with its own interval, its p-value, and this after Holm's procedure.

    The pairs are one family: told apart is what has an adjusted p-value of at most 0.05.

    Args:
        results: a results.json.
        by: "loss" or "accuracy".
    """
    read = Results.of(results)
    names, pairs = dict(zip(read.minima, read.names, strict=True)), read.comparisons(by)
    columns = {
        "first": [names[pair.first] for pair in pairs],
        "second": [names[pair.second] for pair in pairs],
        "log volumes, first - second": [_number(pair.difference) for pair in pairs],
        "95 % interval": [interval_text(pair.limits) for pair in pairs],
        "probability that the first is larger": [_share(pair.probability) for pair in pairs],
        "p": [_share(pair.p_value) for pair in pairs],
        "p, Holm": [_share(pair.p_adjusted) for pair in pairs],
        "told apart": ["yes" if pair.told_apart else "no" for pair in pairs],
    }
    return pd.DataFrame(columns)


def verdicts(results: Mapping[str, Any], by: str = "loss") -> str:
    """The verdicts of all minima and of all pairs, a line each, the overall one, and what is wrong with the threshold."""
    read = Results.of(results)
    names, wrong = dict(zip(read.minima, read.names, strict=True)), read.threshold_verdict
    lines = [f"{name}: {star.verdict}" for name, star in zip(read.names, read.stars(by), strict=True)]
    lines += [f"{names[pair.first]} and {names[pair.second]}: {pair.verdict}" for pair in read.comparisons(by)]
    lines.append(f"all in all: {read.overall_verdict(by)}")
    return "\n".join([*lines, f"threshold {read.threshold:g}: {wrong}"] if wrong else lines)


def mass_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row per (minimum, sigma): its log mass with interval, how it was measured, and the verdict; empty if not measured.

    Args:
        results: a results.json.
        by: "loss" or "accuracy", the threshold.
    """
    read = Results.of(results)
    rows = [
        ((minimum, sigma), mass)
        for minimum, masses in zip(read.minima, read.masses(by), strict=False)
        for sigma, mass in zip(read.sigmas, masses, strict=True)
    ]
    masses = [mass for _, mass in rows]
    columns = {
        "log mass": [_number(mass.value) for mass in masses],
        "95 % interval": [interval_text(mass.limits) for mass in masses],
        "method": [(mass.method or "not measured").replace("_", " ") for mass in masses],
        "stages": ["" if mass.num_stages is None else f"{mass.num_stages:.1f}" for mass in masses],
        "forward passes": ["" if mass.num_forward is None else f"{mass.num_forward:,}" for mass in masses],
        "note": [mass.note or "" for mass in masses],
    }
    names = [INDEX_NAMES[read.variation], "sigma"]
    return pd.DataFrame(columns, index=pd.MultiIndex.from_tuples([key for key, _ in rows], names=names))


def mass_comparisons(results: Mapping[str, Any], by: str = "loss") -> str:
    """Which minimum is larger, a line per compared pair, at the headline sigma."""
    read = Results.of(results)
    return "\n".join(pair.verdict for pair in read.mass_comparisons(by)) if read.has_masses(by) else NOT_MEASURED


def training_table(trained: Trained) -> pd.DataFrame:
    """One row per model: training samples, epochs, losses and test accuracy.

    Args:
        trained: models and samples of a run.
    """
    records = list(trained.records.values())
    variation, last = variation_of(records[0]), [record["epoch"] - 1 for record in records]
    columns = {
        name: [record[key][at] for record, at in zip(records, last, strict=True)] for name, key in HISTORIES.items()
    }
    own = {} if variation == "level" else {variation: list(trained.records)}
    sizes = {"training samples": [record["train_size"] for record in records], "epochs": [at + 1 for at in last]}
    table = readable(pd.DataFrame(own | sizes | columns))
    return table.set_index(table.columns[0])


def cutoff_table(cutoffs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row per minimum: the number of samples at which it leaves, for each threshold.

    Args:
        cutoffs: of a cutoffs.json.
    """
    entries = list(cutoffs.values())
    variation = variation_of(entries[0])
    sizes = [entry["base_train_size"] + entry["additional_data"] for entry in entries]
    values = sizes if variation == "level" else [entry["variation_value"] for entry in entries]
    columns = {
        f"leaves at, threshold {threshold}": [
            "never" if (samples := entry["cutoffs"][threshold]) is None else f"{samples:,}" for entry in entries
        ]
        for threshold in entries[0]["cutoffs"]
    }
    return pd.DataFrame(columns, index=pd.Index([f"{value:,}" for value in values], name=AXIS_LABELS[variation]))


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
