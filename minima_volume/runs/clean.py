"""Removing what runs have written, by kind, so that it can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from minima_volume.errors import ConfigError
from minima_volume.files.atomic import write_text
from minima_volume.files.boundary import check_way
from minima_volume.files.lock import locked
from minima_volume.runs.notebooks import has_outputs, without_outputs
from minima_volume.runs.propagate import all_runs
from minima_volume.runs.written import figure_files, model_files, run_files, sweep_files, threshold_files, view_files
from minima_volume.stages.run import RUN_NOTEBOOKS, Run, read_run, run_path

# what is lost, and how it is made again; a user's own files are never touched
KINDS = {
    "results": "radii, volumes, views, cutoffs and accuracies: computed again from models and sweeps, to the last bit on the "
    "same machine",
    "sweeps": "losses along directions, and the results: computed again from the models, to the last bit on the same machine",
    "models": "everything: models are trained again, on another machine or version not to the last bit",
    "datasets": "dataset.pt: drawn again from its source and the seeds by notebook 1; needed before any other notebook",
    "outputs": "outputs of executed notebooks, the record with its tracebacks: only executing them again brings it back",
    "plots": "figures: drawn again by `minima-volume run RUN --stage volume --stage cutoff`",
}


def files_of(run_folder: str | Path, what: str) -> list[Path]:
    """The files of one kind.

    Kinds are results (radii, volumes, views, cutoffs, accuracies), sweeps (and results), models (and all the rest), datasets,
    outputs (notebooks that have any; they are emptied, not removed) and plots. Only files that the package knows by their names
    and by what they hold, see `runs.written`: notes, other models and other arrays stay. Nothing that is reached through a link, or lies
    outside the run folder, is among them.

    Raises:
        ConfigError: no such kind.
    """
    if what not in KINDS:
        raise ConfigError(f"what: {what!r} is not known; allowed: {', '.join(KINDS)}")
    run = read_run(run_folder)
    return sorted({file for file in _named(run, what) if file.is_file() and _inside(file, run.folder)})


def _inside(file: Path, folder: Path) -> bool:
    """Whether a file lies below a folder without a link on the way (the folder itself is resolved)."""
    plain = Path(os.path.normpath(file))
    return plain.is_relative_to(folder) and file.resolve() == plain


def _named(run: Run, what: str) -> list[Path]:
    """The files of a kind by their names."""
    if what == "outputs":
        return [run.folder / name for name in RUN_NOTEBOOKS if has_outputs(run.folder / name)]
    if what == "datasets":
        return [path for path in model_files(run) if path == run.dataset_file]
    files = list(threshold_files(run))
    if what == "plots":
        return [*(file for file in files if file.suffix == ".png"), *figure_files(run)]
    files += [*view_files(run), *run_files(run)]
    if what in ("sweeps", "models"):
        files += sweep_files(run)
    if what == "models":
        files += model_files(run)
    return files


def clean(run_folder: str | Path, what: str) -> list[Path]:
    """Remove the files of one kind and the folders they leave empty; of `outputs`, empty the notebooks.

    Returns:
        The files that were removed or emptied.

    Raises:
        LockedError: a pipeline works on the run.
    """
    run = read_run(run_folder)
    with locked(run.folder):
        files = files_of(run_folder, what)
        if what == "outputs":
            return [_emptied(file) for file in files]
        for file in files:
            check_way(file)
            file.unlink()
        _tidy(run, files)
    return files


def clean_all(folder: str | Path, what: str, *, dry_run: bool = True) -> dict[Path, list[Path]]:
    """Clean every run folder at or below a folder; as a dry run, the default, only find the files.

    Args:
        folder: a run folder, a condition or an experiment folder; links are not followed.
        what: the kind, as in `files_of`.
        dry_run: nothing is removed.

    Returns:
        For each run folder the files that were, or would be, removed.
    """
    return {run: files_of(run, what) if dry_run else clean(run, what) for run in all_runs(folder) or [run_path(folder)]}


def describe_cleaning(files: Mapping[Path, list[Path]], what: str) -> str:
    """A line for each run folder with the number of files and their size, and what it takes to have them again."""
    sizes = {run: sum(file.stat().st_size for file in found) for run, found in files.items()}
    lines = [f"{run}: {len(found)} files, {sizes[run] / 1e6:.1f} MB" for run, found in files.items()]
    count = sum(map(len, files.values()))
    return "\n".join([*lines, f"{count} files, {sum(sizes.values()) / 1e6:.1f} MB in all. {what} are {KINDS[what]}"])


def _emptied(notebook: Path) -> Path:
    return write_text(notebook, without_outputs(notebook.read_text(encoding="utf-8")))


def _tidy(run: Run, files: list[Path]) -> None:
    """Remove the folders that were left empty."""
    for folder in sorted({file.parent for file in files} | {file.parent.parent for file in files}, reverse=True):
        if folder != run.folder and folder.is_relative_to(run.folder) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
