"""The commands that show results: `minima-volume report` and `minima-volume video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minima_volume.cli.options import ConditionFolder, Quiet, RunFolder
from minima_volume.errors import ConfigError

group = typer.Typer()


@group.command()
def report(
    condition: ConditionFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; CONDITION/analysis/report.html by default.")
    ] = None,
) -> None:
    """One HTML page about a condition: settings, table, figures, verdicts, how to reproduce. It opens offline."""
    from minima_volume.reports.html import write_report
    from minima_volume.stages.run import seeds_of

    if condition.is_dir() and seeds_of(condition.resolve()):
        raise ConfigError(f"{condition} is a run folder; report takes a condition folder: {condition.resolve().parent}")
    print(write_report(condition, output))


@group.command()
def video(
    what: Annotated[
        str,
        typer.Argument(
            help="landscape: the plane through three minima as data is added; boundary: the decision boundary of a model of points "
            "in the plane as it is perturbed; ray: one random direction walked."
        ),
    ],
    run_folder: RunFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, .gif or .mp4 (needs the extra `video`).")
    ] = Path("video.gif"),
    frames: Annotated[int, typer.Option(min=2, help="How many pictures.")] = 40,
    fps: Annotated[float, typer.Option(min=0.5, max=50, help="Pictures a second.")] = 8.0,
    minimum: Annotated[
        int | None,
        typer.Option(help="Which model is perturbed: its level, epoch or batch size; the smallest by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the direction; 1 by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a video from a run's saved models.

    minima-volume video landscape experiments/digits/low_data/base/model_0_data_10 -o landscape.gif
    """
    from minima_volume.plots.videos import VIDEOS, save_video
    from minima_volume.stages.open import open_run

    if what not in VIDEOS:
        raise ConfigError(f"video {what!r} is not known; allowed: {', '.join(VIDEOS)}")
    if what == "landscape" and (minimum, seed) != (None, None):
        raise ConfigError("video landscape has three minima and no direction: leave --minimum and --seed out")
    run = open_run(run_folder)
    options = {} if what == "landscape" else {"minimum": minimum, "seed": 1 if seed is None else seed}
    pictures = VIDEOS[what](run, frames, progress=not quiet, **options)
    print(save_video(pictures, output, fps=fps, total=frames, progress=not quiet))
