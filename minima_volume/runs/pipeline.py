"""Every run folder of a condition through its five notebooks, each executed in place by papermill."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from minima_volume.errors import MinimaVolumeError
from minima_volume.layout import STAGES, find_runs
from minima_volume.runs.stages import stage_states


class PipelineError(MinimaVolumeError):
    """Some runs failed; the message names each with its error's last line."""


@dataclass(frozen=True)
class Outcome:
    """What happened to one stage of one run.

    Attributes:
        run: the run folder's name.
        stage: train, perturb, volume, cutoff or accuracy.
        outcome: done, skipped (it was complete), failed, or not reached.
        seconds: how long the notebook ran.
        error: the error's last line.
    """

    run: str
    stage: str
    outcome: str
    seconds: float = 0.0
    error: str = ""


def run_pipeline(condition: str | Path, runs: Sequence[Path] | None = None, *, progress: bool = True) -> list[Outcome]:
    """Execute the notebooks of every run folder, in order; what is complete is skipped.

    The executed notebooks stay in the run folders as the record; a failed one keeps its traceback. A failure ends its own run
    only: the others go on, and the caller learns of it from the outcomes (`raise_failures`).

    Args:
        condition: the condition folder.
        runs: run folders; all of the condition by default.
        progress: show a progress bar.

    Returns:
        An outcome for each run and stage.
    """
    folders = find_runs(Path(condition)) if runs is None else [Path(run) for run in runs]
    if not folders:
        raise PipelineError(
            f"{condition} has no run folders; make some with `minima-volume new` or make_dataset_notebooks.ipynb"
        )
    logging.getLogger("papermill").setLevel(logging.ERROR)
    outcomes: list[Outcome] = []
    with tqdm(total=len(folders) * len(STAGES), unit="notebook", disable=not progress, desc="pipeline") as bar:
        for folder in folders:
            failed = False
            for stage in STAGES:
                bar.set_description(f"{folder.name}: {stage}")
                outcome = Outcome(folder.name, stage, "not reached") if failed else _execute(folder, stage)
                failed = failed or outcome.outcome == "failed"
                outcomes.append(outcome)
                bar.update()
    return outcomes


def _execute(folder: Path, stage: str) -> Outcome:
    import papermill  # here, because it takes seconds and only the pipeline needs it
    from papermill.exceptions import PapermillExecutionError

    name = STAGES[stage]
    if stage_states(folder)[stage].complete:
        return Outcome(folder.name, stage, "skipped")
    if not (folder / name).is_file():
        return Outcome(folder.name, stage, "failed", error=f"{name} is not in the run folder")
    temporary = folder / f".{stage}.executing.ipynb"
    start = time.perf_counter()
    error = ""
    try:
        papermill.execute_notebook(
            str(folder / name),
            str(temporary),
            parameters={"run_folder": "."},
            cwd=str(folder),
            progress_bar=False,
            log_output=False,
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only: each kernel would warn about its transport
        )
    except PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}".strip().splitlines()[0]
    except Exception as failure:  # no kernel, unreadable notebook, full disk: the run fails, the others go on
        error = f"{type(failure).__name__}: {failure}".strip().splitlines()[0]
    finally:
        if temporary.is_file():
            temporary.replace(folder / name)
    seconds = time.perf_counter() - start
    if not error and not (state := stage_states(folder)[stage]).complete:
        error = f"the notebook ran, but its files are {state.name}: {state.reason}"
    return Outcome(folder.name, stage, "failed" if error else "done", seconds, error)


def outcome_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Runs down, stages across, what happened and how long it took."""
    cells = [
        {"run": o.run, "stage": o.stage, "what": f"{o.outcome} {o.seconds:.0f} s" if o.seconds else o.outcome}
        for o in outcomes
    ]
    order = list(dict.fromkeys(o.run for o in outcomes))
    return pd.DataFrame(cells).pivot(index="run", columns="stage", values="what").loc[order, list(STAGES)]


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise one error that names every failed run.

    Raises:
        PipelineError: at least one stage failed.
    """
    failed = [o for o in outcomes if o.outcome == "failed"]
    if failed:
        lines = "; ".join(f"{o.run}, {STAGES[o.stage]!r}: {o.error}" for o in failed)
        raise PipelineError(f"{len(failed)} of {len({o.run for o in outcomes})} runs failed: {lines}")
