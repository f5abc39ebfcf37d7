"""Who is working on a run folder: a lock with owner and age, so that two pipelines do not write into each other's files."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import psutil

from minima_volume.errors import MinimaVolumeError, MissingStageError
from minima_volume.files.atomic import remove_temporaries

try:
    import fcntl
except ImportError:  # not on Windows, where taking over a stale lock is not guarded against a race
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
OWNER_VARIABLE = "MINIMA_VOLUME_OWNER"  # kernels work under the lock of the pipeline that started them


class LockedError(MinimaVolumeError):
    """Another process is working on the run folder."""


@dataclass(frozen=True)
class Lock:
    """What a lock file says.

    Attributes:
        owner: host, process id and start of the process, in one word.
        host, pid, started: of the process; `started` tells it from a later one with the same id.
        user: who started it.
        since: when the lock was taken, seconds since 1970.
    """

    owner: str
    host: str
    pid: int
    started: float
    user: str
    since: float

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, for {age(time.time() - self.since)}"

    @property
    def dead(self) -> bool:
        """Whether its process is known to be gone; of another host nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


def age(seconds: float) -> str:
    """A length of time in words.

    >>> age(42), age(200), age(9000)
    ('42 s', '3 min', '2.5 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


@contextmanager
def locked(folder: Path, owner: str | None = None) -> Iterator[None]:
    """Hold the lock of a run folder; a kernel of the pipeline that holds it is let in, too.

    The lock of a process that died on this host is taken over. Half-written files of killed writers are removed.

    Args:
        folder: the run folder.
        owner: on whose behalf, as `owner()` of the pipeline says; this process by default.

    Raises:
        LockedError: another process holds it; says which, since when, and what to do.
        MissingStageError: the folder cannot be written to.
    """
    path = folder / LOCK_NAME
    mine = _mine(owner)
    try:
        taken = _take(path, mine)
    except OSError as error:
        raise MissingStageError(
            f"{folder} cannot be written to: {error.strerror or error}. Check that it exists and is writable; nothing was changed."
        ) from error
    if taken:
        remove_temporaries(folder)
    try:
        yield
    finally:
        if taken and (held := _read(path)) is not None and held.owner == mine.owner:
            with contextlib.suppress(OSError):
                path.unlink()


def lock_of(folder: Path) -> Lock | None:
    """Who works on a run folder now; None if nobody does, as far as can be told."""
    held = _read(folder / LOCK_NAME)
    return None if held is None or held.dead else held


def owner() -> str:
    """The word by which this process, and the kernels it starts, own locks."""
    return _mine().owner


def _mine(owner: str | None = None) -> Lock:
    lock = _process(os.getpid())
    return replace(lock, owner=owner or os.environ.get(OWNER_VARIABLE) or lock.owner, since=time.time())


@cache
def _process(pid: int) -> Lock:
    started, host = psutil.Process(pid).create_time(), socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return Lock(f"{host}:{pid}:{started:.2f}", host, pid, started, user, 0.0)


def _take(path: Path, mine: Lock) -> bool:
    """Take the lock; False where it is ours already."""
    while True:
        with path.open("a+", encoding="utf-8") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)  # only while looking, so that of two who find it stale one takes it
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    held = _read(path)
                    if held is not None and held.owner == mine.owner:
                        return False
                    if held is not None and not held.dead:
                        raise LockedError(
                            f"{path.parent.name} is in use by {held}. Wait for it or stop it; if you know that it is gone, "
                            f"delete {path}"
                        )
                    file.truncate(0)
                    file.write(json.dumps(asdict(mine)))
                    return True


def _read(path: Path) -> Lock | None:
    try:
        return Lock(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
