"""`minima-volume ...`: the notebooks' functions from a shell."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from typing import Annotated

import typer

from minima_volume import __version__
from minima_volume.cli import directories, figures, files, noise, results, runs, tracking
from minima_volume.cli.commands import Commands
from minima_volume.errors import MinimaVolumeError
from minima_volume.execution.cores import end_children

app = typer.Typer(
    help="""Measure how large the minima of a neural network's loss are.

    A condition folder (experiments/digits/low_data/base) holds a config.yaml and run folders model_<seed>_data_<seed>.
    A run has five stages, one notebook each: train, perturb, volume, cutoff, accuracy.

    Typical use:  minima-volume pipeline experiments/digits/low_data/base --seeds 3
    """,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=Commands,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"minima-volume {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What holds for every command."""


for commands in (runs, results, figures, directories, files):
    app.add_typer(commands.group)
app.add_typer(noise.group, name="noise", cls=Commands)
app.add_typer(tracking.group, name="track", cls=Commands)

INTERRUPTED, TERMINATED = 130, 143  # exit codes: after Ctrl-C, and after SIGTERM
LEAVE_SECONDS = 0.8  # for what tidies up at the end of an interrupted process


def main() -> None:
    """Run the command line; a user's error, or the system's about a path, is one line on standard error and exit code 1. SIGTERM is
    handled like Ctrl-C.
    """
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
    except OSError as error:
        if error.filename is None:
            raise
        reason = f"{error.filename}: {error.strerror or error}"
        print(f"error: {reason}. Check that the path is right and that you may read and write there", file=sys.stderr)
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


if __name__ == "__main__":
    script()
