"""Kernels forked from a process that has imported what notebooks need: still a process, a folder and an environment of their own."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time

import nbformat
import papermill
import psutil
import pytest

from minima_volume.execution.fork_server import LAUNCHER, SERVER, ForkedKernel, ForkServer, possible
from minima_volume.runs.execute import kernel_manager

LOOK = """
import json, os, sys
loaded = "minima_volume.runs.states" in sys.modules
import numpy as np, matplotlib.pyplot as plt, tqdm.auto, tqdm.notebook
seen = {
    "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "folder": os.getcwd(), "mark": os.environ.get("MARK"),
    "loaded": loaded, "bars": issubclass(tqdm.auto.tqdm, tqdm.notebook.tqdm), "draw": np.random.random(), "backend": plt.get_backend(),
}
json.dump(seen, open("seen.json", "w"))
"""


def look(folder, mark):
    """What a kernel in a folder sees."""
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOK)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "look.ipynb")
    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill.execute_notebook(
        str(folder / "look.ipynb"),
        str(folder / "done.ipynb"),
        resources={"metadata": {"path": str(folder)}},
        progress_bar=False,
        kernel_manager_class=kernel_manager({"MARK": mark}),
    )
    return json.loads((folder / "seen.json").read_text())


@pytest.mark.notebooks
@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_forked_kernels(tmp_path):
    """Two kernels of one server; when it is gone its kernels end, and the next comes from a new one, or in the ordinary way."""
    first, second = look(tmp_path / "a", "1"), look(tmp_path / "b", "2")
    server = SERVER.process.pid
    assert first["parent"] == second["parent"] == server != os.getpid()
    assert len({first["pid"], second["pid"], server, os.getpid()}) == 4
    assert first["session"] == first["pid"] and second["session"] == second["pid"]
    assert (first["folder"], first["mark"]) == (str(tmp_path / "a"), "1")
    assert (second["folder"], second["mark"]) == (str(tmp_path / "b"), "2")
    assert first["loaded"] and first["bars"] and first["backend"].endswith("inline")
    assert first["draw"] != second["draw"]
    until = time.monotonic() + 30
    while any(ForkedKernel(seen["pid"]).poll() is None for seen in (first, second)) and time.monotonic() < until:
        time.sleep(0.1)
    assert ForkedKernel(first["pid"]).poll() == ForkedKernel(second["pid"]).poll() == 1
    (tmp_path / "left").mkdir()
    command = [sys.executable, *LAUNCHER, "-f", str(tmp_path / "kernel.json")]
    orphan = SERVER.kernel(command, os.environ, str(tmp_path / "left"))
    until = time.monotonic() + 60
    while not (tmp_path / "kernel.json").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert orphan.poll() is None
    time.sleep(2)  # it looks at its parent from its start on
    psutil.Process(server).kill()
    while orphan.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert orphan.poll() == 1 and orphan.wait() == 1
    assert look(tmp_path / "c", "3")["mark"] == "3"


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_a_request_is_given_up_when_it_is_interrupted(tmp_path):
    """The process may import for seconds yet: the one who waits gets no kernel at once, and later ones are forked again."""
    server, found = ForkServer(), []
    command = [sys.executable, *LAUNCHER, "-f", str(tmp_path / "kernel.json")]
    waiting = threading.Thread(target=lambda: found.append(server.kernel(command, os.environ, str(tmp_path))))
    waiting.start()
    while server.process is None or not server.lock.locked():
        time.sleep(0.01)
    time.sleep(0.2)
    server.interrupt()
    waiting.join(20)
    assert found == [None] and not server.broken
    server.interrupt()  # nobody waits
    server.stop()
    assert server.process is None


def test_what_cannot_be_forked():
    """Kernels of another Python, and those bound to a GPU, are started in the ordinary way."""
    ours = [sys.executable, *LAUNCHER, "-f", "x.json"]
    assert possible(ours, {}) == (sys.platform == "linux")
    assert not possible(["/other/python", *ours[1:]], {})
    assert not possible(ours, {"CUDA_VISIBLE_DEVICES": "1"})
