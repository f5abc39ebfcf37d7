"""radii.npz: the radii of every direction, and which minima's are still what they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from minima_volume.errors import DamagedFileError, MissingStageError, StaleError
from minima_volume.files.atomic import read_npz
from minima_volume.stages.freshness import results_mark
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import Run
from minima_volume.stages.sweep_files import Sweep
from minima_volume.stages.trained import Trained
from minima_volume.volume.star.radii import Radii

ARRAYS = ("coefficient", "radius", "censored", "reentered")


def radii_arrays(minima: Sequence[int], radii: Sequence[Sequence[Radii]]) -> dict[str, np.ndarray]:
    """Per direction (minima, D): radius, coefficient, censored, reentered; `acc_*` at the accuracy threshold.

    Args:
        minima: their values of the variation.
        radii: of each, at the loss threshold, then at the accuracy threshold if one is paired with it.
    """
    arrays = {"model_data_levels": np.array(minima), "perturbation_seed": radii[0][0].seeds}
    for name in ("radius", "coefficient", "censored", "reentered"):
        for prefix, found in zip(("", "acc_"), zip(*radii, strict=True), strict=False):
            arrays[f"{prefix}{name}"] = np.stack([getattr(one, name) for one in found])
    return arrays


def kept_radii(
    run: Run, trained: Trained, sweeps: Mapping[int, Sweep], landscape: int, threshold: float, seeds: Sequence[int]
) -> dict[int, list[Radii]]:
    """The radii on disk of the minima that are still what they were when these were measured.

    If levels were added or removed since, results.json is of other minima than the run has now, but those that are in both need
    not be measured again.

    Args:
        run: the run.
        trained: its models and samples.
        sweeps: minimum -> its sweep in the landscape.
        landscape: its level.
        threshold: the loss threshold.
        seeds: of the run's directions.

    Returns:
        minimum -> radii at the loss threshold, then at the accuracy threshold if one is paired with it.
    """
    try:
        results = load_results(run.results_file(landscape, threshold))
        arrays = read_npz(run.radii_file(landscape, threshold))
        minima, hashes = results["model_data_levels"], results["weights_hashes"]
        largest = max(map(run.config.level_of, minima))
        if largest > len(trained.dataset.x_additional):
            return {}
        weights = dict(zip(minima, hashes, strict=True))
        mark = results_mark(run.config, threshold, weights, trained.dataset.hash(largest))
        whole = arrays["model_data_levels"].tolist() == minima and arrays["perturbation_seed"].tolist() == list(seeds)
    except (MissingStageError, StaleError, DamagedFileError, KeyError):
        return {}
    if not whole or results.get("fingerprint") != mark:
        return {}
    found = {}
    for i, (minimum, weights_hash) in enumerate(weights.items()):
        if minimum in trained.records and trained.records[minimum]["weights_hash"] == weights_hash:
            starts = {"": sweeps[minimum].loss[0, 0], "acc_": sweeps[minimum].accs[0, 0]}
            found[minimum] = [
                _radii(arrays, prefix, i, float(start), results["radius_tolerance"])
                for prefix, start in starts.items()
                if f"{prefix}radius" in arrays
            ]
    return found


def _radii(arrays: Mapping[str, np.ndarray], prefix: str, i: int, start: float, tolerance: float) -> Radii:
    """One minimum's rows of the file."""
    rows = {name: arrays[f"{prefix}{name}"][i] for name in ARRAYS}
    outside = bool(np.isnan(rows["radius"]).all())
    return Radii(**rows, outside=outside, start=start, seeds=arrays["perturbation_seed"], tolerance=tolerance)
