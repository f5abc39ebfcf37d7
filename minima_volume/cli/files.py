"""`minima-volume clean`, `update`, `propagate`, `notebooks` and `trust`: files of many folders at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minima_volume.arguments import as_folder
from minima_volume.cli.options import ConditionFolder
from minima_volume.errors import ConfigError

group = typer.Typer()


@group.command()
def clean(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or a condition or experiment folder: every run below it. Or an experiment directory, or a folder of such."
        ),
    ],
    what: Annotated[
        str,
        typer.Option(
            help="results; sweeps (and results); models (and everything made from them); datasets; outputs; plots. Of experiment "
            "directories: epochs (their checkpoints), logs, embeddings, predictions, figures."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it the files are only listed.")] = False,
) -> None:
    """Remove what runs have written, by kind, so that it can be made again. Without --yes it only lists.

    Never outside run folders, never through a link. --what outputs empties executed notebooks.
    """
    from minima_volume.directories.keep import KINDS as DIRECTORY_KINDS
    from minima_volume.runs.clean import KINDS, clean_all, describe_cleaning

    if what in DIRECTORY_KINDS:
        _clean_directories(folder, what, yes)
        return
    if what not in KINDS:
        raise ConfigError(
            f"--what {what!r} is not known; allowed: {', '.join(KINDS)}; of experiment directories {', '.join(DIRECTORY_KINDS)}"
        )
    found = clean_all(folder, what)
    files = [file for run in found.values() for file in run]
    if yes:
        count = sum(map(len, clean_all(folder, what, dry_run=False).values()))
        print(f"{count} files {'emptied' if what == 'outputs' else 'removed'}")
        return
    size = sum(file.stat().st_size for file in files)
    lines = files if folder.resolve() in found else describe_cleaning(found, what).splitlines()[:-1]
    print(
        *lines,
        f"{len(files)} files, {size / 1e6:.1f} MB would be {'emptied' if what == 'outputs' else 'removed'}; add --yes to "
        f"{'empty' if what == 'outputs' else 'remove'} them ({KINDS[what]})",
        sep="\n",
    )


def _clean_directories(folder: Path, what: str, yes: bool) -> None:
    from minima_volume.directories.keep import KINDS, files_of, find_directories
    from minima_volume.directories.keep import clean as clean_directory

    directories = find_directories(folder)
    if not directories:
        raise ConfigError(f"{folder} is no experiment directory and holds none, so it has no {what}")
    files = [file for directory in directories for file in files_of(directory, what)]
    size = sum(file.stat().st_size for file in files) / 1e6
    if yes:
        removed = [file for directory in directories for file in clean_directory(directory, what)]
        print(f"{len(removed)} files removed, {size:.1f} MB")
        return
    lines = [f"{file}  {file.stat().st_size / 1e6:.2f} MB" for file in files]
    print(
        *lines,
        f"{len(files)} files, {size:.1f} MB would be removed; add --yes to remove them ({KINDS[what]})",
        sep="\n",
    )


@group.command()
def update(
    condition: ConditionFolder,
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders of it, by name or path; all by default.", metavar="[RUN]..."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting or a section to bring in even where a run has set it for itself; may be repeated."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write; without it what would change is shown.")] = False,
) -> None:
    """Bring settings that were edited in a condition's config.yaml into its runs. Without --yes it only shows them.

    What a run has set for itself stays. Refused for runs whose models were trained with other values.

    minima-volume update experiments/digits/low_data/base --yes
    """
    from minima_volume.runs.update import describe_updates, update_runs

    updates = update_runs(condition, runs or None, keys=key or None, dry_run=not yes)
    print(describe_updates(updates, dry_run=not yes))
    raise typer.Exit(int(any(update.refused for update in updates)))


@group.command()
def propagate(
    file: Annotated[Path, typer.Argument(help="A changed notebook or another file.")],
    folder: Annotated[Path, typer.Argument(help="A condition or experiment folder: every run folder at or below it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Copy; without it only what differs is shown.")] = False,
    drop_outputs: Annotated[
        bool, typer.Option("--drop-outputs", help="Of executed notebooks; kept by default where a cell is the same.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace notebooks that were edited in a run folder, too.")
    ] = False,
) -> None:
    """Copy a changed notebook or file to all run folders. Without --yes it only shows what differs.

    Notebooks that were edited in a run folder stay as they are, unless --force says otherwise.
    """
    from minima_volume.runs.propagate import describe_propagation
    from minima_volume.runs.propagate import propagate as copy

    plan = copy(file, folder, keep_outputs=not drop_outputs, force=force, dry_run=not yes)
    print(describe_propagation(plan, dry_run=not yes))


@group.command()
def notebooks(
    experiments: Annotated[Path, typer.Argument(help="The folder that holds the experiments.")] = Path("experiments"),
    force: Annotated[bool, typer.Option("--force", help="Replace notebooks that were edited, too.")] = False,
) -> None:
    """Rewrite the notebooks of all templates and experiment folders from their one source; run folders keep theirs.

    Batch notebooks that lie in a condition folder are rewritten there, too. Notebooks that are no version of the package's, because
    somebody edited them, stay, and are named; exit code 1.
    """
    from minima_volume.runs import sync_notebooks

    changed = sync_notebooks(as_folder(experiments), force=force)
    print(*changed, f"{len(changed)} notebooks written", sep="\n")


@group.command()
def trust(
    files: Annotated[list[Path], typer.Argument(help="Files of Python code that you have read.", metavar="FILE...")],
) -> None:
    """Remember the content of your own models, sources and losses, so that they run without being announced.

    After an edit a file is new. `run RUN --trust` does the same for the code that a run's config.yaml names.
    """
    from minima_volume.files.trust import trust as remember
    from minima_volume.files.trust import trust_file

    for file in files:
        if not file.is_file():
            raise ConfigError(f"file {file} does not exist")
    new = remember(files)
    print(*new, f"{len(new)} of {len(files)} are new in {trust_file()}", sep="\n")
