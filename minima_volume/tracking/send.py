"""Sending a journal to a tracker: in order, with the original steps and times, and only what it does not know yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from minima_volume.tracking.journal import Journal, Line

MAX_METRICS, MAX_PARAMS = 1000, 100  # per request, by MLflow's rules


class Metric(NamedTuple):
    """A number of one step; `time` in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


class Server(Protocol):
    """What is asked of a tracker."""

    def find_run(self, experiment: str, key: str) -> str | None:
        """The run that has a key, or None."""
        ...

    def create_run(self, experiment: str, name: str, key: str, time: int) -> str:
        """A new run; its id."""
        ...

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None: ...

    def log_file(self, run_id: str, path: Path, folder: str) -> None: ...

    def set_status(self, run_id: str, status: str, time: int) -> None: ...


def send(journal: Journal, server: Server) -> list[str]:
    """Send what is not known yet; what was sent is marked in the journal piece by piece.

    Returns:
        The files that are gone and could not be sent.
    """
    told = journal.told()
    if told is None or not told.pending:
        return []
    begin, gone = told.begin, list[str]()
    run_id = told.run_id or server.find_run(begin["experiment"], begin["key"])
    if run_id is None:
        run_id = server.create_run(begin["experiment"], begin["name"], begin["key"], begin["time"])
    if told.run_id is None:
        journal.mark_sent(run_id, told.sent)
    sent = told.sent
    for group in _groups(told.pending):
        gone += _send_group(group, run_id, journal.folder, server)
        sent += len(group)
        journal.mark_sent(run_id, sent)
    return gone


def _groups(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines of metrics together as far as one request takes them, every other line alone."""
    group: list[Line] = []
    for line in lines:
        full = sum(len(one["values"]) for one in group) + len(line.get("values", ())) > MAX_METRICS
        if group and (line["kind"] != "metrics" or full):
            yield group
            group = []
        if line["kind"] == "metrics":
            group.append(line)
        else:
            yield [line]
    if group:
        yield group


def _send_group(group: Sequence[Line], run_id: str, folder: Path, server: Server) -> list[str]:
    line = group[0]
    if line["kind"] == "begin":
        left = iter(line["params"].items())
        while some := dict(islice(left, MAX_PARAMS)):
            server.log_params(run_id, some)
    elif line["kind"] == "metrics":
        server.log_metrics(
            run_id,
            [Metric(name, value, one["time"], one["step"]) for one in group for name, value in one["values"].items()],
        )
    elif line["kind"] == "artifact":
        path = folder / line["path"]
        if not path.is_file():
            return [line["path"]]
        server.log_file(run_id, path, str(Path(line["path"]).parent))
    else:
        server.set_status(run_id, line.get("status", "RUNNING"), line["time"])
    return []
