"""`minima-volume track ...`: what MLflow has not been told yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minima_volume.errors import MissingStageError

group = typer.Typer(help="Tracking with MLflow (the extra `mlflow`).", no_args_is_help=True)


@group.command()
def sync(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Experiment directories, runs, or folders that hold some.", metavar="FOLDER..."),
    ],
) -> None:
    """Send what MLflow has not been told yet, for instance because the server was down. A second time sends nothing.

    minima-volume track sync experiments/vae
    """
    from minima_volume.runs.track import runs_below, tell_run
    from minima_volume.tracking.sync import find_journals, sync_all

    told = [tell_run(run) for folder in folders for run in runs_below(folder)]
    found = [journal for journal in told if journal is not None]
    found += [journal for folder in folders for journal in find_journals(folder)]
    journals = list({journal.path.resolve(): journal for journal in found}.values())
    if not journals:
        raise MissingStageError(
            f"there is no logs/mlflow.jsonl below {', '.join(map(str, folders))}: nothing there has a section mlflow in its config"
        )
    outcomes = sync_all(journals)
    print(*outcomes, sep="\n")
    raise typer.Exit(int(any(outcome.failed for outcome in outcomes)))
