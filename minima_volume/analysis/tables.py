"""Many seeds together: one tidy table from the results.json files of a condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from minima_volume.analysis.aggregates import aggregate
from minima_volume.analysis.settings import odd_ones_out
from minima_volume.config import Config, load_config
from minima_volume.errors import ConfigError, MinimaVolumeError, MissingStageError, StaleError
from minima_volume.files import read_json, read_pt
from minima_volume.layout import CONFIG_NAME, Run, find_runs, read_run
from minima_volume.provenance import require_same
from minima_volume.volume.mass_keys import CONFIDENT
from minima_volume.volume.results import load_results

COLUMNS = {
    "log_exp_r_n": "log_exp_r_n_values",
    "log_volume": "log_volume_values",
    "effective_sample_size": "effective_sample_size",
    "largest_share": "largest_share",
    "num_directions": "num_directions",
    "num_censored": "num_censored",
    "test_loss": "test_loss_values",
    "test_accuracy": "test_accuracy_values",
    "train_loss": "train_loss_values",
    "start_loss": "start_loss_values",
    "verdict": "verdicts",
}


MASS_COLUMNS = {
    "log_mass": "log_mass_values",
    "log_mass_verdict": "log_mass_verdicts",
}
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
    *("told_apart", "verdict"),
)
NAMED = 3  # runs without results, in an error
CUTOFF_COLUMNS = ("run", "level", "threshold", "samples", "inside_all")


@dataclass(frozen=True)
class Collected:
    """The results of a condition.

    Attributes:
        table: one row a (run, landscape, threshold, level).
        comparisons: one row a (run, landscape, threshold, quantity, pair of levels); quantity is `log_mass` or `log_volume`.
        cutoffs: one row a (run, level, threshold): `samples` at which the minimum leaves, NaN where it never does (`inside_all`).
        missing: what could not be read or is not comparable: run folder -> reason.
        partial: what else a run that is in the tables lacks: run folder -> reason.
        config: the condition's configuration (of the first run where the condition has none).
    """

    table: pd.DataFrame
    comparisons: pd.DataFrame
    cutoffs: pd.DataFrame
    missing: dict[str, str]
    partial: dict[str, str]
    config: Config


@dataclass(frozen=True)
class _Found:
    """What one run folder has."""

    rows: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    cutoffs: list[dict[str, Any]]
    partial: str | None
    config: Config


def collect(condition: str | Path) -> Collected:
    """Read every results.json of a condition's run folders.

    Args:
        condition: the condition folder.

    Returns:
        The table with columns `run`, `model_seed`, `data_seed`, `landscape`, `threshold`, `level`
        (the value of the run's `variation`), `variation`, `variant`, `train_size`, `native` and the
        quantities of `COLUMNS`, `log_volume_lower` and `log_volume_upper` of its 95 % interval; undefined values and limits are NaN.
        Runs made with other settings than most of the others are left out and named in `missing`.

    Raises:
        MissingStageError: no run has results.
    """
    condition = Path(condition)
    if not condition.is_dir():
        raise MissingStageError(f"condition folder {condition} does not exist")
    own = [load_config(condition / CONFIG_NAME)] if (condition / CONFIG_NAME).is_file() else []
    found: dict[str, _Found] = {}
    missing: dict[str, str] = {}
    for folder in find_runs(condition):
        try:
            found[folder.name] = _read(folder)
        except MinimaVolumeError as error:
            missing[folder.name] = str(error)
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
    cutoffs = pd.DataFrame([row for run in runs for row in run.cutoffs], columns=list(CUTOFF_COLUMNS))
    return Collected(
        pd.DataFrame([row for run in runs for row in run.rows]).astype(dict.fromkeys(NUMBERS, float)),
        pd.DataFrame([pair for run in runs for pair in run.pairs], columns=list(PAIR_COLUMNS)),
        cutoffs.astype({"samples": float}),
        missing,
        {name: run.partial for name, run in kept.items() if run.partial},
        (own or [runs[0].config])[0],
    )


def _read(folder: Path) -> _Found:
    run = read_run(folder)
    config = run.config
    rows, pairs, settings = [], [], _settings(run)
    hashes = {level: _weights_hash(run, level) for level in config.minima}
    for landscape in config.data.levels:
        for threshold in config.volume.loss_thresholds:
            path = run.results_file(landscape, threshold)
            results = load_results(path)
            _require_current(run, settings, results, path, hashes)
            place = {"run": folder.name, "landscape": landscape, "threshold": threshold}
            pairs += [place | _mass_pair(pair) for pair in results.get("log_mass_comparisons", [])]
            pairs += [place | _pair_row(comparison) for comparison in results["comparisons"]]
            for i, level in enumerate(results["model_data_levels"]):
                lower, upper = results["log_volume_intervals"][i] or (None, None)
                rows.append(
                    {
                        "run": folder.name,
                        "model_seed": config.model_seed,
                        "data_seed": config.data_seed,
                        "landscape": landscape,
                        "threshold": threshold,
                        "level": level,
                        "variation": config.variation,
                        "variant": config.data.variant,
                        "train_size": config.data.base_size + config.level_of(level),
                        "native": config.variation == "level" and level == landscape,
                    }
                    | _mass_columns(results, i)
                    | {column: results[key][i] for column, key in COLUMNS.items()}
                    | {"log_volume_lower": lower, "log_volume_upper": upper}
                )
    cutoffs, partial = _cutoffs(run)
    return _Found(rows, pairs, cutoffs, partial, config)


def _cutoffs(run: Run) -> tuple[list[dict[str, Any]], str | None]:
    """Where each minimum leaves, and what is wrong with the file where something is."""
    try:
        stored = read_json(run.cutoffs_file)
    except MinimaVolumeError as error:
        return [], str(error)
    rows = []
    for entry in stored.values():
        for threshold, samples in entry.get("cutoffs", {}).items():
            level = entry.get("variation_value", entry["additional_data"])
            rows.append(dict(zip(CUTOFF_COLUMNS, (run.folder.name, level, float(threshold), samples), strict=False)))
            rows[-1]["inside_all"] = samples is None
    return rows, None


def _mass_columns(results: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The Gaussian local volume of the i-th minimum at the headline sigma, None where it was not measured."""
    names = ("sigma", "log_mass_lower", "log_mass_upper", *MASS_COLUMNS)
    if "log_mass_values" not in results:
        return dict.fromkeys(names)
    k = results["sigmas"].index(results["sigma"])
    low, high = results["log_mass_intervals"][i][k] or (None, None)
    found = {"sigma": results["sigma"], "log_mass_lower": low, "log_mass_upper": high}
    return found | {column: results[key][i][k] for column, key in MASS_COLUMNS.items()}


def _mass_pair(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison, first minus second, of Gaussian local volumes."""
    probability = comparison["probability"]
    lower, upper = comparison["interval"] or (None, None)
    return {
        "quantity": "log_mass",
        "first": comparison["levels"][0],
        "second": comparison["levels"][1],
        "difference": comparison["difference"],
        "lower": lower,
        "upper": upper,
        "probability": probability,
        "told_apart": probability is not None and max(probability, 1 - probability) >= CONFIDENT,
        "verdict": comparison["verdict"],
    }


def _pair_row(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison, first minus second, of log-volumes."""
    lower, upper = comparison["log_volume_interval"]
    return {
        "quantity": "log_volume",
        "first": comparison["levels"][0],
        "second": comparison["levels"][1],
        "difference": comparison["log_volume_difference"],
        "lower": lower,
        "upper": upper,
        "probability": comparison["log_volume_probability"],
        "told_apart": comparison["told_apart"],
        "verdict": comparison["verdict"],
    }


def _weights_hash(run: Run, level: int) -> str | None:
    """Of the model the run has now; None where models were removed to save space, which are not asked."""
    model = run.model_file(level)
    return read_pt(model).get("weights_hash") if model.is_file() else None


def _settings(run: Run) -> dict[str, Any]:
    """What decides the numbers of results.json."""
    settings = run.config.model_dump(
        include={"experiment", "seeds", "data", "model", "training", "checkpoint", "perturbation"}
    )
    settings["volume"] = {"top_k": run.config.volume.top_k, "radius_tolerance": run.config.volume.radius_tolerance}
    for key in ("loss_ceiling", "shard_size", "workers", "memory_gib"):  # these do not change the numbers
        del settings["perturbation"][key]
    del settings["experiment"]["name"], settings["experiment"]["output_dir"], settings["data"]["store"]
    return settings


def _require_current(
    run: Run, settings: Mapping[str, Any], results: dict[str, Any], path: Path, hashes: Mapping[int, str | None]
) -> None:
    """Refuse results made with other settings, or from other weights than the run's models have now."""
    way_out = "Run 'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`) again, or set it back."
    require_same(results["settings"], settings, path, way_out)
    for level, weights_hash in zip(results["model_data_levels"], results["weights_hashes"], strict=True):
        if hashes.get(level) not in (None, weights_hash):
            name = run.model_file(level).name
            raise StaleError(f"{path} was measured on other weights than {name} has now. {way_out}")


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
    """Mean and spread over seeds for each level, with 95 % intervals of the means (t): what `make run` prints."""
    grouped = rows.groupby("level")
    mass, star = (aggregate(rows, column).set_index("level") for column in ("log_mass", "log_volume"))
    return pd.DataFrame(
        {
            "seeds": grouped["run"].nunique(),
            "sigma": grouped["sigma"].first(),
            "log_mass": grouped["log_mass"].mean(),
            "log_mass_lower": mass["lower"],
            "log_mass_upper": mass["upper"],
            "log_mass_sd": grouped["log_mass"].std(),
            "log_volume": grouped["log_volume"].mean(),
            "log_volume_lower": star["lower"],
            "log_volume_upper": star["upper"],
            "log_volume_sd": grouped["log_volume"].std(),
            "log_exp_r_n": grouped["log_exp_r_n"].mean(),
            "inside": grouped["log_volume"].count(),
            "estimates": grouped["log_volume_upper"].count(),  # the others have no upper limit: lower bounds
            "test_accuracy": grouped["test_accuracy"].mean(),
            "test_loss": grouped["test_loss"].mean(),
            "directions": grouped["num_directions"].min(),
            "censored": grouped["num_censored"].sum(),
            "effective_sample_size": grouped["effective_sample_size"].mean(),
            "largest_share": grouped["largest_share"].mean(),
        }
    ).reset_index()
