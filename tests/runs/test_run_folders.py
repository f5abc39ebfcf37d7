"""Run folders: making, opening, the state of each stage, and cleaning."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ALL_STAGES, edit_config, make_run, tiny, tree

import minima_volume as mv
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import write_json, write_npz, write_pt
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.clean import clean, files_of
from minima_volume.runs.create import BATCH_NOTEBOOKS, new_folder, new_runs, notebook_source
from minima_volume.runs.states import run_stage, stage_states
from minima_volume.stages.run import RUN_NOTEBOOKS, STAGES, find_runs, seeds_of


@pytest.fixture
def condition(tmp_path: Path) -> Path:
    """A condition folder with a tiny config and no runs."""
    write_yaml(tmp_path / "low_data" / "config.yaml", tiny())
    return tmp_path / "low_data"


def test_a_finished_run_has_exactly_the_documented_files(digits_run):
    """The names of DESIGN section 4, no temporary file, nothing else."""
    top = {p.name for p in digits_run.folder.iterdir()}
    assert top == {
        *("config.yaml", "models_and_data", "data_0", "data_20", "data_40", "cutoffs", "loss_curves.png"),
        "test_accuracies.npz",
    }
    assert [p.name for p in (digits_run.folder / "cutoffs").iterdir()] == ["cutoffs.json"]
    assert not list(digits_run.folder.rglob(".*"))


def test_notebooks_have_their_names():
    """The five notebooks in their order."""
    assert list(STAGES.items()) == [
        ("train", "Train Low Test Models.ipynb"),
        ("perturb", "Random Perturbs.ipynb"),
        ("volume", "Volume Estimation Pipeline.ipynb"),
        ("cutoff", "Volume Cutoff.ipynb"),
        ("accuracy", "Test Accuracy.ipynb"),
    ]


def test_runs_are_found_and_sorted_by_their_numbers(condition):
    """model_10 comes after model_2; files and other folders are not runs."""
    for name in (
        "model_10_data_20",
        "model_2_data_12",
        "model_2_data_3",
        "analysis",
        "model_x_data_1",
        "model_1_data_2_copy",
    ):
        (condition / name).mkdir()
    (condition / "model_5_data_5").write_text("a file", encoding="utf-8")
    assert [p.name for p in find_runs(condition)] == ["model_2_data_3", "model_2_data_12", "model_10_data_20"]
    assert seeds_of(Path("model_0_data_0")) == (0, 0)


def test_new_runs_have_config_and_notebooks(condition):
    """The condition's config.yaml, byte for byte, and the five notebooks; making them again changes nothing."""
    made = new_runs(condition, [(0, 10), (1, 11)])
    assert [p.name for p in made] == ["model_0_data_10", "model_1_data_11"]
    for folder in made:
        assert {p.name for p in folder.iterdir()} == {"config.yaml", *RUN_NOTEBOOKS}
        assert (folder / "config.yaml").read_bytes() == (condition / "config.yaml").read_bytes()
        assert all((folder / name).read_text(encoding="utf-8") == notebook_source(name) for name in RUN_NOTEBOOKS)
    edit_config(made[0], {"training.epochs": 3})
    (made[1] / RUN_NOTEBOOKS[0]).write_text("mine", encoding="utf-8")
    before = tree(condition)
    assert new_runs(condition, [(0, 10), (1, 11)]) == made
    assert tree(condition) == before


def test_a_condition_with_seeds_is_refused(condition):
    """All its runs would contradict their names."""
    edit = tiny({"seeds.model": 3})
    write_yaml(condition / "config.yaml", edit)
    with pytest.raises(ConfigError, match=r"sets seeds\.model 3; in a condition it must be null"):
        new_runs(condition, [(0, 10)])
    assert not find_runs(condition)


def test_new_folder_from_a_template(condition, tmp_path):
    """A run gets the five notebooks; a condition that belongs to no experiment the batch notebooks; what exists is never overwritten."""
    run = new_folder(tmp_path / "model_1_data_2", condition)
    assert {p.name for p in run.iterdir()} == {"config.yaml", *RUN_NOTEBOOKS}
    other = new_folder(tmp_path / "wide", condition)
    assert {p.name for p in other.iterdir()} == {"config.yaml", *BATCH_NOTEBOOKS}
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"wide exists and is not empty; choose another name, nothing was changed"):
        new_folder(other, condition)
    with pytest.raises(MissingStageError, match=r"nowhere/config\.yaml does not exist; a template is"):
        new_folder(tmp_path / "x", tmp_path / "nowhere")
    assert tree(tmp_path) == before


def test_a_copied_template_is_a_run(condition, tmp_path):
    """`cp -r template model_4_data_14` and nothing else."""
    shutil.copytree(condition, tmp_path / "model_4_data_14")
    run = mv.open_run(tmp_path / "model_4_data_14", stage="train")
    assert (run.config.model_seed, run.config.data_seed) == (4, 14)


def test_opening_without_a_stage_writes_nothing(condition):
    """Looking is free; the first stage writes the resolved seeds, a second opening changes nothing more."""
    (folder,) = new_runs(condition, [(2, 12)])
    before = tree(folder)
    mv.open_run(folder)
    assert tree(folder) == before
    mv.open_run(folder, stage="train")
    resolved = tree(folder)
    assert resolved != before
    mv.open_run(folder, stage="perturb")
    assert tree(folder) == resolved


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """And how to make one."""
    with pytest.raises(MissingStageError, match=r"model_0_data_1 does not exist; make one with `minima-volume new`"):
        mv.open_run(tmp_path / "model_0_data_1")


def test_output_dir_moves_everything_the_run_writes(tmp_path):
    """All files lie under it, config.yaml stays."""
    options = {
        "experiment.output_dir": "out",
        "data.levels": [0],
        "perturbation.num_directions": 2,
        "training.epochs": 20,
    }
    run = make_run(tmp_path / "model_0_data_10", options, ALL_STAGES)
    assert {p.name for p in run.folder.iterdir()} == {"config.yaml", "out"}
    assert (run.folder / "out" / "data_0" / "loss_0.5" / "results.json").is_file()
    assert all(state.complete for state in stage_states(run.folder).values())


# ---- states


def test_states_follow_the_files(tmp_path):
    """Missing, then complete, stage by stage."""
    options = {
        "data.levels": [0, 20],
        "perturbation.num_directions": 2,
        "volume.loss_thresholds": [0.5],
        "volume.accuracy_thresholds": None,
    }
    run = make_run(tmp_path / "model_0_data_10", options)
    assert [state.name for state in stage_states(run.folder).values()] == ["missing"] * 5
    for done, stage in enumerate(ALL_STAGES, 1):
        run_stage(run, stage, progress=False)
        assert [state.name for state in stage_states(run.folder).values()] == ["complete"] * done + ["missing"] * (
            5 - done
        )


@pytest.mark.parametrize(
    ("file", "stage", "name"),
    [
        ("models_and_data/model_additional_20.pt", "train", "partial"),
        ("models_and_data/dataset.pt", "train", "partial"),
        ("data_0/data_20.npz", "perturb", "partial"),
        ("data_20/loss_0.5/results.json", "volume", "partial"),
        ("data_20/loss_0.5/radii.npz", "volume", "partial"),
        ("data_20/loss_0.5/log_volume.png", "volume", "partial"),
        ("cutoffs/cutoffs.json", "cutoff", "missing"),
        ("loss_curves.png", "cutoff", "missing"),
        ("test_accuracies.npz", "accuracy", "missing"),
    ],
)
def test_a_removed_file_is_seen(file, stage, name, copied):
    """Only its own stage is unfinished (after training also those that need it), and the reason says something."""
    (copied.folder / file).unlink()
    states = stage_states(copied.folder)
    assert states[stage].name == name and states[stage].reason
    if stage != "train":
        assert [other for other, state in states.items() if not state.complete] == [stage]


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("models_and_data/model_additional_20.pt", "train"),
        ("models_and_data/dataset.pt", "train"),
        ("data_0/data_20.npz", "perturb"),
        ("data_0/loss_0.5/results.json", "volume"),
        ("cutoffs/cutoffs.json", "cutoff"),
        ("test_accuracies.npz", "accuracy"),
    ],
)
def test_a_truncated_file_is_seen(file, stage, copied):
    """The state is damaged and the reason names the file."""
    path = copied.folder / file
    path.write_bytes(path.read_bytes()[:200])
    state = stage_states(copied.folder)[stage]
    assert state.name == "damaged" and path.name in state.reason


def test_an_invalid_config_is_a_state_and_not_a_crash(copied):
    """Unknown key: invalid, with the message."""
    path = copied.folder / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "colour: red\n", encoding="utf-8")
    states = stage_states(copied.folder)
    assert {state.name for state in states.values()} == {"invalid"}
    assert "colour: unknown key" in states["train"].reason


def test_own_code_that_is_gone_is_a_state_and_not_a_crash(tmp_path):
    """A run was trained with my_model.py, which was removed since: its files are what they were; where its code is run, a message."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "my_model.py").write_text("from minima_volume.models.mlp import MLP\n", encoding="utf-8")
    make_run(folder, {"model.name": "my_model:MLP", "training.epochs": 1}, ("train",))
    (folder / "my_model.py").unlink()
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    assert stage_states(folder)["train"].complete
    states = stage_states(folder, run_code=True)
    assert states["train"].name == "invalid" and "'my_model:MLP'" in states["train"].reason


# ---- cleaning

RESULTS = {
    "data_0/loss_0.5/results.json",
    "data_20/loss_0.2/radii.npz",
    "cutoffs/cutoffs.json",
    "loss_curves.png",
    "test_accuracies.npz",
}


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("results", {"models_and_data", "data_0", "data_20", "data_40"}),
        ("sweeps", {"models_and_data"}),
        ("models", set()),
    ],
)
def test_cleaning_removes_one_kind_and_leaves_the_users_files(what, left, copied):
    """Listed first, then removed with the emptied folders; config, notes, notebooks and look-alikes stay."""
    mine = {"notes.txt", "data_0/my_notes.txt", "data_0_copy/data_0.npz", "my_data.py", "data_0/my_own.npz"}
    for name in mine:
        (copied.folder / name).parent.mkdir(exist_ok=True)
        (copied.folder / name).write_text("mine", encoding="utf-8")
    before = set(tree(copied.folder))
    listed = {str(p.relative_to(copied.folder)) for p in files_of(copied.folder, what)}
    assert listed >= RESULTS
    assert set(tree(copied.folder)) == before
    removed = {str(p.relative_to(copied.folder)) for p in clean(copied.folder, what)}
    after = set(tree(copied.folder))
    assert removed == listed == before - after
    assert after >= mine | {"config.yaml"}
    assert not [name for name in after if "loss_" in name]
    folders = {p.name for p in copied.folder.iterdir() if p.is_dir()}
    assert folders == left | {"data_0", "data_0_copy"}
    assert [stage for stage, state in stage_states(copied.folder).items() if state.complete] == {
        "results": ["train", "perturb"],
        "sweeps": ["train"],
        "models": [],
    }[what]


def test_a_cleaned_run_can_be_made_again(digits_run, copied):
    """Sweeps removed and walked again: the numbers are those from before."""
    from helpers import same_sweeps

    clean(copied.folder, "sweeps")
    mv.sweep(copied, progress=False)
    same_sweeps(digits_run, copied)


def test_cleaning_follows_no_links(copied, tmp_path):
    """A linked landscape folder keeps its files."""
    shutil.move(copied.folder / "data_40", tmp_path / "elsewhere")
    (copied.folder / "data_40").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    clean(copied.folder, "sweeps")
    assert (tmp_path / "elsewhere" / "data_40.npz").is_file()


def test_an_unknown_kind_is_named(copied):
    """With what is allowed."""
    with pytest.raises(ConfigError, match=r"'everything' is not known; allowed: results, sweeps, models"):
        clean(copied.folder, "everything")


def test_cleaning_removes_only_what_the_package_wrote(copied):
    """By name and by content: notes and figures beside results, a user's own models and arrays, even under names of ours."""
    place = copied.results_file(0, 0.5).parent
    own = {
        place / "notes.md": b"notes",
        place / "my_figure.png": b"\x89PNG\r\n\x1a\n",
        place / "log_mass" / "comparison.json": b"{}",
        place / "deep" / "results.json": b"{}",
        copied.landscape(0) / "loss_notes" / "results.json": b"{}",
        copied.landscape(0) / "odd.npz": b"x",
        copied.models / "my_pretrained.pt": b"x",
        copied.models / "model_additional_0_best.pt": b"x",
        copied.shards / "level_0" / "notes.txt": b"x",
        copied.output / "cutoffs" / "mine.json": b"{}",
    }
    for path, content in own.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_npz(copied.landscape(0) / "data_7.npz", {"x": np.zeros(3)})
    write_pt(copied.models / "model_additional_7.pt", {"my": torch.zeros(3)})
    write_json(copied.landscape(0) / "loss_0.7" / "results.json", {"mine": 1})
    kept = {*own, copied.landscape(0) / "data_7.npz", copied.models / "model_additional_7.pt"}
    kept |= {copied.landscape(0) / "loss_0.7" / "results.json", copied.folder / "config.yaml"}
    copied.results_file(20, 0.5).write_bytes(b"{")  # damaged, and ours by its name
    clean(copied.folder, "models")
    assert {path for path in copied.folder.rglob("*") if path.is_file()} == kept
    assert all(path.read_bytes() == content for path, content in own.items())
