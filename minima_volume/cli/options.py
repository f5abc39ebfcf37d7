"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConditionFolder = Annotated[
    Path, typer.Argument(help="A condition folder: config.yaml and run folders.", metavar="CONDITION")
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, model_<seed>_data_<seed>.", metavar="RUN")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
