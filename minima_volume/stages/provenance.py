"""What reproducing a result needs: versions, device, threads and git revision."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from minima_volume import __version__
from minima_volume.config.sections import Executable


def provenance(config: Executable) -> dict[str, Any]:
    """Versions, device, threads and git revision, as stored beside every result."""
    device = config.experiment.device
    return {
        "versions": _versions(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu ({platform.machine()})",
        "threads": config.experiment.threads,
        "git_revision": _git_revision(),
    }


@cache
def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("torch", "numpy", "scipy")}
    return {"python": platform.python_version(), "minima_volume": __version__, **others}


@cache
def _git_revision() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
