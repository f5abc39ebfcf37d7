"""The commands that look at results: `minima-volume analyze`, `views`, `suggest-sigma` and `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minima_volume.arguments import as_folder
from minima_volume.cli.options import ConditionFolder, Quiet, RunFolder
from minima_volume.errors import ConfigError, MissingStageError

group = typer.Typer()


@group.command()
def analyze(condition: ConditionFolder) -> None:
    """Tables and figures over all runs of a condition, written to its analysis/ folder."""
    analyze_and_print(condition)


def analyze_and_print(condition: Path) -> None:
    from minima_volume.reports.analyze import analyze as analyze_condition
    from minima_volume.reports.terminal import describe
    from minima_volume.stages.run import seeds_of

    if condition.is_dir() and seeds_of(condition.resolve()):
        raise ConfigError(
            f"{condition} is a run folder; analyze takes a condition folder, which holds run folders: {condition.resolve().parent}"
        )
    print(describe(analyze_condition(condition)))


@group.command()
def show(
    run_folder: RunFolder,
    landscape: Annotated[
        int | None, typer.Option(help="Level of the landscape; the smallest of data.levels by default.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Loss threshold; the headline by default.")] = None,
) -> None:
    """Print the numbers of a run: both volumes of every minimum, and what they say.

    minima-volume show experiments/digits/low_data/base/model_0_data_10
    """
    from minima_volume.reports.run import describe_run
    from minima_volume.stages.run import read_run

    print(describe_run(read_run(run_folder), landscape, threshold))


@group.command()
def views(
    run_folder: RunFolder,
    landscape: Annotated[
        int | None, typer.Option(help="Level of the landscape; the smallest of data.levels by default.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Loss threshold whose volumes are set beside; the headline by default.")
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(help="Coordinates: filter, none, layer, tensor_std or sample_std; the run's own by default."),
    ] = None,
    chains: Annotated[int, typer.Option(min=0, help="Chains of the learning coefficient; 0 leaves it out.")] = 4,
    draws: Annotated[int, typer.Option(min=8, help="Steps of each chain that count, after 300 others.")] = 700,
    quiet: Quiet = False,
) -> None:
    """Hessian, SAM-sharpness and learning coefficient of each minimum of a landscape, beside its volume.

    Written to data_<landscape>/views.json; what is there already, from the same weights, data and settings, is left alone.
    """
    from dataclasses import replace

    from minima_volume.stages.open import open_run
    from minima_volume.stages.views import default_settings, describe_views, estimate_views, views_table

    opened = open_run(run_folder)
    settings = replace(default_settings(opened), num_chains=chains, num_draws=draws)
    if scaling is not None:
        settings = replace(settings, scaling=scaling)
    if not quiet:
        print(estimate_views(opened, landscape, settings=settings))
    table = views_table(opened, landscape, threshold=threshold, settings=settings, progress=not quiet)
    print(describe_views(table, settings))


@group.command("suggest-sigma")
def suggest(
    folder: Annotated[Path, typer.Argument(help="A run folder, or a condition folder, whose first run is taken.")],
    quiet: Quiet = False,
) -> None:
    """A sigma for the Gaussian local volumes: the native minimum of the smallest landscape has a log mass of about -1.5 there;
    where another would be out of reach, the median of the sigmas at which each has that.

    Write it into volume.gaussian.sigma of the condition's config.yaml, so that all seeds share it.
    """
    from minima_volume.stages.run import find_runs, minimum_name, read_run, seeds_of
    from minima_volume.stages.sigma import suggest_run_sigma

    runs = [as_folder(folder)] if seeds_of(folder.resolve()) else find_runs(as_folder(folder))
    if not runs:
        raise MissingStageError(f"{folder} is not a run folder and holds none; make one with `minima-volume new`")
    run = read_run(runs[0])
    found = suggest_run_sigma(run, progress=not quiet)
    print(f"{run.folder.name}, landscape +{found.landscape}, threshold {found.threshold:g}: sigma {found.sigma:g}")
    for minimum, mass in found.masses.items():
        own = f"; log mass -1.5 at sigma {found.sigmas[minimum]:g}" if minimum in found.sigmas else ""
        print(f"  {minimum_name(minimum, run.config.variation)}: {mass.verdict}{own}")
    print(
        f"to measure all seeds with it: volume: gaussian: sigma: {found.sigma:g} in config.yaml of the condition and its runs"
    )


@group.command()
def status(
    folder: Annotated[
        Path, typer.Argument(help="A condition or run folder; or an experiment directory, or a folder of such.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file through and compare it with its checksums and hash.")
    ] = False,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run a folder's own model and source where samples are stored as indices only."),
    ] = False,
) -> None:
    """What is done of each run, read from its files; exit code 1 where something failed, or is stale, damaged or invalid.

    Settings in which runs differ from their condition are named, with both values.
    """
    from minima_volume.directories.keep import describe, find_directories, state_of
    from minima_volume.runs.status import BAD, describe_status
    from minima_volume.runs.status import status as read_status
    from minima_volume.runs.update import describe_differences, differences
    from minima_volume.runs.verify import verify_run
    from minima_volume.stages.run import find_runs, seeds_of

    if directories := find_directories(folder):
        states = [state_of(directory) for directory in directories]
        print(describe(states))
        raise typer.Exit(int(any(state.state == "damaged" for state in states)))
    rows = read_status(folder, run_code=trust, verify=verify)
    print(describe_status(rows))
    is_run = seeds_of(folder.resolve()) is not None
    condition = folder.resolve().parent if is_run else folder
    if text := describe_differences(differences(condition, [folder.resolve()] if is_run else None), condition):
        print(text)
    found = [verify_run(run) for run in ([folder] if is_run else find_runs(folder))] if verify else []
    print("\n".join(map(str, found)) if verify else "not every file was read through; --verify does")
    raise typer.Exit(int(any(row.state in BAD for row in rows) or any(one.damaged for one in found)))
