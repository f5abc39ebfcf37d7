"""Conditions with made-up numbers, for tables and figures over seeds: no model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from helpers import tiny

from minima_volume.files.atomic import write_json
from minima_volume.files.yaml import write_yaml
from minima_volume.stages.run import Run, read_run

LEVELS = (0, 20, 40)


def fake_condition(
    folder: Path, seeds: int = 3, overrides: dict[str, Any] | None = None, masses: bool = True, trusted: bool = False
) -> Path:
    """A condition of `seeds` runs whose volumes fall with the data they were trained on: see `log_mass` and `log_volume`.

    The log volumes have lower limits alone, unless they are `trusted`.
    """
    settings = {"data.levels": list(LEVELS), "volume.accuracy_thresholds": None} | (overrides or {})
    settings |= {"volume.gaussian": {"sigma": 0.1}} if masses else {}
    write_yaml(folder / "config.yaml", tiny(settings))
    for seed in range(seeds):
        fake_run(folder / f"model_{seed}_data_{10 + seed}", seed, settings, masses, trusted)
    return folder


def log_mass(seed: int, size: int, train_size: int) -> float:
    """Exactly linear in the log of both sizes: slope -2 over native minima, and seeds shifted by 0.1."""
    return 0.1 * seed - 1.5 * np.log(train_size) - 0.5 * np.log(size)


def log_volume(seed: int, size: int, train_size: int) -> float:
    """Falls too, but the largest two change places in odd seeds."""
    return (
        -1000.0 * np.log(train_size + (30 if seed % 2 and train_size == 20 else 0)) - 100.0 * np.log(size) + 40 * seed
    )


def fake_run(folder: Path, seed: int, settings: dict[str, Any], masses: bool = True, trusted: bool = False) -> Run:
    """One run folder: config.yaml, every results.json, and cutoffs.json."""
    write_yaml(folder / "config.yaml", tiny({"seeds.model": seed, "seeds.data": 10 + seed} | settings))
    run = read_run(folder)
    config = run.config
    for landscape in config.data.levels:
        minima = [minimum for minimum in config.minima if config.level_of(minimum) >= landscape]
        for threshold in config.volume.loss_thresholds:
            results = fake_results(run, landscape, minima, seed, masses, trusted)
            write_json(run.results_file(landscape, threshold), results | {"loss_threshold": threshold})
    cutoffs = {}
    for minimum in config.minima:
        cutoffs[f"Model_{minimum}"] = {
            "additional_data": config.level_of(minimum),
            "variation": config.variation,
            "variation_value": minimum,
            "base_train_size": config.data.base_size,
            "indices": [1, 2],
            "loss_curve": [0.1, 0.2],
            "cutoffs": {
                f"{t:g}": None if minimum == config.minima[-1] else config.data.base_size + minimum + 5 + seed
                for t in config.volume.loss_thresholds
            },
        }
    write_json(run.cutoffs_file, cutoffs)
    return run


def fake_results(
    run: Run, landscape: int, minima: Sequence[int], seed: int, masses: bool, trusted: bool
) -> dict[str, Any]:
    """A results.json."""
    config, count = run.config, len(minima)
    base = config.data.base_size
    sizes = [base + (q if config.variation in ("level",) else i) for i, q in enumerate(minima)]
    volumes = [log_volume(seed, base + landscape, n) for n in sizes]
    mass = [log_mass(seed, base + landscape, n) for n in sizes]
    pairs = [list(pair) for pair in pairwise(minima)]
    results: dict[str, Any] = {
        "model_data_levels": list(minima),
        "variation": config.variation,
        "loss_landscape_data_param": landscape,
        "base_dataset_size": base,
        "log_exp_r_n_values": volumes,
        "log_exp_r_n_intervals": [[v - 4, v + 4 if trusted else None] for v in volumes],
        "log_volume_values": volumes,
        "log_volume_intervals": [[v - 4, v + 4 if trusted else None] for v in volumes],
        "effective_sample_size": [1.2] * count,
        "largest_share": [0.9] * count,
        "num_directions": [500] * count,
        "num_censored": [0] * count,
        "test_loss_values": [2.0 / np.log(n) for n in sizes],
        "test_accuracy_values": [1 - 1 / np.log(n) for n in sizes],
        "train_loss_values": [0.01] * count,
        "start_loss_values": [0.02] * count,
        "verdicts": ["cannot be trusted: one direction of 500 decides it (effective sample size 1.2)"] * count,
        "comparisons": [
            {
                "levels": pair,
                "log_volume_difference": 10.0,
                "log_volume_interval": [None, None],
                "log_volume_probability": None,
                "told_apart": False,
                "verdict": "these two minima cannot be told apart",
            }
            for pair in pairs
        ],
        "overall_verdict": "no volume is an estimate",
        "log_exp_r_n_growth": {
            "num_directions": [1],
            **dict.fromkeys(("values", "effective_sample_sizes", "largest_minus_log_directions"), [[1.0]] * count),
        },
        "top_r_vals": [[1.0] * 50] * count,
        "settings": run.config.model_dump(),
        "weights_hashes": ["none"] * count,
    }
    if masses:
        results |= {
            "sigmas": [0.1],
            "sigma": 0.1,
            "log_mass_values": [[m] for m in mass],
            "log_mass_intervals": [[[m - 0.05, m + 0.05]] for m in mass],
            "log_mass_verdicts": [["measured"]] * count,
            "log_mass_methods": [["splitting"]] * count,
            "log_mass_num_stages": [[3.0]] * count,
            "log_mass_num_forward": [[1000]] * count,
            "log_mass_notes": [[None]] * count,
            "log_mass_comparisons": [
                {"levels": pair, "difference": 0.4, "interval": [0.2, 0.6], "probability": 0.999, "verdict": "larger"}
                for pair in pairs
            ],
        }
    return results
