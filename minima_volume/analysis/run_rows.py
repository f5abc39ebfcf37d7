"""One run as rows of the tidy tables, from its results.json files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minima_volume.analysis.results import Comparison, Results, Star
from minima_volume.analysis.subjects import subject
from minima_volume.config.run import Config
from minima_volume.errors import DamagedFileError, MinimaVolumeError, StaleError
from minima_volume.files.atomic import read_json, read_pt
from minima_volume.files.content import interpreted
from minima_volume.stages.freshness import require_same, results_settings
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import WHICH_MINIMA, Run, read_run

CUTOFF_COLUMNS = ("run", "level", "threshold", "samples", "inside_all")


@dataclass(frozen=True)
class RunResults:
    """What one run folder has.

    Attributes:
        rows: one a (landscape, threshold, level), for `Collected.table`.
        pairs: for `Collected.comparisons`.
        cutoffs: for `Collected.cutoffs`.
        partial: what it lacks; None if nothing.
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
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    settings = results_settings(run.config)
    hashes = {level: _weights_hash(run, level) for level in config.minima}
    for landscape in config.data.levels:
        for threshold in config.volume.loss_thresholds:
            path = run.results_file(landscape, threshold)
            results = Results(load_results(path))
            _require_current(run, settings, results, path, hashes)
            rows += _rows(run, results)
            place = {"run": folder.name, "landscape": landscape, "threshold": threshold}
            pairs += [place | _pair("log_mass", pair) for pair in results.mass_comparisons()]
            pairs += [place | _pair("log_volume", pair) for pair in results.comparisons()]
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
                    if not (isinstance(level, int) and isinstance(samples, int | None)):
                        raise TypeError(
                            f"cutoffs.{threshold} is {samples!r:.40} at {level!r:.40}, not a number of samples"
                        )
                    rows.append(dict(zip(CUTOFF_COLUMNS, place, strict=False)) | {"inside_all": samples is None})
    except DamagedFileError as error:
        return [], str(error)
    return rows, None


def _rows(run: Run, results: Results) -> list[dict[str, Any]]:
    """One row per minimum of a landscape at a threshold."""
    config = run.config
    shared = {
        "run": run.folder.name,
        "model_seed": config.model_seed,
        "data_seed": config.data_seed,
        "landscape": results.landscape,
        "threshold": results.threshold,
        "variation": config.variation,
        "variant": config.data.variant,
        "subject": subject(config.model_dump()),
    }
    return [
        shared
        | {
            "level": level,
            "train_size": config.data.base_size + config.level_of(level),
            "native": i == results.native,
            "left_out": results.left_out(i, zero=False),
        }
        | _quantities(results, i, star)
        for i, (level, star) in enumerate(zip(results.minima, results.stars(), strict=True))
    ]


def _quantities(results: Results, i: int, star: Star) -> dict[str, Any]:
    """The numbers of the i-th minimum: its Gaussian local volume at the headline sigma (None if not measured), its star region, its losses."""
    content = results.content
    mass = results.headline_masses[i] if results.has_masses() else None
    return {
        "sigma": results.sigma,
        "log_mass_lower": mass and mass.limits[0],
        "log_mass_upper": mass and mass.limits[1],
        "log_mass": mass and mass.value,
        "log_mass_verdict": mass and mass.verdict,
        "log_exp_r_n": star.log_exp_r_n,
        "log_volume": star.log_volume,
        "effective_sample_size": star.effective_sample_size,
        "largest_share": star.largest_share,
        "num_directions": star.num_directions,
        "num_censored": star.num_censored,
        "test_loss": content["test_loss_values"][i],
        "test_accuracy": content["test_accuracy_values"][i],
        "train_loss": content["train_loss_values"][i],
        "start_loss": content["start_loss_values"][i],
        "verdict": star.verdict,
        "log_volume_lower": star.limits[0],
        "log_volume_upper": star.limits[1],
    }


def _pair(quantity: str, pair: Comparison) -> dict[str, Any]:
    """One comparison of two minima, first minus second."""
    return {
        "quantity": quantity,
        "first": pair.first,
        "second": pair.second,
        "difference": pair.difference,
        "lower": pair.limits[0],
        "upper": pair.limits[1],
        "probability": pair.probability,
        "p_value": pair.p_value,
        "verdict": pair.verdict,
    }


def _weights_hash(run: Run, level: int) -> str | None:
    """Of the model that the run has now; None if models were removed to save space."""
    model = run.model_file(level)
    return read_pt(model).get("weights_hash") if model.is_file() else None


def _require_current(
    run: Run, settings: Mapping[str, Any], results: Results, path: Path, hashes: Mapping[int, str | None]
) -> None:
    """Refuse results made with other settings, or from other weights than the run's models have now."""
    way_out = "Run 'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`) again, or set it back."
    require_same(results.content["settings"], settings, path, way_out)
    wanted = [m for m in run.config.minima if run.config.level_of(m) >= results.landscape]
    if results.minima != wanted:
        listed = WHICH_MINIMA[run.config.variation][0]
        raise StaleError(f"{path} has minima {results.minima}, {listed} in config.yaml ask for {wanted}. {way_out}")
    for level, weights_hash in zip(results.minima, results.content["weights_hashes"], strict=True):
        if hashes.get(level) not in (None, weights_hash):
            name = run.model_file(level).name
            raise StaleError(f"{path} was measured on other weights than {name} has now. {way_out}")
