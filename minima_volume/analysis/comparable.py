"""Are the runs of a condition made alike? Seeds over which a mean is taken must differ in their seeds alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from minima_volume.config.run import Config
from minima_volume.files.yaml import dotted
from minima_volume.stages.freshness import results_settings

SIGMA = "volume.gaussian.sigma"


def odd_ones_out(configs: Mapping[str, Config]) -> dict[str, str]:
    """Runs whose settings differ from those of most runs (of the first, where it is a draw), with the difference in words.

    Levels, thresholds and what does not decide numbers may differ: tables and figures then show what each run has.

    Args:
        configs: run folder -> its configuration.
    """
    settings = {run: _deciding(config) for run, config in configs.items()}
    if not settings:
        return {}
    keys = {run: json.dumps(values, sort_keys=True, default=str) for run, values in settings.items()}
    usual = settings[next(run for run, key in keys.items() if key == Counter(keys.values()).most_common(1)[0][0])]
    found = {}
    for run, values in settings.items():
        differing = [key for key in {**usual, **values} if usual.get(key) != values.get(key)]
        if None in (usual[SIGMA], values[SIGMA]) and SIGMA in differing:  # not measured is no other measurement
            differing.remove(SIGMA)
        if differing:
            key = differing[0]
            found[run] = (
                f"{key} = {values.get(key)!r}, other runs have {usual.get(key)!r}: they cannot be averaged; "
                "give it a condition folder of its own, or set it back and run it again"
            )
    return found


def other_minima(configs: Mapping[str, Config]) -> dict[str, str]:
    """Runs whose minima are not those of most runs (of the first, where it is a draw): means at some of them rest on fewer seeds."""
    minima = {run: tuple(sorted(config.minima)) for run, config in configs.items()}
    if not minima:
        return {}
    usual = Counter(minima.values()).most_common(1)[0][0]
    return {
        run: f"it has the minima {_listed(own)}, other runs {_listed(usual)}: means rest on the seeds that have them, ranks are among "
        "each run's own"
        for run, own in minima.items()
        if own != usual
    }


def _listed(minima: tuple[int, ...]) -> str:
    return ", ".join(f"{minimum:,}" for minimum in minima)


def _deciding(config: Config) -> dict[str, Any]:
    """Dotted keys of the settings that a mean over seeds needs to be alike."""
    settings = results_settings(config)
    for section in ("seeds", "experiment", "volume"):
        del settings[section]
    settings["data"].pop("levels", None)
    settings["training"].pop("batch_sizes", None)
    return dotted(settings) | {SIGMA: config.volume.gaussian.sigma}
