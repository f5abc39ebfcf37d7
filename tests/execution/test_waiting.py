"""Nothing is waited for without limit: a fork server that is stopped, a cluster that loses its workers."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from minima_volume.config.run import Execution
from minima_volume.execution import cluster as clusters
from minima_volume.execution import fork_server
from minima_volume.execution.cluster import ClusterError, cluster_tasks, make_local
from minima_volume.execution.fork_server import LAUNCHER, ForkServer


def test_a_stopped_fork_server_is_given_up(monkeypatch, tmp_path):
    """Kernels are started in the ordinary way from then on, and the process is gone."""
    monkeypatch.setattr(fork_server, "ANSWER_SECONDS", 0.5)
    server = ForkServer()
    process = server.start()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        assert (
            server.kernel([sys.executable, *LAUNCHER], dict(os.environ, CUDA_VISIBLE_DEVICES=""), str(tmp_path)) is None
        )
        assert time.monotonic() - start < 10 and server.broken
        assert process.wait(10) == -signal.SIGKILL
    finally:
        server.stop()


def forever(task: int) -> int:
    time.sleep(600)
    return task


def test_a_cluster_that_loses_its_workers_is_given_up(monkeypatch):
    """With a message that says what to do; what was finished has been handed over."""
    monkeypatch.setattr(clusters, "LOST_SECONDS", 1.5)
    with make_local(Execution(cluster="local", options={"n_workers": 1, "dashboard_address": ":0"})) as local:
        work = cluster_tasks(forever, [1, 2], local.scheduler_address)
        local.scale(0)
        with pytest.raises(ClusterError, match="has had no workers for .* s; what is finished is kept"):
            list(work)
