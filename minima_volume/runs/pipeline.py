"""Every run folder of a condition through its five notebooks, each executed in place by papermill."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from minima_volume.errors import MinimaVolumeError
from minima_volume.layout import STAGES, find_runs
from minima_volume.perturbation.work import CORES_VARIABLE, usable_cores
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


def run_pipeline(
    condition: str | Path, runs: Sequence[Path] | None = None, *, jobs: int | None = None, progress: bool = True
) -> list[Outcome]:
    """Execute the notebooks of every run folder, in order; what is complete is skipped.

    The executed notebooks stay in the run folders as the record; a failed one keeps its traceback. A failure ends its own run
    only: the others go on, and the caller learns of it from the outcomes (`raise_failures`).

    Args:
        condition: the condition folder.
        runs: run folders; all of the condition by default.
        jobs: runs that are executed at once, each in kernels of its own; one per usable core by default. The cores are shared
            out among them.
        progress: show a progress bar.

    Returns:
        An outcome for each run and stage.

    Raises:
        PipelineError: there are no run folders.
    """
    folders = find_runs(Path(condition)) if runs is None else [Path(run) for run in runs]
    folders = [folder.resolve() for folder in folders]
    if not folders:
        raise PipelineError(
            f"{condition} has no run folders; make some with `minima-volume new` or make_dataset_notebooks.ipynb"
        )
    logging.getLogger("papermill").setLevel(logging.ERROR)
    cores = usable_cores()
    jobs = min(len(folders), cores if jobs is None else jobs)
    bar = tqdm(total=len(folders) * len(STAGES), unit="notebook", disable=not progress, desc="pipeline")
    with bar, _cores_for_each(max(1, cores // jobs)), ThreadPoolExecutor(jobs) as pool:
        done = pool.map(lambda folder: _run_folder(folder, bar), folders)
        return [outcome for outcomes in done for outcome in outcomes]


@contextmanager
def _cores_for_each(count: int) -> Iterator[None]:
    """Tell the kernels that are started in the block how many cores are theirs."""
    before = os.environ.get(CORES_VARIABLE)
    os.environ[CORES_VARIABLE] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[CORES_VARIABLE]
        else:
            os.environ[CORES_VARIABLE] = before


def _run_folder(folder: Path, bar: tqdm) -> list[Outcome]:
    """The five notebooks of one run; after a failure the later ones are not reached."""
    outcomes: list[Outcome] = []
    for stage in STAGES:
        failed = any(outcome.outcome == "failed" for outcome in outcomes)
        bar.set_postfix_str(f"{folder.name}: {stage}")
        outcomes.append(Outcome(folder.name, stage, "not reached") if failed else _execute(folder, stage))
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
            resources={
                "metadata": {"path": str(folder)}
            },  # the kernel's folder; papermill's cwd would move this whole process
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
