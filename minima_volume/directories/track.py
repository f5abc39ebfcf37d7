"""What MLflow is told of a training and of predictions, if the config has a section `mlflow`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minima_volume.config.directory import TrainConfig, resolved
from minima_volume.config.tracking import lasting_uri, tracking_uri
from minima_volume.directories.directory import Directory, Opened
from minima_volume.files.atomic import read_pt
from minima_volume.files.yaml import dotted
from minima_volume.tracking.follow import Follower
from minima_volume.tracking.journal import Journal, Status
from minima_volume.tracking.mlflow_server import require_mlflow

Say = Callable[[str], object]
UNTOLD = ("data.categories", "data.scales", "mlflow.")  # found in the data, or about tracking itself
INTERRUPTED_SECONDS = 3.0  # that a person waits who pressed Ctrl-C


class Untracked:
    """A training without a section `mlflow`: nothing is told."""

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Metrics of an epoch."""

    def mark(self) -> dict[str, Any]:
        """What checkpoints hold about the tracker's run."""
        return {}

    def end(self, status: Status) -> None:
        """The training has ended."""


class Tracked(Untracked):
    """A training that MLflow follows: the journal is written first, a process of its own sends it.

    Args:
        held: the directory of the training.
        say: called with a line when nothing can be sent any more.
    """

    def __init__(self, held: Opened, say: Say) -> None:
        section = held.config.mlflow
        assert section is not None
        self._held, self._say, self._complained = held, say, False
        uri = tracking_uri(section.tracking_uri, os.environ)
        self._follower = Follower(uri)
        told = self._journal.told()
        if told is not None:
            self._journal.resume()
        else:
            params = {key: value for key, value in dotted(resolved(held.config)).items() if not key.startswith(UNTOLD)}
            kept = lasting_uri(section.tracking_uri, os.environ)
            self._journal.begin(
                held.config.experiment.name, section.experiment_name, kept, params, **_known(held.final)
            )
            told = self._journal.told()
        assert told is not None
        self._key, self._run_id, self._steps = told.begin["key"], told.run_id, told.steps
        self._follower.wake(held.directory.folder)

    @property
    def _journal(self) -> Journal:
        return Journal(self._held.directory.folder)

    def epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Metrics of an epoch; one that was told before an interruption is not told again."""
        if epoch not in self._steps:
            self._steps.add(epoch)
            self._journal.metrics(epoch, values)
        self._follower.wake(self._held.directory.folder)
        self._complain()

    def mark(self) -> dict[str, Any]:
        """What checkpoints hold about the tracker's run: its id, and the key by which it is found if the server was down."""
        self._run_id = self._run_id or self._follower.wait_for_run(self._journal)
        return {"mlflow": {"run_id": self._run_id, "key": self._key}}

    def end(self, status: Status) -> None:
        """Tell the config and the checkpoint, close the run, and let the rest be sent."""
        directory = self._held.directory
        wanted = [directory.config_file, *_best(directory)]
        for path in filter(lambda path: path.is_file(), wanted):
            self._journal.artifact(str(path.relative_to(directory.folder)))
        self._journal.end(status)
        self._follower.wake(directory.folder)
        self._follower.finish(INTERRUPTED_SECONDS if status == "KILLED" else float("inf"))
        self._complain()

    def _complain(self) -> None:
        if self._follower.failure is not None and not self._complained:
            self._complained = True
            line = f"{self._follower.failure}. Nothing is lost: `minima-volume track sync {self._held.final.folder}` sends it later"
            self._held.directory.log(line)
            self._say(line)


@contextmanager
def tracked(held: Opened, say: Say) -> Iterator[Untracked]:
    """Tell MLflow of what happens within, and how it ended: the run is closed whatever that was."""
    if held.config.mlflow is None:
        yield Untracked()
        return
    tracker, status = Tracked(held, say), "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end(status)  # type: ignore[arg-type]


def check_tracking(config: TrainConfig) -> None:
    """Raise ConfigError if the config wants MLflow and it is not installed, or the environment's address cannot be used."""
    if config.mlflow is not None:
        require_mlflow()
        tracking_uri(config.mlflow.tracking_uri, os.environ)


def track_predictions(directory: Directory, epoch: int, values: Mapping[str, Any], say: Say) -> None:
    """Tell the run of a directory the metrics of its predictions, if it has one."""
    journal = Journal(directory.folder)
    told = journal.told()
    if told is None:
        return
    journal.metrics(epoch, {name: value for name, value in values.items() if isinstance(value, float)})
    follower = Follower(tracking_uri(told.begin["uri"], os.environ))
    follower.wake(directory.folder)
    if failure := follower.finish():
        say(f"{failure}. Nothing is lost: `minima-volume track sync {directory.folder}` sends it later")


def _best(directory: Directory) -> list[Any]:
    """The checkpoint that MLflow gets: the best, else the last."""
    return [path for path in map(directory.checkpoint, ("best", "last")) if path.is_file()][:1]


def _known(directory: Directory) -> dict[str, Any]:
    """The tracker's run of a training that goes on and whose journal was removed, from its checkpoints."""
    if not directory.state_file.is_file():
        return {}
    found = [content["mlflow"] for content in map(read_pt, directory.saved) if "mlflow" in content]
    return found[-1] if found else {}
