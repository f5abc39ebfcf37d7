"""Reading results.json, also one of an older format: nothing is measured again. What is in it: `results_json.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minima_volume.arguments import as_path
from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json
from minima_volume.stages.results.schema import check
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


def load_results(path: str | Path) -> dict[str, Any]:
    """Read one results.json; one of an older format reads as today's does, see `upgraded`.

    Raises:
        MissingStageError: notebook 3 has not been run.
        DamagedFileError: it is not strict JSON, or holds values of another kind.
        StaleError: it lacks keys, as one of an earlier version does, or is of a later format, whose keys may mean something else.
    """
    content = read_json(path := as_path(path))
    check(content, path)
    if content.get("format", OLDEST) > FORMAT:
        raise StaleError(
            f"{path} has format {content['format']}: a later version of minima_volume wrote it, and this one knows formats up to {FORMAT}. Read "
            "it with that version, or run 'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`), which makes it again"
        )
    return upgraded(content)
