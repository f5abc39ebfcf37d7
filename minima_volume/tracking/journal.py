"""What a tracker is told, as lines of JSON in one file: appended to before anything is sent, so that nothing is lost."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.boundary import check_way
from minima_volume.files.plain import read_text

try:
    import fcntl
except ImportError:  # Windows has none; two senders at once are then not kept apart
    fcntl = None  # type: ignore[assignment]

NAME = "logs/mlflow.jsonl"
MAX_BYTES = 2**28
Line = dict[str, Any]
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Told:
    """How far the tracker knows a journal.

    Attributes:
        begin: the line that began it: name, key, experiment, uri, params.
        lines: all that is to be told, `begin` first.
        sent: how many of them were sent.
        run_id: of the tracker's run; None before there is one.
    """

    begin: Line
    lines: list[Line]
    sent: int
    run_id: str | None

    @property
    def pending(self) -> list[Line]:
        return self.lines[self.sent :]

    @property
    def open(self) -> bool:
        """Whether nothing has closed the run since it began or went on."""
        kinds = [line["kind"] for line in self.lines if line["kind"] in ("begin", "resumed", "end")]
        return kinds[-1] != "end"

    @property
    def steps(self) -> set[int]:
        """Steps that have metrics."""
        return {line["step"] for line in self.lines if line["kind"] == "metrics"}


@dataclass(frozen=True)
class Journal:
    """The journal of one run.

    Attributes:
        folder: of the run; the journal is logs/mlflow.jsonl in it, and artifacts are named relative to it.
    """

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / NAME

    def begin(
        self,
        name: str,
        experiment: str,
        uri: str | None,
        params: Mapping[str, Any],
        key: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Begin a run.

        Args:
            name: of the run.
            experiment: that it belongs to.
            uri: of the tracker; None: as the environment says when it is sent.
            params: what it was made with.
            key: by which the tracker's run is found again; a new one by default.
            run_id: of the tracker's run, if there is one.
        """
        key = key or uuid.uuid4().hex
        self._add("begin", name=name, experiment=experiment, uri=uri, params=dict(params), key=key)
        if run_id is not None:
            self.mark_sent(run_id, 0)

    def resume(self) -> None:
        """The run goes on after an interruption."""
        self._add("resumed")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of one step."""
        self._add("metrics", step=step, values=dict(values))

    def artifact(self, path: str) -> None:
        """A file, relative to the folder."""
        self._add("artifact", path=path)

    def end(self, status: Status) -> None:
        """Close the run."""
        self._add("end", status=status)

    def mark_sent(self, run_id: str, count: int) -> None:
        """The first `count` lines are known to the tracker's run."""
        self._add("sent", run_id=run_id, count=count)

    def told(self) -> Told | None:
        """How far the tracker knows it; None if there is no journal.

        Raises:
            DamagedFileError: it does not begin as one.
        """
        try:
            text = read_text(self.path, MAX_BYTES)
        except FileNotFoundError:
            return None
        lines = list(_parsed(text))
        mine = [line for line in lines if line["kind"] != "sent"]
        sent = [line for line in lines if line["kind"] == "sent"]
        if not mine:
            return None
        if mine[0]["kind"] != "begin":
            raise DamagedFileError(f"{self.path} does not begin with the line of a run; remove it to start anew")
        last: Line = sent[-1] if sent else {"count": 0, "run_id": None}
        return Told(mine[0], mine, last["count"], last["run_id"])

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Keep other senders away; yields False if one is at work."""
        with self.path.open("rb") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                    return
            yield True

    def _add(self, kind: str, **content: Any) -> None:
        line = json.dumps({"kind": kind, "time": time.time_ns() // 1_000_000, **content})
        try:
            check_way(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                torn = False
                if file.seek(0, 2):
                    file.seek(-1, 2)
                    torn = file.read(1) != b"\n"  # a killed process wrote half a line
                file.write(b"\n" * torn + line.encode() + b"\n")
        except OSError as error:
            raise MissingStageError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _parsed(text: str) -> Iterator[Line]:
    """Whole lines; half of one is what a killed process left, or what another is writing now."""
    for line in text.split("\n")[:-1]:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(found, dict) and "kind" in found:
            yield found
