"""One Gaussian local volume of a run (a minimum, a landscape, a sigma and a threshold), and the file that keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.stages.run import Run
from minima_volume.stages.train import Trained
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.mass import GaussianMass, splitting_estimate
from minima_volume.volume.gaussian.plan import PILOT, MassSettings, disagreeing
from minima_volume.volume.gaussian.splitting import Repeat, Splitting, Stage

FORMAT = 1  # of the fingerprint
RECORD = ("sigma", "verdict", "fingerprint", "estimator")  # what a cell's file holds beside the estimate
ESTIMATOR = 2  # 1: Student's interval of splitting, and a pilot that was counted where it had many hits


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        landscape, minimum: as in `Run.pairs`.
        threshold: the loss threshold whose folder it is in.
        condition: that threshold, or the accuracy threshold paired with it.
        sigma: size of the perturbation.
    """

    landscape: int
    minimum: int
    threshold: float
    condition: Condition
    sigma: float

    def path(self, run: Run) -> Path:
        return run.mass_file(self.landscape, self.threshold, self.minimum, self.sigma, self.condition.kind)

    def size(self, run: Run) -> int:
        """Samples of the landscape."""
        return run.config.data.base_size + self.landscape

    def fingerprint(self, run: Run, trained: Trained) -> str:
        """A hash of everything that decides the number; which other levels the run has does not."""
        config, record = run.config, trained.records[self.minimum]
        parts = {
            "format": FORMAT,
            "weights": record["weights_hash"],
            "data": record["data_hash"],
            "size": self.size(run),
            "loss": config.training.loss,
            "scaling": [config.perturbation.scaling, config.perturbation.names],
            "seed": config.seeds.perturbation,
            "condition": asdict(self.condition),
            "sigma": self.sigma,
            "settings": settings_record(run),
            "device": config.experiment.device,
        }
        if levels := record["settings"]["data"].get("levels"):  # a series on one data set, or of an earlier version
            parts["sizes"] = [config.data.base_size + level for level in levels]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def mass_settings(run: Run) -> MassSettings:
    """How the run's config wants Gaussian local volumes measured."""
    chosen = run.config.volume.gaussian
    return MassSettings(
        num_repeats=chosen.num_repeats,
        precision=chosen.precision,
        splitting=Splitting(num_particles=chosen.num_particles, num_moves=chosen.num_moves),
    )


def settings_record(run: Run) -> dict[str, Any]:
    """The settings that decide the numbers, for a record."""
    record = asdict(mass_settings(run))
    del record["splitting"]["memory"]
    return record


def cells_of(
    run: Run, landscapes: Sequence[int], thresholds: Sequence[float], sigmas: Sequence[float]
) -> Iterator[Cell]:
    """All cells, those of one minimum together."""
    for minimum in run.config.minima:
        for landscape, other in run.pairs():
            if other != minimum or landscape not in landscapes:
                continue
            for threshold in thresholds:
                accuracy = run.config.volume.accuracy_for(threshold)
                conditions = [Condition("loss", threshold)]
                if accuracy is not None:
                    conditions.append(Condition("accuracy", accuracy))
                for condition in conditions:
                    for sigma in sigmas:
                        yield Cell(landscape, minimum, threshold, condition, sigma)


def kept_sigmas(run: Run, landscape: int, threshold: float) -> set[float]:
    """The sigmas whose cells lie beside a results.json; whether these are current is not asked."""
    found = set()
    for path in run.mass_folder(landscape, threshold).glob("*.json"):
        try:
            found.add(float(read_json(path)["sigma"]))
        except (DamagedFileError, KeyError, TypeError, ValueError):
            continue
    return found


def write_mass(path: Path, mass: GaussianMass, cell: Cell, fingerprint: str) -> Path:
    """Keep one measured cell, with all its repeats and stages."""
    record = {"sigma": cell.sigma, "verdict": mass.verdict, "fingerprint": fingerprint, "estimator": ESTIMATOR}
    return write_json(path, asdict(mass) | record)


def read_mass(path: Path, fingerprint: str) -> GaussianMass | None:
    """A kept cell, None where there is none, or it has to be measured again: other weights, data, settings, or an older estimator."""
    try:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("fingerprint") != fingerprint:
            return None
        estimator = content.get("estimator", 1)
        mass = _mass({key: value for key, value in content.items() if key not in RECORD})
    except (MissingStageError, DamagedFileError):
        return None
    if estimator == ESTIMATOR:
        return mass
    return _of_first_estimator(mass) if estimator == 1 else None


def _of_first_estimator(mass: GaussianMass) -> GaussianMass | None:
    """What a cell of estimator 1 says today: the same repeats with today's interval.

    None where today's estimator would have drawn other particles: a pilot that was counted, repeats that disagree, and repeats
    that did not reach the threshold, whose upper limit could be wrong.
    """
    if mass.method != "splitting":
        return None if mass.num_samples == PILOT else mass
    if mass.log_mass is None or mass.degrees is None:
        return None
    first = int(mass.degrees) + 1
    found = splitting_estimate(mass.repeats[:first], mass.repeats[first:])
    if found.interval[1] is None or disagreeing(mass.repeats[:first]):
        return None
    return replace(mass, interval=found.interval, standard_error=found.standard_error)


def _mass(content: dict[str, Any]) -> GaussianMass:
    try:
        repeats = tuple(
            Repeat(**repeat | {"stages": tuple(Stage(**stage) for stage in repeat["stages"])})
            for repeat in content["repeats"]
        )
        pairs = {key: None if content[key] is None else tuple(content[key]) for key in ("interval", "moves_effect")}
        mass = GaussianMass(**content | {"repeats": repeats} | pairs)
        for field in fields(GaussianMass):
            value = getattr(mass, field.name)
            if str(field.type).split(" | ")[0] in ("float", "int") and not isinstance(value, int | float | None):
                raise TypeError(f"{field.name} is {value!r}")
        return mass
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"not a Gaussian local volume: {error}") from error
