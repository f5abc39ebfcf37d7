"""Every run folder of a condition through its five notebooks, as many at once as there are cores, GPUs or cluster workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Queue
from secrets import token_hex

import pandas as pd

from minima_volume.arguments import as_path, known_names
from minima_volume.config.run import load_config
from minima_volume.config.sections import Execution
from minima_volume.errors import MinimaVolumeError
from minima_volume.execution.cluster import SCHEDULER_VARIABLE, connect, everywhere, num_slots, submit
from minima_volume.execution.cores import CORES_VARIABLE, usable_cores
from minima_volume.files.lock import OWNER_VARIABLE, locked, owner
from minima_volume.runs.conditions import no_runs
from minima_volume.runs.execute import PIPELINE_VARIABLE, Outcome, execute_stage, stop_kernels
from minima_volume.runs.progress import Progress
from minima_volume.runs.update import describe_differences, differences
from minima_volume.stages.run import CONFIG_NAME, STAGES, find_runs, refuse_twins, seeds_of

Execute = Callable[[Path, str, dict[str, str]], Outcome]
STOP_SECONDS = 2.0  # for notebooks to end once their kernels were killed; then they are left to end by themselves


class PipelineError(MinimaVolumeError):
    """Some runs failed; the message names each with its error's last line."""


class PipelineInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that is handled like it; nothing that is finished is lost.

    Attributes:
        outcomes: one for each run and stage, as far as it came.
    """

    def __init__(self, outcomes: list[Outcome]) -> None:
        done = sum(outcome.outcome in ("done", "skipped") for outcome in outcomes)
        super().__init__(f"{done} of {len(outcomes)} notebooks are done")
        self.outcomes = outcomes


def run_pipeline(
    condition: str | Path,
    runs: Sequence[Path] | None = None,
    *,
    stages: Sequence[str] | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> list[Outcome]:
    """Execute the notebooks of every run folder, in order; what is complete is skipped.

    The executed notebooks stay in the run folders as the record; a failed one keeps its traceback. A failure ends its own run
    only: the others go on, and the caller learns of it from the outcomes (`raise_failures`). Ctrl-C stops the kernels and
    keeps what is finished; running again goes on from there. Settings in which a run differs from its condition are printed, with both
    values: a run goes by its own config.yaml.

    Args:
        condition: the condition folder.
        runs: run folders; all of the condition by default.
        stages: of train, perturb, volume, cutoff and accuracy; all by default. Stages are executed in this order.
        jobs: runs that are executed at once, each in kernels of its own; by default one per usable core, per GPU, or per
            worker of a cluster. The cores of one machine are shared out among them.
        scheduler: tcp://host:port of a Dask scheduler; by default what execution.scheduler and execution.cluster of the
            condition's config.yaml say.
        progress: show progress bars.

    Returns:
        An outcome for each run and stage.

    Raises:
        PipelineError: there are no run folders, or a stage is not known.
        ConfigError: two folders are of the same seeds.
        PipelineInterrupted: Ctrl-C, or a notebook's kernel that is interrupted.
    """
    condition = as_path(condition, "condition folder")
    folders = find_runs(condition) if runs is None else [as_path(run, "run folder") for run in runs]
    if links := [folder for folder in folders if folder.is_symlink()]:
        raise PipelineError(
            f"{links[0]} is a link to {links[0].readlink()}, and nothing is written through it: put the run folder itself in "
            "its place, or run the condition that it lies in"
        )
    folders = [folder.resolve() for folder in folders]
    refuse_twins((folder, seeds_of(folder)) for folder in folders)
    if not folders:
        raise PipelineError(no_runs(condition))
    wanted = known_names(stages, list(STAGES), "stage")
    if notice := describe_differences(differences(condition, folders), condition):
        print(notice)
    execution = _execution(condition, scheduler)
    pipeline = token_hex(8)
    execute: Execute = execute_stage
    stop: Callable[[], None] = partial(stop_kernels, pipeline)
    variables: list[dict[str, str]] = [{}]
    if execution.on_cluster:
        address = connect(execution, show=progress)
        slots = num_slots(address)
        if len(folders) >= slots:  # a notebook is a piece of work of the cluster, and does all of its own in its kernel
            execute = _remote(address)
            stop = partial(everywhere, address, stop_kernels, pipeline)
            variables = [{CORES_VARIABLE: "1", SCHEDULER_VARIABLE: ""}]
        else:  # few runs: kernels here, which hand their shards to the cluster
            variables = [{SCHEDULER_VARIABLE: address, CORES_VARIABLE: str(slots)}]
        jobs = min(len(folders), jobs or slots)
    elif gpus := _gpus(condition):
        jobs = min(len(folders), jobs or gpus)
        variables = [{"CUDA_VISIBLE_DEVICES": str(i % gpus), CORES_VARIABLE: "1"} for i in range(jobs)]
    else:
        cores = usable_cores()
        jobs = min(len(folders), cores if jobs is None else jobs)
        variables = [{CORES_VARIABLE: str(max(1, cores // jobs))}]
    variables = [variable | {PIPELINE_VARIABLE: pipeline} for variable in variables]
    return _run_all(folders, wanted, jobs, variables, execute, stop, progress)


def _execution(condition: Path, scheduler: str | None) -> Execution:
    """Where the condition's config.yaml wants its work done; each run's own is read by its notebooks."""
    if scheduler is not None:
        return Execution(scheduler=scheduler)
    path = condition / CONFIG_NAME
    return load_config(path).execution if path.is_file() else Execution()


def _gpus(condition: Path) -> int:
    """GPUs to spread the runs over: none where the condition computes on the CPU or names one GPU."""
    path = condition / CONFIG_NAME
    if not path.is_file() or load_config(path).experiment.device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


def _run_all(
    folders: Sequence[Path],
    stages: Sequence[str],
    jobs: int,
    variables: Sequence[dict[str, str]],
    execute: Execute,
    stop: Callable[[], None],
    show: bool,
) -> list[Outcome]:
    stopped = threading.Event()
    outcomes: dict[Path, list[Outcome]] = {folder: [] for folder in folders}
    places: Queue[int] = Queue()  # a run takes a place, which has a bar and perhaps a GPU, and gives it back
    for place in range(jobs):
        places.put(place)
    pool = ThreadPoolExecutor(jobs)
    with Progress(len(folders) * len(stages), jobs, show) as bars:

        def one(folder: Path) -> None:
            place = places.get()
            try:
                environment = {**variables[place % len(variables)], OWNER_VARIABLE: owner()}
                _run_folder(folder, stages, execute, environment, bars, place, stopped, outcomes[folder])
            except BaseException:
                stopped.set()  # now: before this thread takes the next run
                raise
            finally:
                places.put(place)

        waiting = {pool.submit(one, folder) for folder in folders}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                bars.refresh()
        except BaseException as error:  # Ctrl-C, or a notebook server that interrupts
            stopped.set()
            _stop(stop, waiting)
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                raise PipelineInterrupted(_as_far(outcomes, stages)) from None
            raise
    pool.shutdown()
    return [outcome for folder in folders for outcome in outcomes[folder]]


def _stop(stop: Callable[[], None], waiting: set[Future[None]]) -> None:
    """Stop kernels until their notebooks have ended, for two seconds; another Ctrl-C changes nothing."""
    until, stopping = time.monotonic() + STOP_SECONDS, None
    while waiting and time.monotonic() < until:
        with contextlib.suppress(KeyboardInterrupt):
            if (
                stopping is None or not stopping.is_alive()
            ):  # a kernel that was just being started is found the next time
                stopping = threading.Thread(target=stop, daemon=True)  # a cluster may not answer
                stopping.start()
            _, waiting = wait(waiting, timeout=0.2)


def _as_far(outcomes: Mapping[Path, Sequence[Outcome]], stages: Sequence[str]) -> list[Outcome]:
    """The outcomes of an interrupted pipeline: a stage that has none was not reached."""
    return [
        next((found for found in outcomes[folder] if found.stage == stage), Outcome(folder.name, stage, "not reached"))
        for folder in outcomes
        for stage in stages
    ]


def _run_folder(
    folder: Path,
    stages: Sequence[str],
    execute: Execute,
    environment: dict[str, str],
    bars: Progress,
    place: int,
    stopped: threading.Event,
    outcomes: list[Outcome],
) -> None:
    """The notebooks of one run under one lock; after a failure the later ones are not reached. Outcomes are added as they come."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(MinimaVolumeError):  # taken by others, read-only, gone: each stage says so itself
            held.enter_context(locked(folder))
        for stage in stages:
            if stopped.is_set() or any(outcome.outcome in ("failed", "interrupted") for outcome in outcomes):
                outcomes.append(Outcome(folder.name, stage, "not reached"))
            else:
                bars.begin(place, folder.name, stage)
                found = execute(folder, stage, environment)
                if found.outcome == "failed" and stopped.is_set():  # a worker that was stopped with the others
                    found = replace(found, outcome="interrupted", error="")
                outcomes.append(found)
            bars.end(place, outcomes[-1])


def _remote(address: str) -> Execute:
    """Execute stages on the workers of a cluster."""

    def execute(folder: Path, stage: str, environment: dict[str, str]) -> Outcome:
        start = time.perf_counter()
        try:
            return submit(address, execute_stage, folder, stage, environment)
        except Exception as failure:  # a worker that died, a scheduler that went away
            error = f"{type(failure).__name__}: {failure}".strip().splitlines()[0]
            return Outcome(folder.name, stage, "failed", time.perf_counter() - start, error)

    return execute


def outcome_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Runs down, stages across, what happened and how long it took."""
    cells = [
        {"run": o.run, "stage": o.stage, "what": f"{o.outcome} {o.seconds:.0f} s" if o.seconds else o.outcome}
        for o in outcomes
    ]
    order = list(dict.fromkeys(o.run for o in outcomes))
    stages = [stage for stage in STAGES if any(o.stage == stage for o in outcomes)]
    return pd.DataFrame(cells).pivot(index="run", columns="stage", values="what").loc[order, stages]


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise one error that names every failed run, and every one whose kernel was interrupted.

    Raises:
        PipelineError: at least one stage failed or was interrupted.
    """
    parts, runs = [], len({o.run for o in outcomes})
    if failed := [o for o in outcomes if o.outcome == "failed"]:
        lines = "; ".join(f"{o.run}, {STAGES[o.stage]!r}: {o.error}" for o in failed)
        parts.append(f"{len(failed)} of {runs} runs failed: {lines}")
    if stopped := [o for o in outcomes if o.outcome == "interrupted"]:
        lines = "; ".join(f"{o.run}, {STAGES[o.stage]!r}" for o in stopped)
        parts.append(f"{len(stopped)} of {runs} runs were interrupted, run again to go on: {lines}")
    if parts:
        raise PipelineError(". ".join(parts))
