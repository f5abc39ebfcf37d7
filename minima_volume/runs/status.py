"""What is done of many runs, as a table, read from their files alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from minima_volume.arguments import as_folder, as_path
from minima_volume.errors import ConfigError
from minima_volume.files.content import skimmed
from minima_volume.files.lock import lock_of
from minima_volume.files.verify import read_notebook
from minima_volume.numerals import duration, listed
from minima_volume.runs.conditions import no_runs
from minima_volume.runs.execute import INTERRUPT, temporary_notebook
from minima_volume.runs.states import POINTERS, State, stage_states
from minima_volume.stages.run import STAGES, find_runs, seeds_of

NAMED = 3  # runs that one reason names
BAD = ("failed", "stale", "damaged", "invalid")


@dataclass(frozen=True)
class StageStatus:
    """One stage of one run.

    Attributes:
        run: the run folder's name.
        stage: train, perturb, volume, cutoff or accuracy.
        state: complete, partial, missing, failed (its notebook ended in an error), interrupted, stale, damaged, invalid or unknown.
        done: what there is of a partial one, why it is not complete, or what to know of it.
        seconds: how long its executed notebook took; None if none was executed.
        error: the last line of the error that its notebook ended in.
        working: who works on the run now.
    """

    run: str
    stage: str
    state: str
    done: str
    seconds: float | None
    error: str
    working: str


def status(folder: str | Path, *, run_code: bool = False, verify: bool = False) -> list[StageStatus]:
    """Every stage of a run folder, or of all run folders of a condition.

    Args:
        folder: of the run, or of the condition.
        run_code: as in `stage_states`.
        verify: compare what is read with its hashes and checksums, as everything does that uses it.

    Raises:
        ConfigError: there is no such folder, or no run in it, or two folders are of the same seeds.
    """
    folder = as_path(folder, "folder")
    if folder.is_file():
        raise ConfigError(
            f"{folder} is a file; status takes a condition folder or a run folder, such as {folder.parent}"
        )
    as_folder(folder)
    runs = [folder] if seeds_of(folder.resolve()) else find_runs(folder)
    if not runs:
        raise ConfigError(no_runs(folder))
    with nullcontext() if verify else skimmed():
        return [row for run in runs for row in _rows(run, run_code)]


def _rows(folder: Path, run_code: bool) -> list[StageStatus]:
    run = folder.resolve()
    name = (
        run.name if folder.name in ("", "..") else folder.name
    )  # a link's own name, which is the one that was asked for
    lock = lock_of(run)
    states = stage_states(run, run_code=run_code)
    rows = [_row(run, stage, state, "" if lock is None else str(lock)) for stage, state in states.items()]
    return [replace(row, run=name) for row in rows]


def _row(run: Path, stage: str, state: State, working: str) -> StageStatus:
    notebook = read_notebook(run / STAGES[stage])
    seconds, error = executed(notebook)
    name = state.name
    if state.complete and (reason := "" if notebook else _without_record(run, stage)):
        return StageStatus(run.name, stage, "partial", reason, seconds, "", working)
    if name in ("missing", "partial"):
        if error.startswith(INTERRUPT) or (temporary_notebook(run, stage).is_file() and not working):
            name = "interrupted"
        elif error:
            name = "failed"
    if state.complete or error.startswith(INTERRUPT):
        error = ""  # an older error, mended since; or none
    return StageStatus(run.name, stage, name, state.reason, seconds, error, working)


def _without_record(run: Path, stage: str) -> str:
    """Why a complete stage has no notebook to show for it; empty if the run folder has none at all."""
    notebook = run / STAGES[stage]
    if not notebook.exists():
        others = any((run / name).exists() for name in STAGES.values())
        return f"its notebook is missing: `minima-volume propagate` copies one to {run.name}" if others else ""
    return f"{notebook.name} is no notebook, or damaged: replace it by another run's"


def executed(notebook: dict[str, Any] | None) -> tuple[float | None, str]:
    """Seconds that an executed notebook took (None: not executed by the pipeline) and its error's last line (empty: none)."""
    if notebook is None:
        return None, ""
    try:
        errors = [
            output
            for cell in notebook["cells"]
            for output in cell.get("outputs", ())
            if output.get("output_type") == "error"
        ]
        seconds = notebook["metadata"].get("papermill", {}).get("duration")
        line = f"{errors[-1]['ename']}: {errors[-1]['evalue']}".strip().splitlines()[0] if errors else ""
        return seconds, line
    except (LookupError, AttributeError, TypeError):
        return None, ""


def status_table(folder: str | Path) -> pd.DataFrame:
    """A row for each run: its stages, what is done of the first that is not complete, the time taken, the error's last line."""
    return _table(status(folder))


def _table(rows: Sequence[StageStatus]) -> pd.DataFrame:
    table = []
    for run in dict.fromkeys(row.run for row in rows):
        mine = [row for row in rows if row.run == run]
        first = next((row for row in mine if row.state != "complete"), None)
        taken = [row.seconds for row in mine if row.seconds is not None]
        table.append(
            {"run": run}
            | {row.stage: row.state for row in mine}
            | {
                "done": first.done if first is not None and first.state in ("partial", "interrupted") else "",
                "time": duration(sum(taken)) if taken else "",
                "working": mine[0].working,
                "error": next((row.error for row in mine if row.error), ""),
            }
        )
    return pd.DataFrame(table).set_index("run")


def describe_status(rows: Sequence[StageStatus]) -> str:
    """The table in text: a line for each run; below it why stages are not complete, and what to know of them."""
    table = _table(rows)
    width = max(len(row.run) for row in rows)
    lines = [" ".join([" " * width, *(f"{stage:>11}" for stage in STAGES), f"{'time':>7}"])]
    for run, row in table.iterrows():
        lines.append(
            " ".join([f"{run:<{width}}", *(f"{row[stage]:>11}" for stage in STAGES), f"{row['time']:>7}"]).rstrip()
        )
    working = dict.fromkeys(f"{row.run}: in use by {row.working}" for row in rows if row.working)
    return "\n".join([*lines, *working, *_reasons(rows)])


def _reasons(rows: Sequence[StageStatus]) -> list[str]:
    """Why stages are not complete: each reason once, with all that it is the reason of."""
    found: dict[str, list[StageStatus]] = {}
    for row in rows:
        text = row.error or row.done
        if text and text not in POINTERS:
            found.setdefault(text, []).append(row)
    lines = []
    for text, mine in found.items():
        runs, stages = list(dict.fromkeys(row.run for row in mine)), list(dict.fromkeys(row.stage for row in mine))
        lines.append(f"{listed(runs, NAMED)}{'' if len(stages) == len(STAGES) else ', ' + ', '.join(stages)}: {text}")
    return lines
