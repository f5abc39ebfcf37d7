"""One notebook of one run, executed in place in a kernel of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minima_volume.execution.fork_server import SERVER, provisioner
from minima_volume.files.boundary import check_way
from minima_volume.files.lock import OWNER_VARIABLE, locked
from minima_volume.files.verify import read_notebook
from minima_volume.runs.states import stage_states
from minima_volume.stages.run import STAGES

PIPELINE_VARIABLE = "MINIMA_VOLUME_PIPELINE"  # a word for the call of run_pipeline that a kernel works for
LOOPBACK = "127.0.0.1"  # kernels listen on nothing that others can reach, whatever a Jupyter configuration says
INTERRUPT = "KeyboardInterrupt"  # the error's name in the record of a notebook that was interrupted
_KERNELS: dict[int, str] = {}  # process id -> that word, of the kernels that this process has running
_STOPPED: set[str] = set()  # the calls that were interrupted


@dataclass(frozen=True)
class Outcome:
    """What happened to one stage of one run.

    Attributes:
        run: the run folder's name.
        stage: train, perturb, volume, cutoff or accuracy.
        outcome: done, skipped (it was complete), failed, interrupted, or not reached.
        seconds: how long the notebook ran.
        error: the error's last line.
    """

    run: str
    stage: str
    outcome: str
    seconds: float = 0.0
    error: str = ""


def execute_stage(folder: Path, stage: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """Execute a stage's notebook unless the stage is complete; whatever goes wrong is in the outcome.

    The executed notebook replaces the run folder's own, as the record; a failed one has its traceback, one whose kernel died
    or that was interrupted says so in the cell that was running.

    Args:
        folder: the run folder.
        stage: train, perturb, volume, cutoff or accuracy.
        environment: variables of the kernel, besides those of this process.
    """
    start = time.perf_counter()
    environment = dict(environment or {})
    error = ""
    try:
        # a copy that was being executed: a killed pipeline has the files, but not the notebook that is their record
        if stage_states(folder, run_code=True)[stage].complete and not temporary_notebook(folder, stage).is_file():
            return Outcome(folder.name, stage, "skipped")
        with locked(folder, environment.get(OWNER_VARIABLE)):
            error = _execute(folder, stage, environment)
    except Exception as failure:  # locked, read-only, gone: the run fails, the others go on
        error = _line(type(failure).__name__, failure)
    seconds = time.perf_counter() - start
    if error.startswith(INTERRUPT) or (error and _stopped(environment)):
        return Outcome(folder.name, stage, "interrupted", seconds)
    if not error and not (state := stage_states(folder, run_code=True)[stage]).complete:
        error = f"the notebook ran, but its files are {state.name}: {state.reason}"
    return Outcome(folder.name, stage, "failed" if error else "done", seconds, error)


def _execute(folder: Path, stage: str, environment: dict[str, str]) -> str:
    """The error's last line; empty if there is none."""
    import papermill  # here, because it takes seconds and only the pipeline needs it
    from papermill.exceptions import PapermillExecutionError

    name = STAGES[stage]
    if not (folder / name).is_file():
        return f"{name} is not in the run folder" if folder.is_dir() else f"{folder} is gone"
    if read_notebook(folder / name) is None:
        return f"{name} is no notebook, or damaged: replace it by another run's"
    for logger in ("papermill", "traitlets"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what goes wrong is in the outcome
    check_way(folder / name)
    temporary = temporary_notebook(folder, stage)
    temporary.unlink(missing_ok=True)
    error = ""
    try:
        papermill.execute_notebook(
            str(folder / name),
            str(temporary),
            parameters={"run_folder": "."},
            resources={"metadata": {"path": str(folder)}},  # the kernel's folder; cwd would move this whole process
            progress_bar=False,
            log_output=False,
            # critical only: each kernel would warn about its transport, and call the interrupt that begins its shutdown an error
            extra_arguments=["--IPKernelApp.log_level=50"],
            kernel_manager_class=kernel_manager(environment),
        )
    except PapermillExecutionError as failure:
        error = _line(failure.ename, failure.evalue)
    except Exception as failure:  # no kernel, a kernel that died or was stopped, unreadable notebook, full disk
        kind, message = type(failure).__name__, str(failure)
        if _stopped(environment):
            kind, message = INTERRUPT, "the pipeline was interrupted here; run it again to go on"
        error = _line(kind, message)
        with contextlib.suppress(Exception):
            _note(temporary, kind, message)
    finally:
        if read_notebook(temporary) is not None:  # half of one, of a full disk, says that it is to be executed again
            temporary.replace(folder / name)
    return error


def temporary_notebook(folder: Path, stage: str) -> Path:
    """Where a notebook is while it is executed; one that was killed leaves it behind."""
    return folder / f".{stage}.executing.ipynb"


def _line(kind: str, failure: object) -> str:
    return f"{kind}: {failure}".strip().splitlines()[0]


def kernel_manager(environment: dict[str, str]) -> Any:
    """A kernel manager whose kernels have variables of their own, and can be stopped by `stop_kernels`."""
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | {"transport": "tcp", "ip": LOOPBACK})

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            if _stopped(environment):
                raise RuntimeError("the pipeline was interrupted before the kernel was started")
            if self.provisioner is None:
                self.provisioner = provisioner(self.kernel_id, self.kernel_spec, self)
            await AsyncKernelManager.start_kernel(self, **options | {"env": {**os.environ, **environment}})
            self.minima_volume_pid = getattr(self.provisioner, "pid", None)
            if self.minima_volume_pid:
                _KERNELS[self.minima_volume_pid] = environment.get(PIPELINE_VARIABLE, "")

        def cleanup_connection_file(self) -> None:
            _KERNELS.pop(getattr(self, "minima_volume_pid", 0) or 0, None)
            super().cleanup_connection_file()

    return Manager


def stop_kernels(pipeline: str) -> None:
    """Kill the kernels that this process has running for a pipeline, with the processes they started, and let no other start.

    Their notebooks end as interrupted.

    Args:
        pipeline: the word in `PIPELINE_VARIABLE` of the kernels' environment.
    """
    _STOPPED.add(pipeline)
    for pid, whose in list(_KERNELS.items()):
        if whose == pipeline:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # a kernel leads a process group of its own
    if not set(_KERNELS.values()) - _STOPPED:
        SERVER.interrupt()


def _stopped(environment: Mapping[str, str]) -> bool:
    return environment.get(PIPELINE_VARIABLE) in _STOPPED


def _note(path: Path, kind: str, message: str) -> None:
    """Write an error that the kernel could not report into the cell it happened in: the last that had started."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    begun = [cell for cell in code if cell.metadata.get("papermill", {}).get("start_time")]
    cell = (begun or code)[-1 if begun else 0]
    cell.outputs.append(nbformat.v4.new_output("error", ename=kind, evalue=message, traceback=[f"{kind}: {message}"]))
    nbformat.write(notebook, path)
