"""The settings that each file of a run depends on, in one place: a file made with others is stale.

Files rest on each other: dataset.pt, the models, their sweeps, radii.npz and results.json, and beside it the Gaussian local
volumes; views.json rests on the models. A file names the hashes of what it rests on, so the settings of the files below it,
device and threads among them, need not be compared again.

A setting that did not exist when a file was written makes nothing stale: `ABSENT` holds the value that it had then. A changed
default or algorithm raises the version of its estimator, which files and marks carry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minima_volume.config.run import Config
from minima_volume.errors import StaleError
from minima_volume.stages.run import WHICH_MINIMA
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.plan import MassSettings

# dotted setting -> what it was in files that were written before it existed
ABSENT: dict[str, Any] = {}
RADII, MASSES = 2, 6  # versions of the estimators
FIRST_MASSES = 1  # Student's interval of splitting, and a pilot that was counted if it had many hits: see `mass_cells`
# 2: always a stated number of moves between two stages; 3: also the pace of a pilot, with stages of a quarter; 4: of a half; 5: particles of
# large networks share directions, and there are plain samples for half as many hits; 6: each minimum has random numbers of its own.
# The mark of a cell holds the settings of all of these, and means today what it did
MARKED_MASSES = (2, 3, 4, 5, MASSES)
SAME_DEFAULTS = (4, 5, MASSES)  # versions whose defaults are those of today

TRAIN_AGAIN = "Set it back, or remove the run's models (`minima-volume clean RUN --what models`) and train again."
SWEEP_AGAIN = "Set it back, or remove the sweeps (`minima-volume clean RUN --what sweeps`) and run notebook 2 again."


def data_settings(config: Config) -> dict[str, Any]:
    """What decides the samples of dataset.pt; its levels, and how it keeps samples, do not."""
    return {"data": config.data.model_dump(exclude={"levels", "store"}), "seeds": {"data": config.data_seed}}


def weights_settings(config: Config) -> dict[str, Any]:
    """What decides the weights of a run's models, whichever other minima the run has."""
    settings: dict[str, Any] = {
        "seeds": {"model": config.model_seed, "data": config.data_seed},
        "data": config.data.model_dump(exclude={"store"}),
        "model": config.model.model_dump(),
        "training": config.training.model_dump(),
        "checkpoint": config.checkpoint.model_dump(),
        "experiment": {"threads": config.experiment.threads, "device": config.experiment.device},
    }
    for dotted in WHICH_MINIMA[config.variation]:
        section, key = dotted.split(".")
        del settings[section][key]
    return settings


def sweep_settings(config: Config) -> dict[str, Any]:
    """What decides the numbers of a sweep, beside its model; how many directions it has and where they stop do not."""
    perturbation = config.perturbation
    return {
        "perturbation": {
            "coefficients": perturbation.coefficients.model_dump(),
            "scaling": perturbation.scaling,
            "names": perturbation.names,
        },
        "experiment": {"threads": config.experiment.threads, "device": config.experiment.device},
    }


def results_settings(config: Config) -> dict[str, Any]:
    """What decides the numbers of results.json, as the settings that it stores are compared over many runs."""
    settings = weights_settings(config)
    settings["seeds"]["perturbation"] = config.seeds.perturbation
    settings["perturbation"] = config.perturbation.model_dump(
        include={"num_directions", "coefficients", "scaling", "names", "max_coefficient"}
    )
    settings["volume"] = config.volume.model_dump(include={"top_k", "radius_tolerance"})
    return settings


def results_mark(config: Config, threshold: float, weights: Mapping[int, str], data_hash: str) -> str:
    """A hash of what decides the star regions' numbers in one results.json.

    Args:
        config: of the run.
        threshold: the loss threshold.
        weights: minimum -> hash of its weights, of all minima in the file.
        data_hash: of the samples up to the largest level among them.
    """
    return _mark(
        {
            "format": RADII,
            "weights": dict(weights),
            "data": data_hash,
            "directions": [config.seeds.perturbation, config.perturbation.num_directions],
            "settings": sweep_settings(config),
            "max_coefficient": config.perturbation.max_coefficient,
            "tolerance": config.volume.radius_tolerance,
            "top_k": config.volume.top_k,
            "threshold": [threshold, config.volume.accuracy_for(threshold)],
        }
    )


def mass_mark(
    config: Config, record: Mapping[str, Any], size: int, condition: Condition, sigma: float, settings: MassSettings
) -> str:
    """A hash of what decides one Gaussian local volume; which other levels the run has does not.

    Args:
        config: of the run.
        record: of the model.
        size: samples of the landscape.
        condition: the threshold.
        sigma: size of the perturbation.
        settings: of the estimator.
    """
    parts = {
        "format": 1,
        "weights": record["weights_hash"],
        "data": record["data_hash"],
        "size": size,
        "loss": config.training.loss,
        "scaling": [config.perturbation.scaling, config.perturbation.names],
        "seed": config.seeds.perturbation,
        "condition": asdict(condition),
        "sigma": sigma,
        "settings": mass_record(settings),
        "device": config.experiment.device,
    }
    if levels := record["settings"]["data"].get("levels"):  # a series on one data set, or of an earlier version
        parts["sizes"] = [config.data.base_size + level for level in levels]
    return _mark(parts)


def mass_record(settings: MassSettings) -> dict[str, Any]:
    """The settings that decide a Gaussian local volume, for a record."""
    record, how = asdict(settings), settings.splitting
    record["splitting"] |= {"keep": how.kept, "max_stages": how.stages}
    del record["splitting"]["memory"]
    return without_absent(record, "volume.gaussian.")


def views_settings(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """What decides views.json, beside its models and samples: `record` is of the views' own settings."""
    return {
        "settings": dict(record),
        "loss": config.training.loss,
        "base_dataset_size": config.data.base_size,
        "device": config.experiment.device,
        "threads": config.experiment.threads,
    }


def data_level(record: Mapping[str, Any]) -> int:
    """The level up to which the hash of a model's file speaks of the samples: its own.

    Files of earlier versions keep all levels of their run among the settings, and a hash of the samples of the largest.
    """
    return record["settings"]["data"].get("levels", [record["additional_data"]])[-1]


def without_absent(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings without those that have the value from before they existed, so that a hash of them is what it was then."""
    found = {}
    for key, value in settings.items():
        dotted = f"{prefix}{key}"
        if dotted in ABSENT and value == ABSENT[dotted]:
            continue
        found[key] = without_absent(value, f"{dotted}.") if isinstance(value, Mapping) else value
    return found


def require_same(
    stored: Mapping[str, Any], current: Mapping[str, Any], where: Path, way_out: str, prefix: str = ""
) -> None:
    """Refuse to mix results made with different settings.

    Args:
        stored: sections and keys that the file was made with; a key that it lacks has the value in `ABSENT`.
        current: the same from the configuration.
        where: the file.
        way_out: what the user can do.
        prefix: of the keys, for the message.

    Raises:
        StaleError: names the first differing setting and its two values.
    """
    for key, value in current.items():
        dotted = f"{prefix}{key}"
        there = stored.get(key, ABSENT.get(dotted))
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            require_same(there, value, where, way_out, f"{dotted}.")
        elif there != value:
            raise StaleError(f"{where} was made with {dotted} = {there!r}, config.yaml says {value!r}. {way_out}")


def require_current_sweep(
    metadata: Mapping[str, Any], config: Config, path: Path, record: Mapping[str, Any], moved: Sequence[str]
) -> None:
    """Refuse a sweep that was measured on other weights, other data, with other settings or other parameters.

    Args:
        metadata: of the sweep.
        config: of the run.
        path: the file.
        record: of the model.
        moved: names of the parameters that directions move.

    Raises:
        StaleError: says which, and the way out.
    """
    if metadata["weights_hash"] != record["weights_hash"]:
        raise StaleError(
            f"{path} was measured on other weights than the model has now: the sweep is older than its retrained model. "
            "Remove the sweeps (`minima-volume clean RUN --what sweeps`) and run notebook 2 again."
        )
    if metadata["data_hash"] != record["data_hash"]:
        raise StaleError(f"{path} was measured on other samples than dataset.pt holds. {SWEEP_AGAIN}")
    require_same(metadata["settings"], sweep_settings(config), path, SWEEP_AGAIN)
    if still := [name for name in metadata["left_out"] if name in moved]:
        raise StaleError(
            f"{path} was measured by an earlier version, which left {', '.join(still)} as it was; perturbation.names = "
            f"{config.perturbation.names!r} perturbs it now. Remove the sweeps (`minima-volume clean RUN --what sweeps`) and run "
            "notebook 2 again."
        )


def _mark(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
