"""The Gaussian local volumes of a run: what is missing is measured, kept cell by cell, and written into results.json."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from minima_volume.config.run import Config
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.execution.device import threads
from minima_volume.execution.tasks import run_tasks, usable_workers
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.numerals import duration
from minima_volume.perturbation.directions import Directions
from minima_volume.stages.mass_cells import Cell, cells_of, mass_settings, read_mass, write_mass
from minima_volume.stages.measured import MeasuredModel, at_hand, make_engine
from minima_volume.stages.results.results_json import write_results
from minima_volume.stages.run import VOLUME, Run, minimum_name
from minima_volume.stages.trained import Trained, load_models_and_data
from minima_volume.volume.gaussian.event import Event, Target
from minima_volume.volume.gaussian.plan import (
    PILOT,
    PILOT_HITS,
    Job,
    MassSettings,
    Plan,
    Result,
    Split,
    do_job,
    mass_plan,
)
from minima_volume.volume.gaussian.splitting import Splitting, require_room, splitting

QUICK = Splitting(num_particles=20, num_moves=2, max_stages=12)  # to say beforehand about how long it takes


@dataclass(frozen=True)
class MassTask:
    """One piece of the work for one cell."""

    model: MeasuredModel
    cell: Cell
    job: Job
    number: tuple[int, int]  # of the job in its plan's list, and of the piece in its job

    @property
    def config(self) -> Config:
        return self.model.config


@own_defaults()
def mass_task(task: MassTask) -> Result:
    """Do one task."""
    cell = task.cell
    return do_job(Target.of(task.model.engine(), cell.sigma, cell.size, cell.condition), task.job)


@under_lock
@own_defaults()
def measure_masses(
    run: Run,
    trained: Trained | None = None,
    *,
    landscapes: Sequence[int] | None = None,
    thresholds: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    progress: bool = True,
) -> list[Path]:
    """Measure log_mass(sigma) of every minimum and write the `log_mass_*` keys of results.json.

    What is already there, made from the same weights, data and settings, is left alone. Each cell (minimum, landscape,
    sigma, threshold) is kept as soon as it is done.

    Args:
        run: the run, with a results.json for each landscape and threshold asked for.
        trained: its models and samples; loaded when None.
        landscapes: levels of the landscapes; by default volume.gaussian.landscapes, or the smallest.
        thresholds: loss thresholds; by default the headline.
        sigmas: sizes of the perturbation; by default volume.gaussian.sigma and profile.
        progress: show a progress bar.

    Returns:
        The results.json files; none where no sigma is asked for.

    Raises:
        ConfigError: a landscape or threshold is not the run's.
        MissingStageError: there is no results.json.
    """
    trained = load_models_and_data(run) if trained is None else trained
    cells = wanted_cells(run, landscapes, thresholds, sigmas)
    places = sorted({(cell.landscape, cell.threshold) for cell in cells})
    paths = [run.results_file(*place) for place in places]
    for path in paths:
        if not path.is_file():
            raise MissingStageError(
                f"{path} does not exist, and the Gaussian local volumes go into it: run `estimate_volumes` first "
                f"('{VOLUME}' or `minima-volume run --stage volume` do both)"
            )
    if missing := unmeasured(run, trained, cells):
        _measure(run, trained, missing, progress)
    asked = {cell.sigma for cell in cells}
    return [write_results(run, trained, *place, None, asked) for place in places]


def wanted_cells(
    run: Run,
    landscapes: Sequence[int] | None = None,
    thresholds: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
) -> list[Cell]:
    """The cells that are asked for, by default those of config.yaml."""
    volume, levels = run.config.volume, run.config.data.levels
    landscapes = landscapes if landscapes is not None else volume.gaussian.landscapes or levels[:1]
    chosen = [volume.headline] if thresholds is None else list(thresholds)
    sigmas = [float(sigma) for sigma in (volume.gaussian.sigmas if sigmas is None else sigmas)]
    if unknown := set(landscapes) - set(levels):
        raise ConfigError(f"landscapes {sorted(unknown)} are not among data.levels {levels}")
    if others := set(chosen) - set(volume.loss_thresholds):
        raise ConfigError(f"thresholds {sorted(others)} are not among volume.loss_thresholds {volume.loss_thresholds}")
    if bad := [sigma for sigma in sigmas if not 0 < sigma < float("inf")]:
        raise ConfigError(f"sigma {bad[0]} is not allowed: it must be a positive number")
    if len({f"{sigma:g}" for sigma in sigmas}) != len(sigmas):
        raise ConfigError(f"sigmas {sigmas} must differ from each other in their first 6 digits, which name the files")
    own = {float(threshold) for threshold in chosen}  # 1 and 1.0 are one threshold
    return list(cells_of(run, landscapes, [t for t in volume.loss_thresholds if t in own], sigmas))


def unmeasured(run: Run, trained: Trained, cells: Iterable[Cell]) -> list[Cell]:
    """The cells that have no file, or one of other weights, data or settings, or of an older estimator."""
    return [cell for cell in cells if read_mass(cell.path(run), cell.mark(run, trained)) is None]


@own_defaults()
def estimate_masses(
    run: Run,
    trained: Trained | None = None,
    *,
    landscapes: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> str:
    """About how long the missing cells take on one core, from a few particles that are driven towards the threshold of each."""
    trained = load_models_and_data(run) if trained is None else trained
    cells = wanted_cells(run, landscapes, sigmas=sigmas)
    missing = unmeasured(run, trained, cells)
    if not missing:
        return f"Gaussian local volumes: {len(cells)} of {len(cells)} are there"
    about = duration(_seconds(run, trained, missing))
    return f"Gaussian local volumes: {len(missing)} to measure, about {about} on one core"


def _seconds(run: Run, trained: Trained, cells: Sequence[Cell]) -> float:
    settings = _within(run, 1)
    with threads(run.config.experiment.threads):
        return sum(_seconds_of(run, trained, cell, settings) for cell in cells)


def _seconds_of(run: Run, trained: Trained, cell: Cell, settings: MassSettings) -> float:
    target = Target.of(make_engine(run, trained, cell.minimum), cell.sigma, cell.size, cell.condition)
    if target.outside() is not None:
        return 0.0
    require_room(target, settings.splitting)
    return _seconds_per_particle(target) * expected_particles(target, settings)


def expected_particles(event: Event, settings: MassSettings) -> float:
    """How many parameter vectors a cell will need, from where a few quick particles end.

    More repeats, which a wide interval asks for, are not foreseen.
    """
    (quick,) = splitting(event, [0], replace(QUICK, memory=settings.splitting.memory))
    share = math.exp(quick.log_mass)
    if settings.method == "monte_carlo" or (settings.method == "auto" and share >= PILOT_HITS / PILOT):
        return PILOT + settings.samples(share)
    return settings.passes(quick.log_mass)


def _seconds_per_particle(target: Target) -> float:
    """The quicker of two chunks: the first one finds caches cold."""
    z, generator = target.empty(target.chunk), target.generator(0)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        target.scores(z.normal_(generator=generator))
        seconds.append(time.perf_counter() - begin)
    return min(seconds) / len(z)


def _measure(run: Run, trained: Trained, cells: Sequence[Cell], progress: bool) -> None:
    """Measure cells and keep each as soon as it is done."""
    workers = usable_workers(run.config, _seconds(run, trained, cells))
    settings = _within(run, workers)
    # one process does a cell after the other, so that what is done is kept early; several share the work of all
    groups = [cells] if workers > 1 else [[cell] for cell in cells]
    with tqdm(total=len(cells), unit="minimum", disable=not progress, desc="log mass") as bar, at_hand(run, trained):
        for group in groups:
            _measure_together(run, trained, group, settings, workers, bar)


def _measure_together(
    run: Run, trained: Trained, cells: Sequence[Cell], settings: MassSettings, workers: int, bar: Any
) -> None:
    """The plans of some cells, round by round; a cell is kept when its plan ends."""
    plans: dict[Cell, Plan] = {cell: mass_plan(_seed(run, trained, cell), settings) for cell in cells}
    jobs = {cell: next(plan) for cell, plan in plans.items()}
    while jobs:
        tasks = [task for cell, todo in jobs.items() for task in _tasks(run, trained, cell, todo, workers)]
        left = {cell: sum(task.cell == cell for task in tasks) for cell in jobs}
        results: dict[tuple[Cell, tuple[int, int]], Result] = {}
        for task, result in run_tasks(mass_task, tasks, workers):
            cell = task.cell
            results[cell, task.number] = result
            left[cell] -= 1
            name = minimum_name(cell.minimum, run.config.variation)
            bar.set_postfix_str(f"{name} in {cell.landscape}, sigma {cell.sigma:g}: {type(task.job).__name__.lower()}")
            if left[cell]:
                continue
            try:
                jobs[cell] = plans[cell].send(_joined(jobs[cell], cell, results))
            except StopIteration as stop:
                write_mass(cell.path(run), stop.value, cell, cell.mark(run, trained))
                del jobs[cell]
                bar.update()


def _seed(run: Run, trained: Trained, cell: Cell) -> int:
    perturbation = run.config.perturbation
    directions = Directions.of(trained.models[cell.minimum], perturbation.scaling, perturbation.names)
    return directions.seed_of(run.config.seeds.perturbation)


def _within(run: Run, workers: int) -> MassSettings:
    """The run's settings, with the memory of one of so many processes."""
    settings, memory = mass_settings(run), run.config.execution.memory_gib * 2**30 / workers
    return replace(settings, splitting=replace(settings.splitting, memory=memory))


def _tasks(run: Run, trained: Trained, cell: Cell, jobs: Sequence[Job], workers: int) -> list[MassTask]:
    """The jobs of one cell; with several workers each repeat is a task of its own."""
    model = MeasuredModel.of(run, trained, cell.minimum, workers)
    return [
        MassTask(model, cell, piece, (i, k))
        for i, job in enumerate(jobs)
        for k, piece in enumerate(_pieces(job, workers))
    ]


def _pieces(job: Job, workers: int) -> list[Job]:
    if workers == 1 or not isinstance(job, Split):
        return [job]
    return [replace(job, seeds=(seed,)) for seed in job.seeds]


def _joined(jobs: Sequence[Job], cell: Cell, results: dict[tuple[Cell, tuple[int, int]], Result]) -> list[Result]:
    """The results of a cell's jobs in order, the pieces of a job put together."""
    joined: list[Result] = []
    for i in range(len(jobs)):
        pieces = [
            results[key]
            for key in sorted((key for key in results if key[0] == cell and key[1][0] == i), key=lambda key: key[1])
        ]
        lists = [piece for piece in pieces if isinstance(piece, list)]
        joined.append([repeat for piece in lists for repeat in piece] if lists else pieces[0])
    return joined
