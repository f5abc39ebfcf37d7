"""How many cores work may use, and giving them back."""

from __future__ import annotations

import contextlib
import os

import psutil

CORES_VARIABLE = "MINIMA_VOLUME_CORES"


def usable_cores() -> int:
    """Cores this process may use: its share where the pipeline runs several notebooks at once, else all it is bound to."""
    if share := os.environ.get(CORES_VARIABLE):
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_children() -> None:
    """Kill every process that this one has started, and theirs: workers, kernels.

    All but Python's own tracker of shared resources, which frees what they held.
    """
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in word for word in child.cmdline()):
                child.kill()
