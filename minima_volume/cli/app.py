"""`minima-volume ...`: the notebooks' functions from a shell."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from minima_volume.errors import ConfigError, MinimaVolumeError, MissingStageError
from minima_volume.execution.cores import end_children

app = typer.Typer(
    help="""Measure how large the minima of a neural network's loss are.

    A condition folder (experiments/digits/low_data/base) holds a config.yaml and run folders model_<seed>_data_<seed>.
    A run has five stages, one notebook each: train, perturb, volume, cutoff, accuracy.

    Typical use:  minima-volume pipeline experiments/digits/low_data/base --seeds 3
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Condition = Annotated[
    Path, typer.Argument(help="A condition folder: config.yaml and run folders.", metavar="CONDITION")
]
INTERRUPTED, TERMINATED = 130, 143  # exit codes: after Ctrl-C, and after SIGTERM
LEAVE_SECONDS = 0.8  # for what tidies up at the end of an interrupted process
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def main() -> None:
    """Run the command line; a user's error is one line on standard error and exit code 1. SIGTERM is handled like Ctrl-C."""
    received: list[int] = []

    def terminate(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
    try:
        app()
    except SystemExit as stop:
        if stop.code != INTERRUPTED:
            raise
        print("interrupted; what is finished is kept, run again to go on", file=sys.stderr)
        sys.exit(TERMINATED if received else INTERRUPTED)
    except MinimaVolumeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def script() -> None:
    """The process of the command line: `main`, and an interrupted one ends at once; taking it apart would last seconds."""
    try:
        main()
    except SystemExit as stop:
        if stop.code not in (INTERRUPTED, TERMINATED):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        tidy = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
        tidy.start()
        tidy.join(LEAVE_SECONDS)
        end_children()
        os._exit(stop.code)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="A condition folder, or the folder to make from --template.")],
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Make this many run folders: model_i_data_{10+i}, i = 0, 1, ...")
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="Make the run folder of one pair, MODEL:DATA; may be repeated.")
    ] = None,
    cross: Annotated[
        bool, typer.Option("--cross", help="With --seeds N: every model seed with every data seed, N x N run folders.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="New config.yaml and notebooks in run folders that have computed nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --overwrite: also where they were edited in the run folder.")
    ] = False,
    template: Annotated[
        Path | None, typer.Option(help="Make FOLDER itself, a condition or a run folder, from this template.")
    ] = None,
) -> None:
    """Make run folders in a condition, or a condition or run folder from a template. Nothing that exists is overwritten.

    Runs get the notebooks as they were edited in the condition's template/, the package's where they were not.

    minima-volume new experiments/digits/low_data/base --seeds 3

    minima-volume new experiments/digits/low_data/base --pair 7:17

    minima-volume new experiments/digits/low_data/wide --template experiments/digits/template
    """
    from minima_volume.runs import new_folder, new_runs, seed_pairs

    if (template is not None) + (seeds is not None) + bool(pair) != 1:
        raise ConfigError(
            "give one of --seeds N, --pair MODEL:DATA, --template FOLDER (see `minima-volume new --help`)"
        )
    if template is not None:
        print(new_folder(folder, template))
        return
    pairs = seed_pairs(seeds, folder, cross=cross) if seeds is not None else [_pair(text) for text in pair or []]
    for made in new_runs(folder, pairs, overwrite=overwrite, force=force):
        print(made)


def _pair(text: str) -> tuple[int, int]:
    first, _, second = text.partition(":")
    if not (first.isdigit() and second.isdigit()):
        raise ConfigError(f"--pair {text!r}: write it as MODEL:DATA, two whole numbers, for example 7:17")
    return int(first), int(second)


@app.command()
def run(
    run_folder: Annotated[Path, typer.Argument(help="A run folder, model_<seed>_data_<seed>.")],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="train, perturb, volume, cutoff or accuracy; may be repeated. All by default."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, KEY=VALUE, e.g. training.epochs=10; written into config.yaml."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run the stages of one run folder without opening notebooks; what is done already is left alone."""
    from minima_volume.runs.states import run_stage
    from minima_volume.runs.undefined import undefined_volumes
    from minima_volume.stages.open import open_run, parse_override
    from minima_volume.stages.run import STAGES

    wanted = list(STAGES) if not stage else [name for name in STAGES if name in stage]
    if unknown := set(stage or []) - set(STAGES):
        raise ConfigError(f"--stage {sorted(unknown)[0]!r} is not known; allowed: {', '.join(STAGES)}")
    opened = open_run(run_folder, wanted[0], dict(map(parse_override, set_ or [])))
    for name in wanted:
        run_stage(opened, name, progress=not quiet)
    if "volume" in wanted and (line := undefined_volumes(opened)):
        print(line)
    print(opened.output)


@app.command()
def pipeline(
    condition: Condition,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Make sure of this many run folders first, and run just those.")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="train, perturb, volume, cutoff or accuracy; may be repeated. All, and the analysis, by default."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs executed at once; one per usable core, GPU or cluster worker by default."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="tcp://HOST:PORT of a Dask scheduler; by default as config.yaml's execution says."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run every run folder of a condition through its five notebooks, then analyze them together.

    What is complete is skipped. Ctrl-C stops within seconds; run again to go on. Exit code 1 where a run failed, 130 after Ctrl-C,
    143 after SIGTERM.
    """
    from minima_volume.runs import new_runs, seed_pairs
    from minima_volume.runs.pipeline import PipelineInterrupted, outcome_table, raise_failures, run_pipeline
    from minima_volume.stages.run import find_runs

    if not condition.is_dir():
        raise ConfigError(f"condition folder {condition} does not exist")
    runs = find_runs(condition) if seeds is None else new_runs(condition, seed_pairs(seeds, condition))
    try:
        outcomes = run_pipeline(condition, runs, stages=stage, jobs=jobs, scheduler=scheduler, progress=not quiet)
    except PipelineInterrupted as stop:
        print(outcome_table(stop.outcomes).to_string())
        print(stop, file=sys.stderr)
        raise
    print(outcome_table(outcomes).to_string())
    raise_failures(outcomes)
    if not stage:
        _analyze(condition)


@app.command()
def smoke(
    condition: Condition,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting of the small size, KEY=VALUE.")
    ] = None,
    notebooks: Annotated[
        bool, typer.Option("--notebooks", help="Execute the notebooks, not just their stages.")
    ] = False,
) -> None:
    """Run a small copy of a condition through all five stages, in a temporary folder: a check that takes seconds."""
    import tempfile

    from minima_volume.runs.smoke import smoke as run_smoke
    from minima_volume.stages.open import parse_override

    with tempfile.TemporaryDirectory() as folder:
        seconds = run_smoke(condition, folder, dict(map(parse_override, set_ or [])), notebooks=notebooks)
    print("; ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items()))


@app.command()
def analyze(condition: Condition) -> None:
    """Tables and figures over all runs of a condition, written to its analysis/ folder."""
    _analyze(condition)


def _analyze(condition: Path) -> None:
    from minima_volume.reports.analyze import analyze as analyze_condition
    from minima_volume.reports.terminal import describe
    from minima_volume.stages.run import seeds_of

    if condition.is_dir() and seeds_of(condition.resolve()):
        raise ConfigError(
            f"{condition} is a run folder; analyze takes a condition folder, which holds run folders: {condition.resolve().parent}"
        )
    print(describe(analyze_condition(condition)))


@app.command()
def views(
    run_folder: Annotated[Path, typer.Argument(help="A run folder, model_<seed>_data_<seed>.")],
    landscape: Annotated[
        int | None, typer.Option(help="Level of the landscape; the smallest of data.levels by default.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Loss threshold whose volumes are set beside; the headline by default.")
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(help="Coordinates: filter, none, layer or tensor_std; the run's own by default.")
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


@app.command("suggest-sigma")
def suggest(
    folder: Annotated[Path, typer.Argument(help="A run folder, or a condition folder, whose first run is taken.")],
    quiet: Quiet = False,
) -> None:
    """A sigma for the Gaussian local volumes: the native minimum of the smallest landscape has a log mass of about -1.5 there;
    where another would be out of reach, the median of the sigmas at which each has that.

    Write it into volume.gaussian.sigma of the condition's config.yaml, so that all seeds share it.
    """
    from minima_volume.stages.run import find_runs, minimum_name, read_run, seeds_of
    from minima_volume.volume.gaussian.sigma import suggest_run_sigma

    if not folder.is_dir():
        raise MissingStageError(f"{folder} does not exist")
    runs = [folder] if seeds_of(folder.resolve()) else find_runs(folder)
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


@app.command()
def status(folder: Annotated[Path, typer.Argument(help="A condition folder or a run folder.")]) -> None:
    """What is done of each run, read from its files; exit code 1 where something failed, or is stale, damaged or invalid.

    Settings in which runs differ from their condition are named, with both values.
    """
    from minima_volume.runs.status import BAD, describe_status
    from minima_volume.runs.status import status as read_status
    from minima_volume.runs.update import describe_differences, differences
    from minima_volume.stages.run import seeds_of

    rows = read_status(folder)
    print(describe_status(rows))
    is_run = seeds_of(folder.resolve()) is not None
    condition = folder.resolve().parent if is_run else folder
    if text := describe_differences(differences(condition, [folder.resolve()] if is_run else None), condition):
        print(text)
    raise typer.Exit(int(any(row.state in BAD for row in rows)))


from minima_volume.cli import figures as figures  # noqa: E402  add their commands to app
from minima_volume.cli import files as files  # noqa: E402

if __name__ == "__main__":
    from minima_volume.cli.app import script as script_with_all_commands  # of the module that they were added to

    script_with_all_commands()
