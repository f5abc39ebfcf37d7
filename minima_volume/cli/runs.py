"""The commands that make and run run folders: `minima-volume new`, `run`, `pipeline` and `smoke`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from minima_volume.arguments import as_folder, known_names
from minima_volume.cli.options import ConditionFolder, Quiet, RunFolder
from minima_volume.cli.results import analyze_and_print
from minima_volume.errors import ConfigError

group = typer.Typer()


@group.command()
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
    """Make run folders in a condition; or a condition, a run folder or a template from a template. Nothing that exists is overwritten.

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
    seeds = re.fullmatch(r"([0-9]{1,99}):([0-9]{1,99})", text)
    if seeds is None:
        raise ConfigError(f"--pair {text!r}: write it as MODEL:DATA, two whole numbers, for example 7:17")
    return int(seeds[1]), int(seeds[2])


@group.command()
def run(
    run_folder: RunFolder,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="train, perturb, volume, cutoff or accuracy; may be repeated. All by default."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, KEY=VALUE, e.g. training.epochs=10; written into config.yaml."),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Remember the folder's own model, source and loss, which run as your code."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the stages of one run folder without opening notebooks; what is done already is left alone."""
    from minima_volume.files.lock import locked
    from minima_volume.runs.states import run_stage
    from minima_volume.runs.trusted import trust_code
    from minima_volume.runs.undefined import undefined_volumes
    from minima_volume.stages.open import open_run, parse_override
    from minima_volume.stages.run import STAGES, run_path

    wanted = known_names(stage, list(STAGES), "--stage")
    with locked(run_path(run_folder)):
        opened = open_run(run_folder, wanted[0], dict(map(parse_override, set_ or [])))
        if trust:
            trust_code(opened)
        for name in wanted:
            run_stage(opened, name, progress=not quiet)
    _track([opened.folder])
    if "volume" in wanted:
        from minima_volume.reports.run import describe_run

        print(undefined_volumes(opened) or describe_run(opened))
    print(opened.output)


@group.command()
def pipeline(
    condition: ConditionFolder,
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

    as_folder(condition, "condition folder")
    runs = find_runs(condition) if seeds is None else new_runs(condition, seed_pairs(seeds, condition))
    try:
        outcomes = run_pipeline(condition, runs, stages=stage, jobs=jobs, scheduler=scheduler, progress=not quiet)
    except PipelineInterrupted as stop:
        print(outcome_table(stop.outcomes).to_string())
        print(stop, file=sys.stderr)
        raise
    print(outcome_table(outcomes).to_string())
    _track(runs)
    raise_failures(outcomes)
    if not stage:
        analyze_and_print(condition)


def _track(runs: Sequence[Path]) -> None:
    from minima_volume.runs.track import track_runs

    for failure in track_runs(runs):
        print(f"{failure}. Nothing is lost: `minima-volume track sync` sends it later", file=sys.stderr)


@group.command()
def smoke(
    condition: ConditionFolder,
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
