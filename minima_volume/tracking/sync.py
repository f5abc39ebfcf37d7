"""Sending journals afterwards: of runs whose server was down, or that were killed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minima_volume.config.tracking import tracking_uri
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.lock import lock_of
from minima_volume.files.walk import find_below
from minima_volume.tracking.journal import NAME, Journal
from minima_volume.tracking.mlflow_server import MLflowServer, hold_back, said, without_password
from minima_volume.tracking.send import Server, send

REQUEST_SECONDS, RETRIES = 10, 1


@dataclass(frozen=True)
class Outcome:
    """What became of one journal.

    Attributes:
        folder: of the run.
        text: for a person.
        failed: whether something is still to be sent.
    """

    folder: Path
    text: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.folder}: {self.text}"


def find_journals(folder: Path) -> list[Journal]:
    """Every journal in a folder or below it; links and hidden folders are not entered."""
    return [Journal(found) for found in find_below(folder, lambda path: (path / NAME).is_file())]


def sync_all(journals: Sequence[Journal], servers: dict[str, Server] | None = None) -> list[Outcome]:
    """Send the rest of each journal. A server that does not answer is asked once.

    Args:
        journals: from `find_journals`.
        servers: address -> server, of those that are connected to; by default MLflow at each address.
    """
    hold_back(REQUEST_SECONDS, RETRIES)
    known, dead = {} if servers is None else servers, dict[str, str]()
    return [_sync(journal, known, dead) for journal in journals]


def _sync(journal: Journal, servers: dict[str, Server], dead: dict[str, str]) -> Outcome:
    told = journal.told()
    if told is None:
        return Outcome(journal.folder, "the journal is empty")
    if told.open and lock_of(journal.folder) is None:
        journal.end("KILLED")
        told = journal.told()
        assert told is not None
    if not told.pending:
        return Outcome(journal.folder, "nothing new")
    uri = tracking_uri(told.begin["uri"], os.environ)
    if uri in dead:
        return Outcome(journal.folder, dead[uri], failed=True)
    with journal.sending() as alone:
        if not alone:
            return Outcome(journal.folder, "is being sent by another process", failed=True)
        try:
            if uri not in servers:
                servers[uri] = MLflowServer(uri)
            gone = send(journal, servers[uri])
        except MinimaVolumeError as error:
            dead[uri] = said(error, uri)
            return Outcome(journal.folder, dead[uri], failed=True)
        except Exception as error:  # MLflow raises many kinds
            return Outcome(journal.folder, said(error, uri), failed=True)
    missing = f"; gone since, not sent: {', '.join(gone)}" if gone else ""
    return Outcome(journal.folder, f"{len(told.pending)} entries sent to {without_password(uri)}{missing}")
