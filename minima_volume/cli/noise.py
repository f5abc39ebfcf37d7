"""`minima-volume noise run`, `sanity` and `status`: robustness to weight noise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minima_volume.errors import MinimaVolumeError

if TYPE_CHECKING:
    from minima_volume.robustness.study import Study

group = typer.Typer(
    help="""Robustness to weight noise: train clean and noisy networks, measure accuracy under noise.

    A study's folder holds a config.yaml; checkpoints/ and results/ are written beside it.
    """,
    no_args_is_help=True,
)

Architectures = Annotated[
    list[str] | None,
    typer.Argument(
        help="mlp, cnn, resnet18 or vit; several, or all of config.yaml by default.", metavar="[ARCHITECTURE]..."
    ),
]
Folder = Annotated[Path, typer.Option("--folder", help="The study's folder, which holds config.yaml.")]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, KEY=VALUE, e.g. noise.draws=100; may be repeated."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Where checkpoints/ and results/ are written; experiment.output_dir by default."
    ),
]


@group.command()
def run(
    architectures: Architectures = None,
    folder: Folder = Path(),
    set_: Override = None,
    output: Output = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Overwrite the tables; by default rows of other networks stay.")
    ] = False,
) -> None:
    """Train what is missing, measure it under noise, write tables and verdicts. What is done is left alone.

    minima-volume noise run mlp cnn --folder experiments/weight_noise
    """
    from minima_volume.robustness.run import run_study
    from minima_volume.robustness.words import describe_results

    study = opened(folder, set_, output)
    print(describe_results(run_study(study, architectures, fresh=fresh)))
    print(f"\nwritten to {study.results}: summary.csv, sweep.csv, results.json")


@group.command()
def sanity(
    folder: Folder = Path(),
    architecture: Annotated[str, typer.Option(help="mlp, cnn, resnet18 or vit.")] = "mlp",
    set_: Override = None,
    output: Output = None,
) -> None:
    """Train one network per regime for an epoch and compare their drops at alpha 0.1; exit code 1 if the noisy one drops more."""
    from minima_volume.robustness.sanity import check_sanity

    found = check_sanity(opened(folder, set_, output), architecture)
    print(found.words)
    raise typer.Exit(int(not found.ok))


@group.command()
def status(
    architectures: Architectures = None, folder: Folder = Path(), set_: Override = None, output: Output = None
) -> None:
    """Where each network of a study stands."""
    from minima_volume.robustness.words import describe_status

    print(describe_status(opened(folder, set_, output), architectures))


def opened(folder: Path, overrides: list[str] | None, output: Path | None = None) -> Study:
    """The study of a folder, with settings KEY=VALUE."""
    from minima_volume.robustness.study import open_study
    from minima_volume.stages.open import parse_override

    return open_study(folder, dict(map(parse_override, overrides or [])), output)


def phase(show: Callable[[Study], object], folder: Path) -> None:
    """A script of a study's folder: settings KEY=VALUE from its command line; a user's error is one line and exit code 1."""
    try:
        show(opened(folder, sys.argv[1:]))
    except MinimaVolumeError as error:
        sys.exit(f"error: {error}")
