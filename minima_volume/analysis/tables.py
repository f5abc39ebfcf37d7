"""Many seeds together: one tidy table from the results.json files of a condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from minima_volume.config import Config, load_config
from minima_volume.errors import ConfigError, MinimaVolumeError, MissingStageError, StaleError
from minima_volume.files import read_pt
from minima_volume.layout import CONFIG_NAME, Run, find_runs, read_run
from minima_volume.provenance import require_same
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
    *("run", "landscape", "threshold", "first", "second", "difference", "lower", "upper", "probability"),
    *("told_apart", "verdict"),
)


@dataclass(frozen=True)
class Collected:
    """The results of a condition.

    Attributes:
        table: one row a (run, landscape, threshold, level).
        comparisons: one row a (run, landscape, threshold, pair of levels).
        missing: what could not be read: run folder -> reason.
        config: the condition's configuration (of the first run where the condition has none).
    """

    table: pd.DataFrame
    comparisons: pd.DataFrame
    missing: dict[str, str]
    config: Config


def collect(condition: str | Path) -> Collected:
    """Read every results.json of a condition's run folders.

    Args:
        condition: the condition folder.

    Returns:
        The table with columns `run`, `model_seed`, `data_seed`, `landscape`, `threshold`, `level`
        (the value of the run's `variation`), `variation`, `train_size`, `native` and the
        quantities of `COLUMNS`, `log_volume_lower` and `log_volume_upper` of its 95 % interval; undefined values and limits are NaN.

    Raises:
        MissingStageError: no run has results.
    """
    condition = Path(condition)
    if not condition.is_dir():
        raise MissingStageError(f"condition folder {condition} does not exist")
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    configs: list[Config] = [load_config(condition / CONFIG_NAME)] if (condition / CONFIG_NAME).is_file() else []
    for folder in find_runs(condition):
        try:
            found, compared, config = _rows_of(folder)
        except MinimaVolumeError as error:
            missing[folder.name] = str(error)
            continue
        rows += found
        pairs += compared
        configs.append(config)
    if not rows:
        reasons = "; ".join(f"{run}: {reason}" for run, reason in missing.items()) or "it has no run folders"
        raise MissingStageError(f"{condition} has no results to analyze ({reasons})")
    table = pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))
    return Collected(table, pd.DataFrame(pairs, columns=list(PAIR_COLUMNS)), missing, configs[0])


def _rows_of(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Config]:
    run = read_run(folder)
    config = run.config
    rows, pairs = [], []
    for landscape in config.data.levels:
        for threshold in config.volume.loss_thresholds:
            path = run.results_file(landscape, threshold)
            results = load_results(path)
            _require_current(run, results, path)
            place = {"run": folder.name, "landscape": landscape, "threshold": threshold}
            pairs += [place | _pair_row(comparison) for comparison in results["comparisons"]]
            for i, level in enumerate(results["model_data_levels"]):
                rows.append(
                    {
                        "run": folder.name,
                        "model_seed": config.model_seed,
                        "data_seed": config.data_seed,
                        "landscape": landscape,
                        "threshold": threshold,
                        "level": level,
                        "variation": config.variation,
                        "train_size": config.data.base_size + config.level_of(level),
                        "native": config.variation == "level" and level == landscape,
                    }
                    | _mass_columns(results, i)
                    | {column: results[key][i] for column, key in COLUMNS.items()}
                    | dict(
                        zip(
                            ("log_volume_lower", "log_volume_upper"),
                            results["log_volume_intervals"][i] or (None, None),
                            strict=True,
                        )
                    )
                )
    return rows, pairs, config


def _mass_columns(results: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The Gaussian local volume of the i-th minimum at the headline sigma, None where it was not measured."""
    names = ("sigma", "log_mass_lower", "log_mass_upper", *MASS_COLUMNS)
    if "log_mass_values" not in results:
        return dict.fromkeys(names)
    k = results["sigmas"].index(results["sigma"])
    low, high = results["log_mass_intervals"][i][k] or (None, None)
    found = {"sigma": results["sigma"], "log_mass_lower": low, "log_mass_upper": high}
    return found | {column: results[key][i][k] for column, key in MASS_COLUMNS.items()}


def _pair_row(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """One comparison, first minus second, of log-volumes."""
    lower, upper = comparison["log_volume_interval"]
    return {
        "first": comparison["levels"][0],
        "second": comparison["levels"][1],
        "difference": comparison["log_volume_difference"],
        "lower": lower,
        "upper": upper,
        "probability": comparison["log_volume_probability"],
        "told_apart": comparison["told_apart"],
        "verdict": comparison["verdict"],
    }


def _require_current(run: Run, results: dict[str, Any], path: Path) -> None:
    """Refuse results made with other settings, or from other weights than the run's models have now.

    Models that were removed to save space are not asked.
    """
    settings = run.config.model_dump()
    settings["volume"] = {"top_k": run.config.volume.top_k, "radius_tolerance": run.config.volume.radius_tolerance}
    for key in ("loss_ceiling", "shard_size", "workers", "memory_gib"):  # these do not change the numbers
        del settings["perturbation"][key]
    del settings["experiment"]["name"], settings["experiment"]["output_dir"], settings["data"]["store"]
    way_out = "Run 'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`) again, or set it back."
    require_same(results["settings"], settings, path, way_out)
    for level, weights_hash in zip(results["model_data_levels"], results["weights_hashes"], strict=True):
        model = run.model_file(level)
        if model.is_file() and read_pt(model).get("weights_hash") != weights_hash:
            raise StaleError(f"{path} was measured on other weights than {model.name} has now. {way_out}")


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
    """Mean and spread over seeds for each level: what `make run` prints."""
    grouped = rows.groupby("level")
    return pd.DataFrame(
        {
            "seeds": grouped["run"].nunique(),
            "sigma": grouped["sigma"].first(),
            "log_mass": grouped["log_mass"].mean(),
            "log_mass_sd": grouped["log_mass"].std(),
            "log_volume": grouped["log_volume"].mean(),
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
