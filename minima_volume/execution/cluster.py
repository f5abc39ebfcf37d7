"""Work on a Dask cluster: one that is running, one on this machine, or one made of a batch system's jobs (Slurm, PBS, ...)."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from minima_volume.config.sections import Execution
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.execution.cores import usable_cores

Task = TypeVar("Task")
Result = TypeVar("Result")

SCHEDULER_VARIABLE = (
    "MINIMA_VOLUME_SCHEDULER"  # the pipeline tells its kernels; empty: no cluster, whatever config.yaml says
)
CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "moab": "MoabCluster",
    "htcondor": "HTCondorCluster",
}
LOCAL_OPTIONS = ("n_workers", "memory_limit", "local_directory", "dashboard_address")
DEFAULTS = {"cores": 1, "processes": 1, "memory": "4GB"}  # of a job: one one-thread process
LOOPBACK, DASHBOARD_PORT = "127.0.0.1", 8787  # whoever can talk to a scheduler can run code as its user
CONNECT_SECONDS, WORKER_SECONDS = 20, 3600
# a terminal sends Ctrl-C to workers, too; the process that started them says what becomes of them
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# Python's tracker of shared resources tidies up after a process that ended at once, and need not warn of it
TRACKER = "ignore:resource_tracker"
POLL_SECONDS, LOST_SECONDS = 0.02, 600.0
ASK_SECONDS = 1.0  # between questions to the scheduler how many workers it has


class ClusterError(MinimaVolumeError):
    """A cluster cannot be reached, has no workers, or lost them; what was finished is kept."""


def wanted_cluster(execution: Execution) -> Execution | None:
    """The cluster that work goes to; None if it stays on this machine. A pipeline's choice overrides config.yaml's."""
    told = os.environ.get(SCHEDULER_VARIABLE)
    if told is not None:
        return Execution(scheduler=told) if told else None
    return execution if execution.on_cluster else None


def connect(execution: Execution, *, show: bool = False) -> str:
    """The address of a scheduler that answers and has a worker; a batch system's cluster is started once in a process.

    Args:
        execution: the section of config.yaml.
        show: print where the work goes, and the dashboard's link.

    Raises:
        ClusterError: nothing answers, or no worker came.
    """
    address = execution.scheduler or _started(execution.model_dump_json()).scheduler_address
    client = _client(address)
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS if execution.cluster in (None, "local") else WORKER_SECONDS)
    except TimeoutError as error:
        raise ClusterError(
            f"the Dask scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
        ) from error
    if show:
        print(f"work goes to the {num_slots(address)} workers of {address}; dashboard: {_dashboard(client)}")
    return address


_CLIENTS: dict[str, Any] = {}


def _client(address: str) -> Any:
    """This process's connection to a scheduler; a new one where the last was lost."""
    from distributed import Client

    if address in _CLIENTS and _CLIENTS[address].status == "running":
        return _CLIENTS[address]
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the errors below report what goes wrong
    try:
        _CLIENTS[address] = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        return _CLIENTS[address]
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"execution.scheduler: nothing answers at {address!r} ({error}); start one with `dask scheduler`, or set it to null"
        ) from error


def _dashboard(client: Any) -> str:
    """Its link, or what it needs."""
    if importlib.util.find_spec("bokeh") is None:
        return "none without bokeh (`pip install minima_volume[dashboard]`)"
    return str(client.dashboard_link)


@cache
def _started(execution: str) -> Any:
    section = Execution.model_validate_json(execution)
    if section.cluster == "local":
        return make_local(section)
    cluster = make_jobqueue(section)
    cluster.scale(jobs=section.jobs)
    return cluster


def make_local(execution: Execution) -> Any:
    """A Dask LocalCluster: a one-thread process for each core this process may use, or as `execution.options` say.

    Raises:
        ConfigError: LocalCluster does not take the options.
    """
    from distributed import LocalCluster

    if wrong := sorted(set(execution.options) - set(LOCAL_OPTIONS)):
        raise ConfigError(
            f"execution.options: {', '.join(wrong)}: not known with cluster: local; allowed: {', '.join(LOCAL_OPTIONS)}"
        )
    workers = execution.options.get("n_workers", usable_cores())
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(
            f"execution.options: n_workers {workers!r} is not allowed: it must be a whole number, 1 or more"
        )
    options = {**execution.options, "n_workers": workers, "threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    options["preload"] = IGNORE_CTRL_C
    options |= {"host": LOOPBACK, "worker_dashboard_address": f"{LOOPBACK}:0"}
    options["dashboard_address"] = _on_loopback(options.get("dashboard_address", f":{DASHBOARD_PORT}"))
    if TRACKER not in sys.warnoptions:
        sys.warnoptions.append(TRACKER)
    try:
        with warnings.catch_warnings():  # of a port that is taken: the link says the one in use
            warnings.filterwarnings("ignore", message="Port")
            return LocalCluster(**options)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: what a worker says of its options
        reason = error.__cause__ or error
        raise ConfigError(f"execution.options {execution.options}: {reason}") from error


def _on_loopback(address: Any) -> Any:
    """An address without a host is this machine's own, which others cannot reach; one with a host is the user's choice."""
    return f"{LOOPBACK}{address}" if isinstance(address, str) and address.startswith(":") else address


def make_jobqueue(execution: Execution) -> Any:
    """A dask-jobqueue cluster without jobs; `.job_script()` is what will be submitted.

    Raises:
        ConfigError: dask-jobqueue is not installed, or does not take the options.
    """
    try:
        import dask_jobqueue
    except ImportError as error:
        raise ConfigError(
            "execution.cluster needs dask-jobqueue: `pip install minima_volume[jobqueue]`, or set it to null"
        ) from error
    assert execution.cluster is not None
    kind = getattr(dask_jobqueue, CLASSES[execution.cluster])
    try:
        return kind(**{**DEFAULTS, **execution.options})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"execution.options {execution.options}: {error}") from error


def num_slots(address: str) -> int:
    """Pieces of work that a cluster does at once."""
    return max(1, sum(_client(address).nthreads().values()))


def cluster_tasks(call: Callable[[Task], Result], todo: Sequence[Task], address: str) -> Iterator[Result]:
    """Do tasks on a cluster's workers and hand over each result as soon as it is there.

    A few more tasks than there are workers are under way, so that memory stays flat. A task whose worker dies is done again
    elsewhere, up to three times.

    Raises:
        ClusterError: the scheduler went away, or a task killed its workers.
    """
    from distributed import as_completed

    client, rest = _client(address), iter(todo)
    under_way: set[Any] = set()
    try:
        waiting = as_completed(loop=client.loop)
        more, room, asked = True, 0, -math.inf
        while more or under_way:
            if more and time.monotonic() - asked > ASK_SECONDS:
                try:
                    room, asked = 2 * num_slots(address), time.monotonic()
                except OSError as error:
                    raise _gone(address, error) from error
            while more and len(under_way) < room:
                try:
                    future = client.submit(call, next(rest), pure=False)
                except StopIteration:
                    more = False
                    break
                under_way.add(future)
                waiting.add(future)
            if not under_way:
                break
            future = _next_done(waiting, address)
            under_way.discard(future)
            yield _result(future, address)
    finally:
        if under_way:
            with contextlib.suppress(Exception):
                client.cancel(list(under_way))


def _next_done(waiting: Any, address: str) -> Any:
    """The next piece of work that is done; a cluster may be without workers for a while only.

    Raises:
        ClusterError: it has had none for ten minutes.
    """
    since, asked = None, time.monotonic()
    while True:
        if waiting.queue.qsize():
            return next(waiting)
        time.sleep(POLL_SECONDS)
        if time.monotonic() - asked < ASK_SECONDS:
            continue
        asked = time.monotonic()
        try:
            workers = _client(address).nthreads()
        except OSError as error:
            raise _gone(address, error) from error
        since = None if workers else since or asked
        if since is not None and asked - since > LOST_SECONDS:
            raise ClusterError(
                f"the Dask scheduler at {address} has had no workers for {asked - since:.0f} s; what is finished is kept. Start "
                f"some with `dask worker {address} --nthreads 1` and run again to go on"
            )


def submit(address: str, call: Callable[..., Result], *arguments: Any) -> Result:
    """Do one thing on a worker of a cluster and wait for it."""
    return _result(_client(address).submit(call, *arguments, pure=False), address)


def everywhere(address: str, call: Callable[..., Any], *arguments: Any) -> None:
    """Call a function in every worker's process."""
    _client(address).run(call, *arguments)


def _result(future: Any, address: str) -> Any:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"the workers of {address} that did a piece of work died ({' '.join(str(error).split())[:160]}); often there is too "
            "little memory: give each more, or lower execution.memory_gib. What is finished is kept"
        ) from error
    except (CancelledError, OSError) as error:
        raise _gone(address, error) from error


def _gone(address: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"the Dask scheduler at {address} went away; what is finished is kept, run again to go on ({type(error).__name__})"
    )
