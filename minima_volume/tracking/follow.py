"""A process that sends a journal while its run goes on, so that a slow or dead server costs the run next to nothing.

Importing MLflow takes seconds and much memory, and a request to a server that is down may take minutes: none of it happens in the
process that computes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import minima_volume
from minima_volume.config.tracking import URI_VARIABLE
from minima_volume.tracking.journal import Journal
from minima_volume.tracking.mlflow_server import MLflowServer, hold_back, said
from minima_volume.tracking.send import send

LOCAL, REMOTE = (
    60.0,
    9.0,
)  # seconds to wait for a database on this machine, and for a server, all waits of a run together
REQUEST_SECONDS = 3
POLL = 0.02


class Follower:
    """The process that sends one journal.

    Args:
        uri: of the tracker.
        patience: seconds that all waits together may take.
    """

    def __init__(self, uri: str, patience: float | None = None) -> None:
        self.uri = uri
        self._patience = patience if patience is not None else LOCAL if uri.startswith("sqlite:") else REMOTE
        root = str(Path(minima_volume.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "minima_volume.tracking.follow"],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", URI_VARIABLE: uri},
            start_new_session=True,  # Ctrl-C is for the run, which then tells how it ended
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._orders, self._answer = self._process.stdin, self._process.stdout
        os.set_blocking(
            self._orders.fileno(), False
        )  # an order that finds no room is not needed: a later one stands for it
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why nothing is sent any more, or None."""
        if self._failure is None and self._process.poll() is not None and not self._answer.closed:
            self._failure = self._answer.read().decode().strip() or None
            self._answer.close()
        return self._failure

    def wake(self, folder: Path) -> None:
        """The journal in this folder has new lines."""
        with contextlib.suppress(OSError):  # it has ended; `failure` says why
            self._orders.write(json.dumps(str(folder.absolute())).encode() + b"\n")

    def wait_for_run(self, journal: Journal) -> str | None:
        """The id of the tracker's run as soon as there is one; None if there is none."""
        began = time.monotonic()
        while True:
            told = journal.told()
            if told is None or told.run_id is not None or self._process.poll() is not None:
                break
            if time.monotonic() - began > self._patience:
                self._give_up()
                break
            time.sleep(POLL)
        self._patience -= min(self._patience, time.monotonic() - began)
        return None if told is None else told.run_id

    def finish(self, patience: float = float("inf")) -> str | None:
        """Let it send the rest, and end it; why it could not, if so."""
        with contextlib.suppress(OSError):
            self._orders.close()
        try:
            self._process.wait(min(patience, max(1.0, self._patience)))
        except subprocess.TimeoutExpired:
            self._give_up()
        return self.failure

    def _give_up(self) -> None:
        self._failure = said(TimeoutError("it takes too long"), self.uri)
        self._process.kill()
        self._process.wait()
        self._answer.close()


def follow(uri: str, orders: IO[str]) -> None:
    """Send whenever the run says so, and the rest when it ends. A run that ends without a word was killed."""
    first = orders.readline()
    if not first:
        return
    journal = Journal(Path(json.loads(first)))
    with journal.sending() as alone:
        if not alone:
            raise RuntimeError(f"{journal.path} is being sent by another process")
        server = MLflowServer(uri)
        send(journal, server)
        while lines := _waiting(orders):
            journal = Journal(Path(json.loads(lines[-1])))
            send(journal, server)
        told = journal.told()
        if told is not None and told.open:
            journal.end("KILLED")
            send(journal, server)


def _waiting(orders: IO[str]) -> list[str]:
    """Every line that has come, at least one; none at the end."""
    lines = [orders.readline()]
    while lines[-1] and select.select([orders], [], [], 0)[0]:
        lines.append(orders.readline())
    return [line for line in lines if line]


def main() -> None:
    """What the process does; the reason of a failure goes to standard output."""
    uri, answer = os.environ[URI_VARIABLE], sys.stdout
    sys.stdout = sys.stderr  # MLflow prints, too
    hold_back(REQUEST_SECONDS, retries=0)
    try:
        follow(uri, sys.stdin)
    except Exception as error:
        print(said(error, uri), file=answer, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
