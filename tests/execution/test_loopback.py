"""Nothing that the package starts can be reached from another machine."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest
from helpers import make_run

from minima_volume.config.run import Execution
from minima_volume.execution.cluster import make_local
from minima_volume.runs.notebooks import SOURCES
from minima_volume.runs.pipeline import run_pipeline
from minima_volume.stages.run import TRAIN


def listening() -> set[str]:
    """Addresses on which this process and those it has started listen."""
    found: set[str] = set()
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue
        found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}
    return found


@pytest.mark.parametrize("options", [{}, {"dashboard_address": ":0"}, {"dashboard_address": "127.0.0.1:0"}])
def test_a_local_cluster_listens_on_loopback_only(options):
    """Scheduler, workers, nannies and the dashboard, if bokeh is there to draw it."""
    with make_local(Execution(cluster="local", options={"n_workers": 1, **options})) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        assert listening() == {"127.0.0.1"}


@pytest.mark.notebooks
def test_kernels_listen_on_loopback_only(tmp_path):
    """Looked at while a notebook of the pipeline runs, forked kernels as well."""
    run = make_run(tmp_path / "condition" / "model_0_data_10")
    (run.folder / TRAIN).write_text((SOURCES / TRAIN).read_text(encoding="utf-8"), encoding="utf-8")
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(listening())
            time.sleep(0.2)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        (outcome,) = run_pipeline(run.folder.parent, stages=["train"], jobs=1, progress=False)
    finally:
        done.set()
        watch.join()
    assert outcome.outcome == "done", outcome.error
    assert seen == {"127.0.0.1"} and os.getpid()
