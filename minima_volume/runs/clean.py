"""Removing what a run has written, by kind, so that it can be made again."""

from __future__ import annotations

import shutil
from pathlib import Path

from minima_volume.errors import ConfigError
from minima_volume.layout import read_run

KINDS = ("results", "sweeps", "models")


def files_of(run_folder: str | Path, what: str) -> list[Path]:
    """The files of one kind: results (radii, volumes, views, cutoffs, accuracies), sweeps (and results), models (and all the rest).

    Raises:
        ConfigError: no such kind.
    """
    if what not in KINDS:
        raise ConfigError(f"what: {what!r} is not known; allowed: {', '.join(KINDS)}")
    run = read_run(run_folder)
    variant = run.config.data.variant
    landscapes = [
        p for p in run.output.glob(f"{variant}_*") if p.is_dir() and not p.is_symlink() and _is_level(p.name, variant)
    ]
    files = [file for folder in landscapes for sub in folder.glob("loss_*") for file in sub.rglob("*")]
    files += [folder / run.views_file(0).name for folder in landscapes]
    files += [run.cutoffs_file, run.loss_curves_figure, run.accuracies_file]
    if what in ("sweeps", "models"):
        files += [
            file
            for folder in landscapes
            for file in folder.glob("*.npz")
            if any(_is_level(file.stem, prefix) for prefix in (variant, "epoch", "batch_size"))
        ]
    if what == "models":
        files += list(run.models.glob("*.pt"))
    return sorted(file for file in files if file.is_file() and not file.is_symlink())


def _is_level(name: str, variant: str) -> bool:
    """Whether a name is <variant>_<level>, as the package writes it, and not a user's data_0_copy."""
    return name.removeprefix(f"{variant}_").isdigit()


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
