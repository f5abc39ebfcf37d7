"""Record that the user trusts the code in a run folder."""

from __future__ import annotations

from pathlib import Path

from minima_volume.files.trust import trust
from minima_volume.files.user_code import files_of
from minima_volume.stages.run import Run


def own_code(run: Run) -> list[Path]:
    """The .py files of a run's folder, or of its condition, that its model, its source and its loss are taken from."""
    config = run.config
    paths = (config.model.name, config.data.source, config.training.loss)
    names = [path.partition(":")[0] for path in paths if ":" in path]
    found = (next((file for file in files_of(name, run.folder) if file.is_file()), None) for name in names)
    return [file for file in dict.fromkeys(found) if file is not None]


def trust_code(run: Run) -> list[Path]:
    """Remember the content of a run's own code, so that it is no longer announced; returns what was not known."""
    return trust(own_code(run))
