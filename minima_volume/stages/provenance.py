"""What reproducing a result needs: versions, device, threads, git revision, and settings that must agree."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from minima_volume.config.run import Config
from minima_volume.errors import StaleError


def provenance(config: Config) -> dict[str, Any]:
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
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("minima_volume", "torch", "numpy", "scipy")
    }


@cache
def _git_revision() -> str | None:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def require_same(stored: Mapping[str, Any], current: Mapping[str, Any], where: Path, way_out: str) -> None:
    """Refuse to mix results made with different settings.

    Args:
        stored: sections and keys that the file was made with.
        current: the same from the configuration.
        where: the file.
        way_out: what the user can do.

    Raises:
        StaleError: names the first differing setting and its two values.
    """
    for key, value in current.items():
        there = stored.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            require_same(
                {f"{key}.{name}": item for name, item in there.items()},
                {f"{key}.{name}": item for name, item in value.items()},
                where,
                way_out,
            )
        elif there != value:
            raise StaleError(f"{where} was made with {key} = {there!r}, config.yaml says {value!r}. {way_out}")
