"""What the run folders of a condition were made from, so that what was edited since can be told, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.files.content import interpreted

ORIGINS = "made_from.json"  # in the condition folder


@dataclass(frozen=True)
class Origin:
    """What one run folder was made from.

    Attributes:
        config: the condition's or the template's config.yaml then; None if unknown.
        notebooks: notebook -> `mark_of` what was put into the run folder last.
    """

    config: Mapping[str, Any] | None = None
    notebooks: Mapping[str, str] = field(default_factory=dict)


def origins_of(condition: Path) -> dict[str, Origin]:
    """Run folder's name -> origin, of those that are known: none of a folder that was copied by hand."""
    stored = _read(condition)
    try:
        with interpreted(condition / ORIGINS):
            return {
                name: Origin(stored["configs"].get(entry["config"]), dict(entry["notebooks"]))
                for name, entry in stored["runs"].items()
            }
    except DamagedFileError:  # nothing is known, as of folders that were copied by hand
        return {}


def remember(condition: Path, origins: Mapping[str, Origin]) -> None:
    """Write down the origins of some run folders; those of the others stay."""
    known = origins_of(condition) | dict(origins)
    configs, runs = {}, {}
    for name, origin in known.items():
        mark = None
        if origin.config is not None:  # runs made together share one
            mark = hashlib.sha256(json.dumps(origin.config, sort_keys=True).encode()).hexdigest()[:16]
            configs[mark] = origin.config
        runs[name] = {"config": mark, "notebooks": origin.notebooks}
    if (content := {"configs": configs, "runs": runs}) != _read(condition):
        write_json(condition / ORIGINS, content)


def _read(condition: Path) -> dict[str, Any]:
    try:
        return {"configs": {}, "runs": {}} | read_json(condition / ORIGINS)
    except (MissingStageError, DamagedFileError):
        return {"configs": {}, "runs": {}}
