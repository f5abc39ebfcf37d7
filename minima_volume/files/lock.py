"""Who works on a run folder: one lock, which everything that writes takes, so that no two write into each other's files."""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import math
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from minima_volume.errors import BoundaryError, MinimaVolumeError, MissingStageError
from minima_volume.files.atomic import remove_temporaries
from minima_volume.files.boundary import entered
from minima_volume.files.process import Process, current, is_gone
from minima_volume.numerals import duration

try:
    import fcntl
except ImportError:  # not on Windows, where taking over a stale lock is not guarded against a race
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
OWNER_VARIABLE = "MINIMA_VOLUME_OWNER"  # kernels work under the lock of the pipeline that started them
MAX_BYTES = 4096  # of a lock file
Function = TypeVar("Function", bound=Callable[..., Any])


class LockedError(MinimaVolumeError):
    """Another process is working on the run folder."""


@dataclass(frozen=True)
class Lock:
    """What a lock file says.

    Attributes:
        owner: host, process id and start of the process, in one word.
        host, pid, started: of the process; `started` in seconds since 1970, for those who read the file.
        user: who started it.
        since: when the lock was taken, seconds since 1970.
        boot, ticks, namespace: what identifies the process whatever the clock does, see `Process`; "", 0 and "" in locks of
            earlier versions and on systems that do not say.
    """

    owner: str
    host: str
    pid: int
    started: float
    user: str
    since: float
    boot: str = ""
    ticks: int = 0
    namespace: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, for {duration(max(0.0, time.time() - self.since))}"

    @property
    def dead(self) -> bool:
        """Whether its process is known to be gone; of another host nothing is known."""
        if self.host != socket.gethostname():
            return False
        return is_gone(Process(self.pid, self.started, self.boot, self.ticks, self.namespace))


@contextmanager
def locked(folder: Path, owner: str | None = None) -> Iterator[None]:
    """Hold the lock of a run folder; a kernel of the pipeline that holds it is let in, too.

    The lock of a process that died on this host is taken over. Half-written files of killed writers are removed. If the folder
    is removed meanwhile, nothing more is written into it.

    Args:
        folder: the run folder.
        owner: on whose behalf, as `owner()` of the pipeline says; this process by default.

    Raises:
        LockedError: another process holds it; says which, since when, and what to do.
        BoundaryError: the folder or the lock is a link, or the lock is no plain file.
        MissingStageError: the folder cannot be written to.
    """
    if folder.is_symlink():
        raise BoundaryError(f"{folder} is a link, and nothing is written through it; name {folder.resolve()} instead")
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
        with entered(folder.absolute()):
            yield
    finally:
        if taken and (held := _read(path)) is not None and held.owner == mine.owner:
            with contextlib.suppress(OSError):
                path.unlink()


def under_lock(function: Function) -> Function:
    """Decorate a function whose first argument is a run: it holds the lock of the run's folder while it works."""

    @wraps(function)
    def working(run: Any, *arguments: Any, **options: Any) -> Any:
        with locked(run.folder):
            return function(run, *arguments, **options)

    return working  # type: ignore[return-value]


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
    me, host = current(pid), socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    start = f"{me.ticks}" if me.ticks else f"{me.started:.2f}"
    return Lock(f"{host}:{pid}:{start}", host, pid, me.started, user, 0.0, me.boot, me.ticks, me.namespace)


def _take(path: Path, mine: Lock) -> bool:
    """Take the lock; False if it is ours already."""
    while True:
        with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
            if fcntl is not None:
                fcntl.flock(
                    descriptor, fcntl.LOCK_EX
                )  # only while looking, so that of two who find it stale one takes it
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat(follow_symlinks=False).st_ino:
                    held = _parsed(os.pread(descriptor, MAX_BYTES, 0))
                    if held is not None and held.owner == mine.owner:
                        return False
                    if held is not None and not held.dead:
                        raise LockedError(
                            f"{path.parent.name} is in use by {held}. Wait for it or stop it; if you know that it is gone, "
                            f"delete {path}"
                        )
                    _write(path, descriptor, json.dumps(asdict(mine)).encode())
                    return True


def _write(path: Path, descriptor: int, content: bytes) -> None:
    """Write a lock whole; on a full disk it is removed."""
    try:
        os.ftruncate(descriptor, 0)
        if os.pwrite(descriptor, content, 0) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """A lock file; never what a link leads to.

    Raises:
        BoundaryError: it is a link, has another name elsewhere, or is no plain file.
    """
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise _strange(path) from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise _strange(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _strange(path: Path) -> BoundaryError:
    return BoundaryError(f"{path} is a link or no plain file, and is not written to; remove it and try again")


def _read(path: Path) -> Lock | None:
    try:
        with _opened(path, os.O_RDONLY) as descriptor:
            return _parsed(os.read(descriptor, MAX_BYTES))
    except (OSError, BoundaryError):
        return None


def _parsed(content: bytes) -> Lock | None:
    """The lock; None if this is none, such as what a full disk or a killed process leaves."""
    try:
        found = json.loads(content)
        lock = Lock(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    kinds: dict[str, Any] = {"str": str, "int": int, "float": (int, float)}
    right = all(
        isinstance(value := getattr(lock, field.name), kinds[str(field.type)]) and not isinstance(value, bool)
        for field in fields(Lock)
    )
    return lock if right and 0 < lock.pid < 2**31 and math.isfinite(lock.started + lock.since) else None
