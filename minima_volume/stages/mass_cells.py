"""One Gaussian local volume of a run (a minimum, a landscape, a sigma and a threshold), and the file that keeps it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.stages.freshness import FIRST_MASSES, MARKED_MASSES, MASSES, mass_mark
from minima_volume.stages.run import Run
from minima_volume.stages.thresholds import conditions_of
from minima_volume.stages.trained import Trained
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.mass import GaussianMass, splitting_estimate
from minima_volume.volume.gaussian.plan import PILOT, MassSettings, disagreeing
from minima_volume.volume.gaussian.splitting import Repeat, Splitting, SplittingStage

RECORD = ("sigma", "verdict", "fingerprint", "estimator")  # what a cell's file holds beside the estimate


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Attributes:
        landscape, minimum, size: as in `Pair`.
        threshold: the loss threshold whose folder it is in.
        condition: that threshold, or the accuracy threshold paired with it.
        sigma: size of the perturbation.
    """

    landscape: int
    minimum: int
    size: int
    threshold: float
    condition: Condition
    sigma: float

    def path(self, run: Run) -> Path:
        return run.mass_file(self.landscape, self.threshold, self.minimum, self.sigma, self.condition.kind)

    def mark(self, run: Run, trained: Trained) -> str:
        """A hash of everything that decides the number."""
        record = trained.records[self.minimum]
        return mass_mark(run.config, record, self.size, self.condition, self.sigma, mass_settings(run))


def mass_settings(run: Run) -> MassSettings:
    """How the run's config wants Gaussian local volumes measured."""
    chosen = run.config.volume.gaussian
    return MassSettings(
        chosen.estimator,
        num_repeats=chosen.num_repeats,
        precision=chosen.precision,
        splitting=Splitting(num_particles=chosen.num_particles, num_moves=chosen.num_moves),
    )


def cells_of(
    run: Run, landscapes: Sequence[int], thresholds: Sequence[float], sigmas: Sequence[float]
) -> Iterator[Cell]:
    """All cells, those of one minimum together."""
    for pair in (pair for minimum in run.config.minima for pair in run.pairs(minimum)):
        if pair.landscape not in landscapes:
            continue
        for threshold in thresholds:
            for condition in conditions_of(run, threshold):
                for sigma in sigmas:
                    yield Cell(pair.landscape, pair.minimum, pair.size, threshold, condition, sigma)


def current_masses(
    run: Run, trained: Trained, landscape: int, threshold: float, sigmas: Collection[float] = ()
) -> dict[Cell, GaussianMass]:
    """The measured cells of a landscape and threshold that still stand, at the sigmas of config.yaml, those on disk and those given."""
    if not run.mass_folder(landscape, threshold).is_dir():
        return {}
    wanted = sorted({*run.config.volume.gaussian.sigmas, *sigmas, *kept_sigmas(run, landscape, threshold)})
    cells = cells_of(run, [landscape], [threshold], wanted)
    there = [cell for cell in cells if cell.path(run).exists()]
    found = {cell: read_mass(cell.path(run), cell.mark(run, trained)) for cell in there}
    return {cell: mass for cell, mass in found.items() if mass is not None}


def kept_sigmas(run: Run, landscape: int, threshold: float) -> set[float]:
    """The sigmas whose cells lie beside a results.json; whether these are current is not asked."""
    found = set()
    for path in run.mass_folder(landscape, threshold).glob("*.json"):
        try:
            found.add(float(read_json(path)["sigma"]))
        except (DamagedFileError, KeyError, TypeError, ValueError):
            continue
    return found


def write_mass(path: Path, mass: GaussianMass, cell: Cell, mark: str) -> Path:
    """Keep one measured cell, with all its repeats and stages."""
    record = {"sigma": cell.sigma, "verdict": mass.verdict, "fingerprint": mark, "estimator": MASSES}
    return write_json(path, asdict(mass) | record)


def read_mass(path: Path, mark: str) -> GaussianMass | None:
    """A kept cell; None if there is none, or if it has to be measured again: other weights, data, settings, or an older estimator."""
    try:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("fingerprint") != mark:
            return None
        estimator = content.get("estimator", FIRST_MASSES)
        mass = _mass({key: value for key, value in content.items() if key not in RECORD})
    except (MissingStageError, DamagedFileError):
        return None
    if estimator in MARKED_MASSES:
        return mass
    return _of_first_estimator(mass) if estimator == FIRST_MASSES else None


def _of_first_estimator(mass: GaussianMass) -> GaussianMass | None:
    """What a cell of estimator 1 says today: the same repeats with today's interval.

    None if today's estimator would have drawn other particles: a pilot that was counted, repeats that disagree, and repeats
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


def _pair(value: Any, key: str) -> tuple[Any, ...] | None:
    """Two numbers, either of which may be None."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(end, int | float | None) for end in value):
        raise TypeError(f"{key} is {value!r:.40}, not two numbers")
    return tuple(value)


def _mass(content: dict[str, Any]) -> GaussianMass:
    try:
        repeats = tuple(
            Repeat(**repeat | {"stages": tuple(SplittingStage(**stage) for stage in repeat["stages"])})
            for repeat in content["repeats"]
        )
        pairs = {key: _pair(content[key], key) for key in ("interval", "moves_effect")}
        mass = GaussianMass(**content | {"repeats": repeats} | pairs)
        for field in fields(GaussianMass):
            value = getattr(mass, field.name)
            if str(field.type).split(" | ")[0] in ("float", "int") and not isinstance(value, int | float | None):
                raise TypeError(f"{field.name} is {value!r}")
        return mass
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"not a Gaussian local volume: {error}") from error
