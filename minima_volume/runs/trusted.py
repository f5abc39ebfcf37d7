"""Saying that the own code of a run is known and trusted."""

from __future__ import annotations

from pathlib import Path

from minima_volume.files.trust import trust
from minima_volume.files.user_code import files_of
from minima_volume.stages.run import Run


def own_code(run: Run) -> list[Path]:
    """The .py files of a run's folder, or of its condition, that its model and its source are taken from."""
    names = [name.partition(":")[0] for name in (run.config.model.name, run.config.data.source) if ":" in name]
    found = (next((file for file in files_of(name, run.folder) if file.is_file()), None) for name in names)
    return [file for file in dict.fromkeys(found) if file is not None]


def trust_code(run: Run) -> list[Path]:
    """Remember the content of a run's own code, so that it is no longer announced; returns what was not known."""
    return trust(own_code(run))
