"""Reading results.json, also one of an older format: nothing is measured again. What is in it: `results_json.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json
from minima_volume.files.content import interpreted
from minima_volume.stages.results.star_keys import disagreement_keys

# 2: intervals, growth, comparisons; 3: `*_ordering_violations` and `*_discordant_pairs` count disagreement, not agreement
FORMAT = 3
OLDEST = 2  # what this format measured is still measured so: its files stay current


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A results.json in today's format; the order keys of an older one are recomputed from its volumes and test losses.

    Args:
        content: a results.json of format 2 (which has no key `format`) or later.
    """
    if content.get("format", OLDEST) >= FORMAT:
        return dict(content)
    counted: dict[str, Any] = {}
    for prefix in ("loss", "accuracy", "log_mass", "log_mass_acc"):
        if f"{prefix}_ordering_violations" in content:
            counted |= disagreement_keys(prefix, _ordered_by(prefix, content), content["test_loss_values"])
    return {**content, **counted, "format": FORMAT}


def _ordered_by(prefix: str, content: Mapping[str, Any]) -> list[float | None]:
    """The volumes whose order the keys with a prefix speak of: the published number, or log mass at the headline sigma."""
    if prefix in ("loss", "accuracy"):
        return content[f"log_exp_r_n{'' if prefix == 'loss' else '_acc'}_values"]
    headline = content["sigmas"].index(content["sigma"])
    return [row[headline] for row in content[f"{prefix}_values"]]


PER_MINIMUM = ("log_exp_r_n_values", "log_exp_r_n_intervals", "weights_hashes")
REQUIRED = ("model_data_levels", "log_exp_r_n_values", "log_exp_r_n_intervals", "settings", "weights_hashes")


def load_results(path: str | Path) -> dict[str, Any]:
    """Read one results.json; one of an older format reads as today's does, see `result_format.upgraded`.

    Raises:
        MissingStageError: notebook 3 has not been run.
        DamagedFileError: it is not strict JSON.
        StaleError: it lacks keys, as one of an earlier version does.
    """
    content = read_json(Path(path))
    if missing := [key for key in REQUIRED if key not in content]:
        raise StaleError(
            f"{path} lacks {', '.join(missing)}: it is of an earlier version, or not a results.json; run "
            "'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`), which makes it again"
        )
    with interpreted(Path(path)):
        count = len(content["model_data_levels"])
        for key in PER_MINIMUM:
            if len(content[key]) != count:
                raise ValueError(f"{key} has {len(content[key])} entries for {count} minima")
        return upgraded(content)
