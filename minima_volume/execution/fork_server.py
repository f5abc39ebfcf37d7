"""Kernels forked from a process that has imported what every notebook needs: imports are most of a short notebook's time.

Each notebook still has a kernel, a process and a session of its own. `python -m minima_volume.execution.fork_server` is the
process that they are forked from; it computes nothing, and ends with the process that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

LAUNCHER = ["-m", "ipykernel_launcher"]  # how a kernel spec of this Python starts its kernels
PRELOAD = (
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "minima_volume.plots",
    "minima_volume.runs.states",
    "pandas",
    "scipy.stats",
    "sklearn.datasets",
    "sqlite3",
    "torch._dynamo",  # every optimizer's first step imports it
)
ANSWER_SECONDS = 60.0  # for imports and a fork, until a kernel is started in the ordinary way
IDLE_SECONDS = 60  # without kernels, until the process ends by itself and gives its memory back
BACKEND = "module://matplotlib_inline.backend_inline"  # what a kernel sets before matplotlib is imported


class ForkedKernel:
    """A kernel's process with what `jupyter_client` uses of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self.process: psutil.Process | None = psutil.Process(pid)  # knows a later process with the same id apart
        except psutil.NoSuchProcess:
            self.process = None

    def poll(self) -> int | None:
        """None while it runs; how it ended is not known."""
        if self.process is None or not self.process.is_running():
            return 1
        try:
            return 1 if self.process.status() == psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return 1

    def wait(self) -> int:
        """Wait for its end."""
        while self.poll() is None:
            time.sleep(0.05)
        return 1

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.process is not None:
                self.process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The driver's side: starts the process once, and asks it for kernels from any thread."""

    def __init__(self) -> None:
        self.lock, self.broken, self.interrupted = threading.Lock(), False, False
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process, unless it runs; it imports while this process does other things."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, "-m", "minima_volume.execution.fork_server"]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            atexit.register(self.stop)
        return self.process

    def stop(self) -> None:
        """Stop the process, which holds no state; when idle it also exits by itself."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def interrupt(self) -> None:
        """End the process where a kernel is being asked of it, which may still have to import for seconds."""
        if self.lock.locked() and self.process is not None:
            self.interrupted = True
            self.process.kill()

    def kernel(self, command: list[str], environment: Mapping[str, str], folder: str) -> ForkedKernel | None:
        """A kernel, or None if it has to be started in the ordinary way."""
        if self.broken or not possible(command, environment):
            return None
        request = {"arguments": command[3:], "environment": dict(environment), "folder": str(folder)}
        with self.lock:
            try:
                process = self.start()
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                if not select.select([process.stdout], [], [], ANSWER_SECONDS)[0]:
                    process.kill()  # stopped, or swapped out: an ordinary kernel takes seconds
                    raise OSError(f"no kernel was forked within {ANSWER_SECONDS:g} s")
                return ForkedKernel(int(process.stdout.readline()))
            except (OSError, ValueError):  # it was ended, died, or has no memory to fork
                self.broken, self.interrupted = not self.interrupted, False
                return None


SERVER = ForkServer()


def possible(command: list[str], environment: Mapping[str, str]) -> bool:
    """Whether a kernel can be forked: of this Python, on Linux, and not bound to a GPU of its own."""
    ours = command[:3] == [sys.executable, *LAUNCHER]
    return sys.platform == "linux" and ours and not environment.get("CUDA_VISIBLE_DEVICES")


def provisioner(kernel_id: str, spec: Any, parent: Any) -> Any:
    """A local provisioner of `jupyter_client` whose kernels are forked where that is possible."""
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        process: Any

        async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
            folder = options.get("cwd") or str(Path.cwd())
            kernel = SERVER.kernel(cmd, options.get("env") or os.environ, folder)
            if kernel is None:
                return await super().launch_kernel(cmd, **options)
            self.process, self.pid, self.pgid, self.cwd = kernel, kernel.pid, kernel.pid, folder
            return self.connection_info

    return Provisioner(kernel_id=kernel_id, kernel_spec=spec, parent=parent)


# ---- the process that kernels are forked from


def serve() -> dict[str, Any] | None:
    """Fork for each request on standard input; a child returns with its request, the server when it is no longer needed."""
    server, kernels, since = os.getpid(), 0, time.monotonic()
    while True:
        asked, _, _ = select.select([0], [], [], 1.0)
        while kernels and os.waitpid(-1, os.WNOHANG)[0]:
            kernels, since = kernels - 1, time.monotonic()
        if not asked and (kernels or time.monotonic() - since < IDLE_SECONDS):
            continue
        line = sys.stdin.buffer.readline() if asked else b""
        if not line:
            return None
        try:
            pid = os.fork()
        except OSError:  # no memory, too many processes
            print(flush=True)
            continue
        if pid == 0:
            os.setsid()  # signals go to the kernel and the processes it starts
            print(os.getpid(), flush=True)
            return json.loads(line) | {"server": server}
        kernels += 1


def become_kernel(request: Mapping[str, Any]) -> None:
    """What `python -m ipykernel_launcher` does, in this process."""
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    np.random.seed()  # noqa: NPY002  (else all kernels would draw the same where a user's code takes the global generator)
    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    IPKernelApp.launch_instance([*request["arguments"], f"--IPKernelApp.parent_handle={request['server']}"])


def main() -> None:
    """Import, then serve."""
    if sys.path and Path(sys.path[0]) == Path.cwd():
        del sys.path[0]  # the folder this process happens to be in; a kernel has its own
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # idle BLAS threads
    os.environ.setdefault("MPLBACKEND", BACKEND)
    notebook_bars()
    for name in PRELOAD:
        importlib.import_module(name)
    gc.freeze()  # memory stays shared with the kernels
    request = serve()
    if request is None:
        os._exit(0)  # nothing to tidy up, and libraries that were never used report leaks
    become_kernel(request)


def notebook_bars() -> None:
    """Have `tqdm.auto` decide as it does in a kernel, which this process is not yet."""
    import tqdm.autonotebook
    import tqdm.notebook

    if tqdm.notebook.IProgress is not None:
        tqdm.autonotebook.tqdm, tqdm.autonotebook.trange = tqdm.notebook.tqdm, tqdm.notebook.trange


if __name__ == "__main__":
    main()
