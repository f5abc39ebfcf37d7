"""Many seeds together: one tidy table from the results.json files of a condition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from minima_volume.analysis.aggregates import aggregate
from minima_volume.analysis.comparable import odd_ones_out, other_minima
from minima_volume.analysis.quantities import bounded, x_of
from minima_volume.analysis.run_rows import CUTOFF_COLUMNS, RunResults, read_results
from minima_volume.arguments import as_folder
from minima_volume.config.run import Config, load_config
from minima_volume.errors import ConfigError, MinimaVolumeError, MissingStageError
from minima_volume.stages.run import CONFIG_NAME, find_runs, refuse_twins
from minima_volume.volume.claims import clear, holm

NUMBERS = (
    "log_mass",
    "log_mass_lower",
    "log_mass_upper",
    "sigma",
    "log_exp_r_n",
    "log_volume",
    "log_volume_lower",
    "log_volume_upper",
    "effective_sample_size",
)
PAIR_COLUMNS = (
    *("run", "landscape", "threshold", "quantity", "first", "second", "difference", "lower", "upper", "probability"),
    *("p_value", "verdict"),
)
FAMILY = ["quantity", "landscape", "threshold"]  # of pairs that are compared together, over all runs
NAMED = 3  # runs without results, in an error


@dataclass(frozen=True)
class Collected:
    """The results of a condition.

    Attributes:
        table: one row a (run, landscape, threshold, level).
        comparisons: one row a (run, landscape, threshold, quantity, pair of levels); quantity is `log_mass` or `log_volume`. `p_adjusted`
            and `told_apart` are by Holm's procedure over the pairs of all runs that share the other three; `verdict` is that of the
            run's own file.
        cutoffs: one row a (run, level, threshold): `samples` at which the minimum leaves, NaN where it never does (`inside_all`).
        missing: what could not be read or is not comparable: run folder -> reason.
        partial: what else a run that is in the tables lacks, or has otherwise than most: run folder -> reason.
        config: the condition's configuration (of the first run where the condition has none).
    """

    table: pd.DataFrame
    comparisons: pd.DataFrame
    cutoffs: pd.DataFrame
    missing: dict[str, str]
    partial: dict[str, str]
    config: Config


def collect(condition: str | Path) -> Collected:
    """Read every results.json of a condition's run folders.

    Args:
        condition: the condition folder.

    Returns:
        The table with columns `run`, `model_seed`, `data_seed`, `landscape`, `threshold`, `level`
        (the value of the run's `variation`), `variation`, `variant`, `subject` (data set and model), `minima` (of all runs), `train_size`, `native`, `left_out` (what
        was not perturbed, in words) and the quantities of `COLUMNS`, `log_volume_lower` and `log_volume_upper` of its 95 % interval; undefined values and limits are NaN.
        Runs made with other settings than most of the others are left out and named in `missing`.

    Raises:
        MissingStageError: no run has results.
        ConfigError: there is no such folder, or two folders are of the same seeds.
    """
    condition = as_folder(condition, "condition folder")
    own = [load_config(condition / CONFIG_NAME)] if (condition / CONFIG_NAME).is_file() else []
    found: dict[str, RunResults] = {}
    missing: dict[str, str] = {}
    for folder in find_runs(condition):
        try:
            found[folder.name] = read_results(folder)
        except MinimaVolumeError as error:
            missing[folder.name] = str(error)
    refuse_twins((condition / name, (run.config.model_seed, run.config.data_seed)) for name, run in found.items())
    missing |= odd_ones_out({name: run.config for name, run in found.items()})
    kept = {name: run for name, run in found.items() if name not in missing}
    if not kept:
        reasons = (
            "; ".join(f"{run}: {reason}" for run, reason in list(missing.items())[:NAMED]) or "it has no run folders"
        )
        if len(missing) > NAMED:
            reasons += f"; and {len(missing) - NAMED} more runs"
        raise MissingStageError(f"{condition} has no results to analyze ({reasons})")
    runs = list(kept.values())
    others = other_minima({name: run.config for name, run in kept.items()})
    partial = {name: "; ".join(filter(None, (run.partial, others.get(name)))) for name, run in kept.items()}
    cutoffs = pd.DataFrame([row for run in runs for row in run.cutoffs], columns=list(CUTOFF_COLUMNS))
    table = pd.DataFrame([row for run in runs for row in run.rows]).astype(dict.fromkeys(NUMBERS, float))
    return Collected(
        table.assign(minima=" ".join(map(str, sorted(table["level"].unique())))),
        _judged(pd.DataFrame([pair for run in runs for pair in run.pairs], columns=list(PAIR_COLUMNS))),
        cutoffs.astype({"samples": float}),
        missing,
        {name: reason for name, reason in partial.items() if reason},
        (own or [runs[0].config])[0],
    )


def _judged(pairs: pd.DataFrame) -> pd.DataFrame:
    """With p-values adjusted over the pairs of one quantity, landscape and threshold, and which of them are told apart."""
    p_values = pairs["p_value"].astype(float)
    adjusted = p_values.groupby([pairs[name] for name in FAMILY]).transform(lambda family: holm(family.to_numpy()))
    return pairs.assign(p_value=p_values, p_adjusted=adjusted, told_apart=clear(adjusted.to_numpy()))


def compared(collected: Collected, rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The compared pairs of one quantity in the landscape and at the threshold of `rows` that could be tested: one family."""
    pairs = collected.comparisons
    place = (pairs["landscape"] == rows["landscape"].iloc[0]) & (pairs["threshold"] == rows["threshold"].iloc[0])
    return pairs[place & (pairs["quantity"] == column) & pairs["p_value"].notna()]


def select(collected: Collected, landscape: int | None = None, threshold: float | None = None) -> pd.DataFrame:
    """The rows of one landscape (the smallest by default) at one threshold (the headline by default).

    Raises:
        ConfigError: the runs have no such landscape or threshold.
    """
    table = collected.table
    landscape = min(table["landscape"]) if landscape is None else landscape
    threshold = collected.config.volume.headline if threshold is None else threshold
    rows = table[(table["landscape"] == landscape) & (table["threshold"] == threshold)]
    if rows.empty:
        have = {name: sorted(float(value) for value in table[name].unique()) for name in ("landscape", "threshold")}
        raise ConfigError(
            f"no results for landscape {landscape} at threshold {threshold:g}: the runs have landscapes "
            f"{', '.join(f'{value:g}' for value in have['landscape'])} and thresholds "
            f"{', '.join(f'{value:g}' for value in have['threshold'])}; choose among these, or run the stage volume again"
        )
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread over seeds for each level, with 95 % intervals of the means (t): what `make run` prints.

    `x` is what figures draw on the axis: training samples, or what tells the minima of a series apart. Means are over estimates
    (`estimates`, of the `inside` volumes); `log_volume_above` is the smallest lower limit (97.5 %) of the others.
    """
    grouped = rows.groupby("level")
    mass, star, published = (
        aggregate(rows, column).set_index("level") for column in ("log_mass", "log_volume", "log_exp_r_n")
    )
    limits = rows["log_volume_lower"].astype(float).where(bounded(rows, "log_volume"))
    return pd.DataFrame(
        {
            "x": x_of(rows).groupby(rows["level"]).first(),
            "seeds": grouped["run"].nunique(),
            "sigma": grouped["sigma"].first(),
            "log_mass": mass["mean"],
            "log_mass_lower": mass["lower"],
            "log_mass_upper": mass["upper"],
            "log_mass_sd": mass["sd"],
            "log_volume": star["mean"],
            "log_volume_lower": star["lower"],
            "log_volume_upper": star["upper"],
            "log_volume_sd": star["sd"],
            "log_volume_above": limits.groupby(rows["level"]).min(),
            "log_exp_r_n": published["mean"],
            "inside": grouped["log_volume"].count(),
            "estimates": star["seeds"],
            "test_accuracy": grouped["test_accuracy"].mean(),
            "test_loss": grouped["test_loss"].mean(),
            "directions": grouped["num_directions"].min(),
            "censored": grouped["num_censored"].sum(),
            "effective_sample_size": grouped["effective_sample_size"].mean(),
            "largest_share": grouped["largest_share"].mean(),
            "left_out": grouped["left_out"].first().fillna(np.nan),
        }
    ).reset_index()
