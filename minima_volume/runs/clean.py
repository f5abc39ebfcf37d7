"""Removing what a run has written, by kind, so that it can be made again."""

from __future__ import annotations

import shutil
from pathlib import Path

from minima_volume.errors import ConfigError
from minima_volume.layout import read_run

KINDS = ("results", "sweeps", "models")


def files_of(run_folder: str | Path, what: str) -> list[Path]:
    """The files of one kind: results (radii, volumes, cutoffs, accuracies), sweeps (and results), models (and all the rest).

    Raises:
        ConfigError: no such kind.
    """
    if what not in KINDS:
        raise ConfigError(f"what: {what!r} is not known; allowed: {', '.join(KINDS)}")
    run = read_run(run_folder)
    landscapes = [p for p in run.output.glob(f"{run.config.data.variant}_*") if p.is_dir() and not p.is_symlink()]
    files = [file for folder in landscapes for sub in folder.glob("loss_*") for file in sub.glob("*")]
    files += [run.cutoffs_file, run.loss_curves_figure, run.accuracies_file]
    if what in ("sweeps", "models"):
        files += [file for folder in landscapes for file in folder.glob("*.npz")]
    if what == "models":
        files += list(run.models.glob("*.pt"))
    return sorted(file for file in files if file.is_file() and not file.is_symlink())


def clean(run_folder: str | Path, what: str) -> list[Path]:
    """Remove the files of one kind and the folders they leave empty.

    Returns:
        The files that were removed.
    """
    files = files_of(run_folder, what)
    run = read_run(run_folder)
    for file in files:
        file.unlink()
    if what != "results":
        shutil.rmtree(run.shards, ignore_errors=True)
    for folder in sorted({file.parent for file in files} | {file.parent.parent for file in files}, reverse=True):
        if folder != run.folder and folder.is_relative_to(run.folder) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return files
