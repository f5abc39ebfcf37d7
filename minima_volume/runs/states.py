"""The five stages of a run as functions, and the state of each, read from its files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minima_volume.errors import DamagedFileError, MinimaVolumeError, MissingStageError, StaleError
from minima_volume.files.atomic import read_json, read_npz
from minima_volume.files.content import interpreted
from minima_volume.files.user_code import CodeNotRunError, without_code
from minima_volume.files.verify import check_figure
from minima_volume.stages.accuracy import measure_test_accuracies
from minima_volume.stages.cutoffs import cutoffs
from minima_volume.stages.freshness import require_same, results_settings
from minima_volume.stages.masses import measure_masses, unmeasured, wanted_cells
from minima_volume.stages.radii import estimate_volumes
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.results.results_json import has_present_mark, is_whole
from minima_volume.stages.run import STAGES, Run, read_run
from minima_volume.stages.sweep import estimate_sweep, missing_seeds, sweep, walked
from minima_volume.stages.train import missed_targets, train_models
from minima_volume.stages.trained import Trained, load_models_and_data


@dataclass(frozen=True)
class State:
    """What a stage's files say.

    Attributes:
        name: complete, partial, missing, stale, damaged, invalid or unknown.
        reason: why it is not complete, or what to know of it.
    """

    name: str
    reason: str = ""

    @property
    def complete(self) -> bool:
        return self.name == "complete"


COMPLETE = State("complete")
MODELS_FIRST, SEE_TRAIN = "models first", "see train"
MODELS_REMOVED = "the models were removed; the results made from them are kept (`minima-volume run RUN --stage train` trains them again)"
POINTERS = (MODELS_FIRST, SEE_TRAIN)  # reasons that another stage gives


def run_stage(run: Run, stage: str, *, progress: bool = True) -> Any:
    """Do what is missing of one stage, as its notebook does."""
    if stage == "train":
        return train_models(run, progress=progress)
    if stage == "perturb":
        if progress:
            print(estimate_sweep(run))
        return sweep(run, progress=progress)
    if stage == "volume":
        files = estimate_volumes(run, progress=progress)
        measure_masses(run, progress=progress)
        from minima_volume.plots.run_figures import save_volume_figures  # slow to import, and `status` draws nothing

        return save_volume_figures(run, files)
    if stage == "cutoff":
        from minima_volume.plots.run_figures import save_cutoff_figure

        return save_cutoff_figure(run, cutoffs(run))
    return measure_test_accuracies(run)


def stage_states(folder: str | Path, *, run_code: bool = False) -> dict[str, State]:
    """The state of each stage of a run folder; later stages of an unfinished one are judged by their files alone.

    Args:
        folder: the run folder.
        run_code: build a user's own model and draw from their own source, which runs their code. By default their files alone are
            read; samples that are only stored as indices into an own source are then not known.
    """
    if run_code:
        return _states(folder)
    with without_code():
        return _states(folder)


def _states(folder: str | Path) -> dict[str, State]:
    try:
        run = read_run(folder)
    except MinimaVolumeError as error:
        return dict.fromkeys(STAGES, State("invalid", str(error)))
    try:
        trained = load_models_and_data(run)
    except MissingStageError as error:
        have = sum(run.model_file(minimum).is_file() for minimum in run.config.minima)
        state = State(
            "partial" if have else "missing",
            f"{have} of {len(run.config.minima)} models" if have else str(error),
        )
        kept = {} if have else _kept(run)
        if "complete" in {one.name for one in kept.values()}:
            state = State(state.name, MODELS_REMOVED)
        return dict.fromkeys(STAGES, State("missing", MODELS_FIRST)) | kept | {"train": state}
    except CodeNotRunError as error:
        reason = f"{error}; `minima-volume status RUN --trust` does"
        return dict.fromkeys(STAGES, State("unknown", SEE_TRAIN)) | {"train": State("unknown", reason)}
    except (StaleError, DamagedFileError) as error:
        state = State("stale" if isinstance(error, StaleError) else "damaged", str(error))
        return dict.fromkeys(STAGES, State(state.name, SEE_TRAIN)) | {"train": state}
    except Exception as error:  # data files that are gone, or a user's own model or source, which may raise anything
        reason = str(error) if isinstance(error, MinimaVolumeError) else f"{type(error).__name__}: {error}"
        return dict.fromkeys(STAGES, State("invalid", SEE_TRAIN)) | {"train": State("invalid", reason)}
    checks = {
        "perturb": _sweep_state,
        "volume": _volume_state,
        "cutoff": _cutoff_state,
        "accuracy": _accuracy_state,
    }
    train = State("complete", "; ".join(missed_targets(run, trained)))
    return {"train": train} | {stage: _guarded(check, run, trained) for stage, check in checks.items()}


def _kept(run: Run) -> dict[str, State]:
    """The stages whose results are all there although the run's models were removed, to save space."""
    config = run.config
    pairs = [pair for minimum in config.minima for pair in run.pairs(minimum)]
    results = [run.results_file(q, t) for q in config.data.levels for t in config.volume.loss_thresholds]
    files = {
        "perturb": [run.sweep_file(pair.landscape, pair.minimum) for pair in pairs],
        "volume": results,
        "cutoff": [run.cutoffs_file],
        "accuracy": [run.accuracies_file],
    }
    found = {stage: COMPLETE for stage, needed in files.items() if all(file.is_file() for file in needed)}
    if "volume" in found:
        found["volume"] = _guarded(_kept_results, run, results)
    return found


def _kept_results(run: Run, results: Sequence[Path]) -> State:
    """Whether results were made with the settings that the run has now."""
    for path in results:
        require_same(read_json(path)["settings"], results_settings(run.config), path, "Train the models again.")
    return COMPLETE


def _guarded(check: Any, run: Run, made: Any) -> State:
    try:
        return check(run, made)
    except MissingStageError as error:
        return State("missing", str(error))
    except StaleError as error:
        return State("stale", str(error))
    except DamagedFileError as error:
        return State("damaged", str(error))
    except (
        Exception
    ) as error:  # content that is readable and yet not what it should be must not hide other stages and runs
        return State("damaged", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def _sweep_state(run: Run, trained: Trained) -> State:
    seeds = missing_seeds(run, trained)
    missing = sum(map(len, seeds.values()))
    wanted = run.config.perturbation.num_directions * len(trained.models)
    if not missing:
        return COMPLETE
    return State(
        "missing" if missing == wanted and not run.shards.exists() else "partial",
        f"{min(wanted, wanted - missing + walked(run, [minimum for minimum in seeds if seeds[minimum]]))} of {wanted} directions",
    )


def _volume_state(run: Run, trained: Trained) -> State:
    pairs = [(landscape, t) for landscape in run.config.data.levels for t in run.config.volume.loss_thresholds]
    stored = {}
    for pair in pairs:  # a damaged file is named
        for figure in run.results_file(*pair).parent.glob("*.png"):
            check_figure(figure)
        if (radii := run.radii_file(*pair)).is_file():
            read_npz(radii, ())
        with suppress(MissingStageError, StaleError):
            stored[pair] = load_results(run.results_file(*pair))
    have = sum(
        run.radii_file(*pair).is_file() and has_present_mark(run, trained, *pair, stored[pair]) for pair in stored
    )
    if have < len(pairs):
        return State("partial" if have else "missing", f"{have} of {len(pairs)} results.json current")
    if missing := unmeasured(run, trained, wanted_cells(run)):
        return State("partial", f"{len(missing)} Gaussian local volumes to measure")
    if unwritten := [pair for pair in pairs if not is_whole(run, trained, *pair, stored[pair])]:
        return State(
            "partial", f"{len(unwritten)} of {len(pairs)} results.json lack Gaussian local volumes that are measured"
        )
    undrawn = sum(not all(figure.is_file() for figure in run.volume_figures(*pair, stored[pair])) for pair in pairs)
    return State("partial", f"figures of {undrawn} of {len(pairs)} results.json to draw") if undrawn else COMPLETE


def _cutoff_state(run: Run, trained: Trained) -> State:
    stored, name = read_json(run.cutoffs_file), run.cutoffs_file.name
    with interpreted(run.cutoffs_file):
        return _cutoffs_state(run, trained, stored, name)


def _cutoffs_state(run: Run, trained: Trained, stored: dict[str, Any], name: str) -> State:
    if list(stored) != [f"Model_{minimum}" for minimum in trained.records]:
        return State(
            "partial", f"{name} is of other {run.config.variation} values than config.yaml has".replace("_", " ")
        )
    for entry, record in zip(stored.values(), trained.records.values(), strict=True):
        if entry.get("weights_hash") != record["weights_hash"]:
            return State("stale", f"{name} is of other models")
        if entry["indices"][-1] != trained.dataset.sizes[-1]:
            return State(
                "partial",
                f"{name} ends at {entry['indices'][-1]} samples, the largest landscape has {trained.dataset.sizes[-1]}",
            )
    figure = run.loss_curves_figure
    if len(trained.dataset.sizes) < 2 and not figure.is_file():  # nothing to draw
        return COMPLETE
    if not figure.is_file():
        return State("missing", f"{figure.name} is missing")
    check_figure(figure)
    return COMPLETE


def _accuracy_state(run: Run, trained: Trained) -> State:
    stored = read_npz(run.accuracies_file)
    hashes = np.array([record["weights_hash"] for record in trained.records.values()])
    same = "weights_hash" in stored and np.array_equal(stored["weights_hash"], hashes)
    return COMPLETE if same else State("missing", f"{run.accuracies_file.name} is of other models")
