"""Levels added to a run, or taken out of it: what is there stays valid, and only what is new is made."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from helpers import ALL_STAGES, SWISS, edit_config, make_run, numbers, same_arrays, tree

import minima_volume as mv
from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json, read_npz, read_pt, write_json, write_npz, write_pt
from minima_volume.runs.states import run_stage, stage_states
from minima_volume.stages.freshness import mass_record
from minima_volume.stages.mass_cells import mass_settings
from minima_volume.stages.masses import wanted_cells
from minima_volume.stages.run import Run, read_run

SMALL = {
    "data.levels": [0, 20],
    "perturbation.num_directions": 6,
    "volume.loss_thresholds": [0.5, 0.3],
    "volume.accuracy_thresholds": [0.8, 0.9],
    "volume.gaussian": {"sigma": 0.1, "num_particles": 20, "num_repeats": 2, "num_moves": 2, "landscapes": [0, 20]},
}
DONE = ["complete"] * 5


@pytest.fixture(scope="module")
def two_levels(tmp_path_factory) -> Path:
    """A finished run of levels 0 and 20; never written to."""
    torch.set_num_threads(1)
    return make_run(tmp_path_factory.mktemp("two") / "model_0_data_10", SMALL, ALL_STAGES).folder


@pytest.fixture(scope="module")
def three_levels(tmp_path_factory) -> Path:
    """The same with level 40 from the start."""
    torch.set_num_threads(1)
    options = SMALL | {"data.levels": [0, 20, 40]}
    return make_run(tmp_path_factory.mktemp("three") / "model_0_data_10", options, ALL_STAGES).folder


@pytest.fixture
def run_of(tmp_path):
    """A copy of a finished run with other levels in its config.yaml, and what is trained and measured from then on."""

    def copy(folder: Path, changes: dict[str, object]) -> Run:
        return edit_config(shutil.copytree(folder, tmp_path / "condition" / folder.name), changes)

    return copy


@pytest.fixture
def made(monkeypatch):
    """(what, minimum) of every training, shard, radii and Gaussian local volume that is computed."""
    seen = []
    places = {
        "minima_volume.stages.train.train_minimum": lambda task, *_: ("train", task.minimum),
        "minima_volume.stages.sweep.sweep_shard": lambda shard: ("perturb", shard.model.minimum),
        "minima_volume.stages.radii.radii_task": lambda task: ("radii", task.shard.model.minimum),
        "minima_volume.stages.masses.mass_task": lambda task: ("mass", task.cell.minimum),
    }
    for place, which in places.items():
        module, name = place.rsplit(".", 1)
        where = importlib.import_module(module)
        original = getattr(where, name)

        def spy(task, *rest, original=original, which=which):
            seen.append(which(task))
            return original(task, *rest)

        monkeypatch.setattr(where, name, spy)
    return seen


def states(run: Run) -> list[str]:
    return [state.name for state in stage_states(run.folder).values()]


def do_all(run: Run) -> None:
    for stage in ALL_STAGES:
        run_stage(run, stage, progress=False)


def same_pt(first: Path, second: Path) -> None:
    """Assert that two .pt files hold the same, aside from versions."""
    a, b = read_pt(first), read_pt(second)
    assert a.keys() == b.keys()
    for key in a.keys() - {"provenance"}:
        if isinstance(a[key], dict) and key != "settings":
            assert all(torch.equal(a[key][name], b[key][name]) for name in a[key] | b[key]), (first.name, key)
        else:
            assert torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key], (first.name, key)


def same_json(first: Path, second: Path) -> None:
    assert numbers(first) == numbers(second), first.name


SAME = {".pt": same_pt, ".npz": same_arrays, ".json": same_json}


def same_files(first: Path, second: Path) -> int:
    """Assert that two runs have the same numbers in the same files, bit for bit; how many files have numbers."""
    files = [{p.relative_to(run) for p in run.rglob("*") if p.suffix in SAME} for run in (first, second)]
    assert files[0] == files[1]
    for file in files[0]:
        SAME[file.suffix](first / file, second / file)
    return len(files[0])


# ---- a level is added


def test_a_larger_level_trains_and_measures_the_new_minimum_alone(run_of, two_levels, three_levels, made):
    """The files are those of a run that had it from the start, bit for bit; those of the other minima are not even written."""
    run = run_of(two_levels, {"data.levels": [0, 20, 40]})
    before = tree(run.folder)
    assert states(run) == ["partial", *["missing"] * 4]
    assert stage_states(run.folder)["train"].reason == "2 of 3 models"
    do_all(run)
    assert {minimum for _, minimum in made} == {40} and {what for what, _ in made} == {
        "train",
        "perturb",
        "radii",
        "mass",
    }
    assert states(run) == DONE
    assert same_files(run.folder, three_levels) > 30
    after = tree(run.folder)
    kept = [name for name in before if name.endswith((".pt", ".npz")) and after[name] == before[name]]
    assert set(kept) >= {f"models_and_data/model_additional_{q}.pt" for q in (0, 20)} | {
        "data_0/data_0.npz",
        "data_20/data_20.npz",
    }
    made.clear()
    do_all(run)
    assert made == []


def test_a_level_in_between_leaves_the_others_to_the_bit(run_of, two_levels, made):
    """Only its own minimum is trained; those above it are walked in its landscape, and keep what they had in the other ones."""
    run = run_of(two_levels, {"data.levels": [0, 10, 20]})
    before = {q: (run.sweep_file(q, 20).read_bytes(), read_npz(run.radii_file(q, 0.5))) for q in (0, 20)}
    do_all(run)
    assert {minimum for what, minimum in made if what in ("train", "mass")} == {10}
    assert {minimum for what, minimum in made if what in ("perturb", "radii")} == {10, 20}
    assert states(run) == DONE
    for landscape in (0, 20):
        _, radii = before[landscape]
        after = read_npz(run.radii_file(landscape, 0.5))
        for row, level in enumerate(radii["model_data_levels"].tolist()):
            now = after["model_data_levels"].tolist().index(level)
            for name in ("radius", "coefficient", "censored", "reentered", "acc_radius"):
                assert after[name][now].tobytes() == radii[name][row].tobytes(), (landscape, level, name)
    for landscape in (0, 20):
        same_arrays(run.sweep_file(landscape, 20), two_levels / f"data_{landscape}" / "data_20.npz")
    mv.analyze(run.folder.parent)  # takes results.json that were written before and after


@pytest.mark.parametrize("store", ["full", "indices"])
def test_the_samples_that_were_drawn_stay(store, tmp_path):
    """dataset.pt is extended: its first samples are the same, and so is the file of a run with all levels from the start."""
    options = {"data.store": store, "data.variant": "poison", "training.epochs": 2}
    run = make_run(tmp_path / "a" / "model_0_data_10", options | {"data.levels": [0, 30]}, ("train",))
    first = mv.load_models_and_data(run).dataset
    run = edit_config(run.folder, {"data.levels": [0, 30, 90]})
    second = mv.train_models(run, progress=False).dataset
    assert torch.equal(second.x_train[:50], first.x_train) and torch.equal(second.y_train[:50], first.y_train)
    assert len(second.x_train) == 110 and second.hash(30) == first.hash() != second.hash()
    whole = make_run(tmp_path / "b" / "model_0_data_10", options | {"data.levels": [0, 30, 90]}, ("train",))
    assert same_files(run.folder, whole.folder) == 4


@pytest.mark.parametrize("options", [{"data.variant": "noise"}, SWISS])
def test_samples_that_cannot_be_extended(options, tmp_path, cli):
    """More of them are other ones: said, with the way out, and nothing is changed; with no model yet they are drawn anew."""
    run = make_run(tmp_path / "model_0_data_10", options | {"data.levels": [0, 30], "training.epochs": 2}, ("train",))
    edit_config(run.folder, {"data.levels": [0, 30, 61]})
    before = tree(run.folder)
    code, _, err = cli("run", run.folder, "--quiet", "--stage", "train")
    assert code == 1 and tree(run.folder) == before
    for word in (
        "data.levels now go up to 61",
        "gives other samples when more are asked for",
        "clean RUN --what models",
    ):
        assert word in err
    assert f"source {run.config.data.source!r} with variant {run.config.data.variant!r}" in err
    for level in (0, 30):
        run.model_file(level).unlink()
    assert cli("run", run.folder, "--quiet", "--stage", "train")[0] == 0
    assert mv.load_models_and_data(run.folder).dataset.levels == (0, 30, 61)


@pytest.mark.parametrize(
    ("series", "few", "many", "more"),
    [("checkpoints", [4, 9], [4, 6, 9, 12], {"training.epochs": 12}), ("batch_sizes", [5, 20], [5, 10, 20], {})],
)
def test_a_series_takes_more_values(series, few, many, more, tmp_path, made):
    """An epoch or a batch size more: the others are not trained or measured again; all is as if it had been there."""
    options = {"data.levels": [20], "training.epochs": 9, "perturbation.num_directions": 3, f"training.{series}": few}
    run = make_run(tmp_path / "a" / "model_0_data_10", options, ALL_STAGES)
    made.clear()
    run = edit_config(run.folder, {f"training.{series}": many, **more})
    do_all(run)
    new = set(many) - set(few)
    assert {minimum for what, minimum in made if what != "train"} == new and states(run) == DONE
    assert [minimum for what, minimum in made if what == "train"] == (
        [max(new)] if series == "checkpoints" else sorted(new)
    )
    whole = make_run(tmp_path / "b" / "model_0_data_10", options | {f"training.{series}": many, **more}, ALL_STAGES)
    assert same_files(run.folder, whole.folder) > 10


# ---- a level is taken out


def test_a_level_taken_out(run_of, three_levels, two_levels, made):
    """Its file is named, with what to do; without it nothing is trained or measured, and the numbers are those of a run without it."""
    run = run_of(three_levels, {"data.levels": [0, 20]})
    with pytest.raises(
        StaleError,
        match=r"model_additional_40\.pt: data.levels \[0, 20\] does not have this one. Set it back, or delete",
    ):
        mv.train_models(run, progress=False)
    run.model_file(40).unlink()
    do_all(run)
    assert made == [] and states(run) == DONE
    for landscape in (0, 20):
        for threshold in run.config.volume.loss_thresholds:
            for name in ("results.json", "radii.npz"):
                file = run.results_file(landscape, threshold).with_name(name).relative_to(run.folder)
                SAME[file.suffix](run.folder / file, two_levels / file)
    same_arrays(run.accuracies_file, two_levels / "test_accuracies.npz")
    same_json(run.cutoffs_file, two_levels / "cutoffs" / "cutoffs.json")
    mv.analyze(run.folder.parent)
    do_all(edit_config(run.folder, {"data.levels": [0, 20, 40]}))
    assert set(made) == {("train", 40), ("radii", 40)}  # its sweeps and Gaussian local volumes are still there
    same_files(run.folder, three_levels)


# ---- files of earlier versions


def as_before(run: Run) -> None:
    """Rewrite a run's files as the version before this wrote them: with all levels, and the hash of all samples, in each."""
    trained = mv.load_models_and_data(run)
    config, everything = run.config, trained.dataset.hash()
    for cell in wanted_cells(run):
        record = trained.records[cell.minimum]
        parts = {
            "format": 1,
            "weights": record["weights_hash"],
            "data": everything,
            "size": cell.size,
            "sizes": sorted(trained.dataset.sizes),
            "loss": config.training.loss,
            "scaling": [config.perturbation.scaling, config.perturbation.names],
            "seed": config.seeds.perturbation,
            "condition": asdict(cell.condition),
            "sigma": cell.sigma,
            "settings": mass_record(mass_settings(run)),
            "device": config.experiment.device,
        }
        mark = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        write_json(cell.path(run), read_json(cell.path(run)) | {"fingerprint": mark})
    for minimum in config.minima:
        record = read_pt(run.model_file(minimum))
        record["settings"]["data"]["levels"] = config.data.levels
        write_pt(run.model_file(minimum), record | {"data_hash": everything})
    for landscape, minimum in ((pair.landscape, pair.minimum) for pair in run.pairs()):
        path = run.sweep_file(landscape, minimum)
        write_npz(path, read_npz(path) | {"data_hash": everything})


def test_files_of_the_version_before_stay_current(run_of, two_levels, three_levels, made):
    """Nothing is made again; a level that is added then costs its own minimum, and one that is taken out nothing."""
    run = run_of(two_levels, {})
    as_before(run)
    assert states(run) == DONE
    do_all(run)
    assert made == []
    run = edit_config(run.folder, {"data.levels": [0, 20, 40]})
    do_all(run)
    assert {minimum for _, minimum in made} == {40} and states(run) == DONE
    for file in three_levels.rglob("results.json"):
        same_json(run.folder / file.relative_to(three_levels), file)
    made.clear()
    run = edit_config(run.folder, {"data.levels": [0], "volume.gaussian.landscapes": None})
    run.model_file(40).unlink()
    run.model_file(20).unlink()
    do_all(run)
    assert made == [] and states(read_run(run.folder)) == DONE


def test_other_samples_are_still_noticed(run_of, two_levels):
    """A dataset.pt of another data seed: the models are not of it."""
    run = run_of(two_levels, {})
    other = make_run(run.folder.parent / "model_0_data_11", SMALL | {"training.epochs": 1}, ("train",))
    content = read_pt(other.dataset_file)
    write_pt(run.dataset_file, content | {"data_seed": 10})
    with pytest.raises(StaleError, match="was trained on other samples than dataset.pt holds"):
        mv.load_models_and_data(run)
