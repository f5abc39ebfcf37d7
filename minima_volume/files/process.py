"""What identifies a process whatever the clock does: the boot, the ticks at which it started, and the namespace of its id."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

BOOT = Path("/proc/sys/kernel/random/boot_id")
STATE, START = 0, 19  # fields of /proc/<pid>/stat after the name, which may hold blanks


@dataclass(frozen=True)
class Process:
    """A process of this host.

    Attributes:
        pid: its id.
        started: seconds since 1970, which move when the clock is set.
        boot: the boot of the system; "" if it does not say (only Linux does).
        ticks: its start in clock ticks since that boot; 0 if the system does not say.
        namespace: of its id; processes of two containers may have the same one.
    """

    pid: int
    started: float
    boot: str = ""
    ticks: int = 0
    namespace: str = ""


def current(pid: int) -> Process:
    """What identifies a running process."""
    found = _stat(pid)
    return Process(pid, psutil.Process(pid).create_time(), _boot(), found[1] if found else 0, _namespace())


def is_gone(process: Process) -> bool:
    """Whether a process of this host is known to have ended; of another namespace on this boot nothing is known."""
    if process.ticks and process.boot and _boot():
        if process.boot != _boot():
            return True
        if process.namespace != _namespace():
            return False
        found = _stat(process.pid)
        return found is None or found[0] in "ZX" or found[1] != process.ticks
    try:
        now = psutil.Process(process.pid)
        return now.status() == psutil.STATUS_ZOMBIE or abs(now.create_time() - process.started) > 1
    except psutil.NoSuchProcess:
        return True


@cache
def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    return words[STATE], int(words[START])
