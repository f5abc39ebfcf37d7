"""What MLflow is told of volume runs, if their config has a section `mlflow`: read from their results, so that it can be told at any time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from minima_volume.analysis.results import Results
from minima_volume.config.tracking import lasting_uri, tracking_uri
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import read_npz
from minima_volume.files.lock import locked
from minima_volume.files.walk import find_below
from minima_volume.files.yaml import dotted
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import CONFIG_NAME, Run, read_run, seeds_of
from minima_volume.tracking.follow import Follower
from minima_volume.tracking.journal import Journal
from minima_volume.volume.claims import is_estimate

Number = tuple[str, int, float]  # metric, minimum (a value of the run's variation), value


def runs_below(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else every run folder below it; links are not followed."""
    return find_below(folder, lambda path: seeds_of(path.resolve()) is not None and (path / CONFIG_NAME).is_file())


def tell_run(folder: Path) -> Journal | None:
    """Write into the journal of a run what its results say and the journal does not; None for a run without a section
    `mlflow`, or without results.

    Metrics are `data_<landscape>/loss_<threshold>/log_mass` and `/log_volume`, `test_accuracy` and `test_loss`, and the step is the
    minimum: its level, epoch or batch size. What is no estimate is left out.
    """
    run = read_run(folder)
    if run.config.mlflow is None:
        return None
    journal = Journal(run.output)
    with locked(run.folder):
        told = journal.told()
        known = {} if told is None else _known(told.lines)
        new = [(name, step, value) for name, step, value in _numbers(run) if known.get((name, step)) != value]
        if told is None and not new:
            return None
        if told is None:
            section = run.config.mlflow
            params = {
                key: value for key, value in dotted(run.config.model_dump()).items() if not key.startswith("mlflow.")
            }
            name = f"{run.folder.parent.name}/{run.folder.name}"
            journal.begin(name, section.experiment_name, lasting_uri(section.tracking_uri, os.environ), params)
        elif new:
            journal.resume()
        if told is None or new or told.open:
            for step in dict.fromkeys(step for _, step, _ in new):
                journal.metrics(step, {name: value for name, at, value in new if at == step})
            for path in _files(run):
                journal.artifact(os.path.relpath(path, run.output))
            journal.end("FINISHED")
    return journal


def track_runs(folders: Sequence[Path]) -> list[str]:
    """Tell and send what these runs have to tell; the reasons of what could not be sent."""
    failures = []
    for folder in folders:
        try:
            journal = tell_run(folder)
        except MinimaVolumeError as error:
            failures.append(f"{folder}: {error}")
            continue
        told = None if journal is None else journal.told()
        if journal is None or told is None or not told.pending:
            continue
        follower = Follower(tracking_uri(told.begin["uri"], os.environ))
        follower.wake(journal.folder)
        if failure := follower.finish():
            failures.append(f"{folder}: {failure}")
            break  # the others have the same server, and their journals wait as well
    return failures


def _numbers(run: Run) -> Iterator[Number]:
    for path in _results_files(run):
        results = Results.of(load_results(path))
        stem = f"{run.config.data.variant}_{results.landscape}/loss_{results.threshold:g}"
        found = {
            "log_volume": [(star.log_volume, star.limits) for star in results.stars()],
            "log_mass": [(mass.value, mass.limits) for mass in results.headline_masses],
        }
        yield from (
            (f"{stem}/{kind}", minimum, value)
            for kind, column in found.items()
            for minimum, (value, limits) in zip(results.minima, column, strict=False)
            if value is not None and is_estimate(value, limits)
        )
    if run.accuracies_file.is_file():
        accuracies = read_npz(run.accuracies_file)
        for name, key in (("test_accuracy", "test_accs"), ("test_loss", "test_loss")):
            for minimum, value in zip(accuracies["variation_values"], accuracies[key], strict=True):
                if math.isfinite(value):
                    yield name, int(minimum), float(value)


def _results_files(run: Run) -> list[Path]:
    config = run.config
    wanted = [
        run.results_file(level, threshold)
        for level in config.data.levels
        for threshold in config.volume.loss_thresholds
    ]
    return [path for path in wanted if path.is_file()]


def _files(run: Run) -> list[Path]:
    return [run.folder / CONFIG_NAME, *_results_files(run)]


def _known(lines: Sequence[dict]) -> dict[tuple[str, int], float]:
    return {
        (name, line["step"]): value
        for line in lines
        if line["kind"] == "metrics"
        for name, value in line["values"].items()
    }
