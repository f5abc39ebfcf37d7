"""One run as rows of the tidy tables, from its results.json files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minima_volume.config.run import Config
from minima_volume.errors import DamagedFileError, MinimaVolumeError, StaleError
from minima_volume.files.atomic import read_json, read_pt
from minima_volume.files.content import interpreted
from minima_volume.stages.provenance import require_same
from minima_volume.stages.results.content import load_results
from minima_volume.stages.results.star_keys import still_of
from minima_volume.stages.run import WHICH_MINIMA, Run, read_run
from minima_volume.volume.claims import two_sided

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
CUTOFF_COLUMNS = ("run", "level", "threshold", "samples", "inside_all")


@dataclass(frozen=True)
class RunResults:
    """What one run folder has.

    Attributes:
        rows: one a (landscape, threshold, level), for `Collected.table`.
        pairs: for `Collected.comparisons`.
        cutoffs: for `Collected.cutoffs`.
        partial: what it lacks, None where nothing.
        config: its configuration.
    """

    rows: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    cutoffs: list[dict[str, Any]]
    partial: str | None
    config: Config


def read_results(folder: Path) -> RunResults:
    """Everything that a run folder's results.json files and cutoffs.json say.

    Raises:
        MissingStageError, DamagedFileError: a results.json is absent or cannot be read.
        StaleError: one was made with other settings, or from other weights than the run has now.
    """
    run = read_run(folder)
    config = run.config
    rows, pairs, settings = [], [], _settings(run)
    hashes = {level: _weights_hash(run, level) for level in config.minima}
    for landscape in config.data.levels:
        for threshold in config.volume.loss_thresholds:
            path = run.results_file(landscape, threshold)
            results = load_results(path)
            _require_current(run, settings, results, path, hashes)
            with interpreted(path):
                place = {"run": folder.name, "landscape": landscape, "threshold": threshold}
                pairs += [place | _pair(pair, "log_mass", "") for pair in results.get("log_mass_comparisons", [])]
                pairs += [place | _pair(pair, "log_volume", "log_volume_") for pair in results["comparisons"]]
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
                            "left_out": still_of(results, i, zero=False),
                        }
                        | _mass_columns(results, i)
                        | {column: results[key][i] for column, key in COLUMNS.items()}
                        | {"log_volume_lower": lower, "log_volume_upper": upper}
                    )
    cutoffs, partial = _cutoffs(run)
    return RunResults(rows, pairs, cutoffs, partial, config)


def _cutoffs(run: Run) -> tuple[list[dict[str, Any]], str | None]:
    """Where each minimum leaves, and what is wrong with the file where something is."""
    try:
        stored = read_json(run.cutoffs_file)
    except MinimaVolumeError as error:
        return [], str(error)
    rows: list[dict[str, Any]] = []
    try:
        with interpreted(run.cutoffs_file):
            for entry in stored.values():
                for threshold, samples in entry.get("cutoffs", {}).items():
                    level = entry.get("variation_value", entry["additional_data"])
                    place = run.folder.name, level, float(threshold), samples
                    rows.append(dict(zip(CUTOFF_COLUMNS, place, strict=False)) | {"inside_all": samples is None})
    except DamagedFileError as error:
        return [], str(error)
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


def _pair(comparison: Mapping[str, Any], quantity: str, prefix: str) -> dict[str, Any]:
    """One comparison of two minima, first minus second; `prefix` is what its keys begin with in results.json."""
    lower, upper = comparison[f"{prefix}interval"] or (None, None)
    probability = comparison[f"{prefix}probability"]
    return {
        "quantity": quantity,
        "first": comparison["levels"][0],
        "second": comparison["levels"][1],
        "difference": comparison[f"{prefix}difference"],
        "lower": lower,
        "upper": upper,
        "probability": probability,
        "p_value": comparison.get(f"{prefix}p_value", two_sided(probability)),
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
    del settings["experiment"]["allow_outside"]
    for section, key in (dotted.split(".") for dotted in WHICH_MINIMA[run.config.variation]):
        del settings[section][key]
    return settings


def _require_current(
    run: Run, settings: Mapping[str, Any], results: dict[str, Any], path: Path, hashes: Mapping[int, str | None]
) -> None:
    """Refuse results made with other settings, or from other weights than the run's models have now."""
    way_out = "Run 'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`) again, or set it back."
    require_same(results["settings"], settings, path, way_out)
    wanted = [m for m in run.config.minima if run.config.level_of(m) >= results["loss_landscape_data_param"]]
    if results["model_data_levels"] != wanted:
        listed = WHICH_MINIMA[run.config.variation][0]
        raise StaleError(
            f"{path} has minima {results['model_data_levels']}, {listed} in config.yaml ask for {wanted}. {way_out}"
        )
    for level, weights_hash in zip(results["model_data_levels"], results["weights_hashes"], strict=True):
        if hashes.get(level) not in (None, weights_hash):
            name = run.model_file(level).name
            raise StaleError(f"{path} was measured on other weights than {name} has now. {way_out}")
