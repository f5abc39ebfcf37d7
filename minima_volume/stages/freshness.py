"""What is on disk of one landscape at one threshold, and which of its minima are still what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_json, read_npz
from minima_volume.files.content import interpreted
from minima_volume.stages.results.format import OLDEST
from minima_volume.stages.run import Run
from minima_volume.stages.sweep import sweep_seeds
from minima_volume.stages.sweep_files import Sweep, sweep_settings
from minima_volume.stages.train import Trained
from minima_volume.volume.star.radii import Radii

ARRAYS = ("coefficient", "radius", "censored", "reentered")


def fingerprint(run: Run, landscape: int, threshold: float, weights: Mapping[int, str], data_hash: str) -> str:
    """A hash of everything that decides the numbers of one results.json.

    Args:
        run: the run.
        landscape: its level.
        threshold: the loss threshold.
        weights: minimum -> hash of its weights, of all minima in the file.
        data_hash: of the samples up to the largest level among them.
    """
    config = run.config
    parts = {
        "format": OLDEST,
        "weights": dict(weights),
        "data": data_hash,
        "directions": [config.seeds.perturbation, config.perturbation.num_directions],
        "settings": sweep_settings(run),
        "max_coefficient": config.perturbation.max_coefficient,
        "tolerance": config.volume.radius_tolerance,
        "top_k": config.volume.top_k,
        "threshold": [threshold, config.volume.accuracy_for(threshold)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def present_fingerprint(run: Run, trained: Trained, landscape: int, threshold: float) -> str:
    """The fingerprint of the results.json that the run's present minima make."""
    level_of = run.config.level_of
    weights = {m: record["weights_hash"] for m, record in trained.records.items() if level_of(m) >= landscape}
    return fingerprint(run, landscape, threshold, weights, trained.dataset.hash())


def is_current(run: Run, trained: Trained, landscape: int, threshold: float) -> bool:
    """Whether results.json is there and was made from the present weights, data and settings."""
    path = run.results_file(landscape, threshold)
    if not (path.is_file() and run.radii_file(landscape, threshold).is_file()):
        return False
    try:
        read_npz(run.radii_file(landscape, threshold))
        return read_json(path).get("fingerprint") == present_fingerprint(run, trained, landscape, threshold)
    except DamagedFileError:
        return False


def kept_radii(
    run: Run, trained: Trained, sweeps: Mapping[tuple[int, int], Sweep], landscape: int, threshold: float
) -> dict[int, list[Radii]]:
    """The radii on disk of the minima that are still what they were when these were measured.

    Where levels were added or removed since, results.json is of other minima than the run has now, but those that are in both need
    not be measured again.

    Args:
        run: the run.
        trained: its models and samples.
        sweeps: (landscape, minimum) -> sweep.
        landscape: its level.
        threshold: the loss threshold.

    Returns:
        minimum -> radii at the loss threshold, then at the accuracy threshold where one is paired with it.
    """
    try:
        results = read_json(run.results_file(landscape, threshold))
        arrays = read_npz(run.radii_file(landscape, threshold))
        with interpreted(run.results_file(landscape, threshold)):
            minima, hashes = results["model_data_levels"], results["weights_hashes"]
            largest = max(map(run.config.level_of, minima))
        if largest > len(trained.dataset.x_additional):
            return {}
        mark = fingerprint(
            run, landscape, threshold, dict(zip(minima, hashes, strict=True)), trained.dataset.hash(largest)
        )
        whole = arrays["model_data_levels"].tolist() == minima and arrays["perturbation_seed"].tolist() == sweep_seeds(
            run
        )
    except (MissingStageError, DamagedFileError, KeyError):
        return {}
    if not whole or results.get("fingerprint") != mark:
        return {}
    found = {}
    for i, (minimum, weights_hash) in enumerate(zip(minima, hashes, strict=True)):
        if minimum in trained.records and trained.records[minimum]["weights_hash"] == weights_hash:
            sweep = sweeps[landscape, minimum]
            starts = {"": sweep.loss[0, 0], "acc_": sweep.accs[0, 0]}
            found[minimum] = [
                _radii(arrays, prefix, i, float(start), results["radius_tolerance"])
                for prefix, start in starts.items()
                if f"{prefix}radius" in arrays
            ]
    return found


def _radii(arrays: Mapping[str, np.ndarray], prefix: str, i: int, start: float, tolerance: float) -> Radii:
    """One minimum's rows of radii.npz; `results.radii_arrays` wrote them."""
    rows = {name: arrays[f"{prefix}{name}"][i] for name in ARRAYS}
    outside = bool(np.isnan(rows["radius"]).all())
    return Radii(**rows, outside=outside, start=start, seeds=arrays["perturbation_seed"], tolerance=tolerance)
