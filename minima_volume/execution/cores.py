"""How many cores work may use."""

from __future__ import annotations

import os

CORES_VARIABLE = "MINIMA_VOLUME_CORES"


def usable_cores() -> int:
    """Cores this process may use: its share where the pipeline runs several notebooks at once, else all it is bound to."""
    if share := os.environ.get(CORES_VARIABLE):
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
