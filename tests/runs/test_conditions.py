"""Which folder is an experiment, which a condition, and which one a batch notebook takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import ROOT, make_run, tiny, tree

from minima_volume.errors import ConfigError
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.conditions import batch_folder, conditions_of, find_condition, is_condition, template_of
from minima_volume.runs.create import new_folder, new_runs, sync_notebooks
from minima_volume.runs.notebooks import BATCH_NOTEBOOKS, notebook_source
from minima_volume.stages.run import CONFIG_NAME, RUN_NOTEBOOKS

EXPERIMENTS = ROOT / "experiments"
FULL = "full_pipeline.ipynb"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A template, a condition beside it, two deeper ones with a run each."""
    root = tmp_path / "digits"
    for place in ("template", "poison", "low_data/base", "low_data/cnn"):
        write_yaml(root / place / CONFIG_NAME, tiny())
    for place in ("low_data/base", "low_data/cnn"):
        new_runs(root / place, [(0, 10)])
    return root


def test_a_robustness_study_is_no_condition(tmp_path: Path):
    """Its config.yaml has a schema of its own; no batch notebooks are written beside it."""
    shutil.copytree(
        EXPERIMENTS / "weight_noise", tmp_path / "weight_noise", ignore=shutil.ignore_patterns("checkpoints", "results")
    )
    assert not is_condition(tmp_path / "weight_noise")
    assert conditions_of(tmp_path) == [] and sync_notebooks(tmp_path) == []


@pytest.mark.parametrize("config", ["train_vae", "train_sae"])
def test_an_experiment_directory_is_no_condition(config: str, tmp_path: Path):
    """Wherever it lies, and whether the package wrote its config.yaml or a user copied it there."""
    shutil.copytree(EXPERIMENTS / "digits" / "template", tmp_path / "digits" / "template")
    directory = tmp_path / "vae" / "baseline"
    directory.mkdir(parents=True)
    shutil.copy(ROOT / "configs" / f"{config}.yaml", directory / CONFIG_NAME)
    assert not is_condition(directory) and conditions_of(tmp_path) == []
    sync_notebooks(tmp_path)
    assert [path.name for path in directory.iterdir()] == [CONFIG_NAME]


def notebooks_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.ipynb")}


# ---- which folder is what


@pytest.mark.parametrize(
    ("condition", "experiment"),
    [
        ("digits/poison", "digits"),
        ("digits/low_data/base", "digits"),
        ("sam/MNIST", "sam"),
        ("imbalanced_classes/CIFAR10", "imbalanced_classes"),
        ("modulo_arithmetic/grokking/p29", "modulo_arithmetic"),
    ],
)
def test_the_experiment_is_the_folder_that_holds_the_template(condition: str, experiment: str):
    """Also of conditions that are folders deeper, or named like another experiment."""
    assert template_of(EXPERIMENTS / condition) == (EXPERIMENTS / experiment / "template").resolve()
    assert batch_folder(EXPERIMENTS / condition) == (EXPERIMENTS / experiment).resolve()
    assert EXPERIMENTS / condition in conditions_of(EXPERIMENTS / experiment)


def test_conditions_are_found_and_nothing_else(experiment: Path, tmp_path: Path):
    """No template, run, copy of a run, hidden folder or link; a folder of runs without a config.yaml is one."""
    base = experiment / "low_data" / "base"
    make_run(base / "model_0_data_10_copy", {"seeds.model": 0, "seeds.data": 10})
    write_yaml(experiment / ".ipynb_checkpoints" / CONFIG_NAME, tiny())
    write_yaml(tmp_path / "elsewhere" / CONFIG_NAME, tiny())
    (experiment / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    make_run(experiment / "by_hand" / "model_1_data_2")
    (experiment / "poison" / CONFIG_NAME).write_text("seeds: [not a section]\n", encoding="utf-8")
    found = {str(path.relative_to(experiment)) for path in conditions_of(experiment)}
    assert found == {"by_hand", "low_data/base", "low_data/cnn", "poison"}
    assert not is_condition(experiment / "template") and not is_condition(base / "model_0_data_10")
    assert conditions_of(experiment / "template") == conditions_of(base / "model_0_data_10") == []


# ---- which one a notebook takes


def test_the_only_condition(experiment: Path, monkeypatch: pytest.MonkeyPatch):
    """From the experiment folder and from folders between it and the condition."""
    shutil.rmtree(experiment / "poison")
    shutil.rmtree(experiment / "low_data" / "cnn")
    for place, expected in ((".", "low_data/base"), ("low_data", "base"), ("low_data/base", ".")):
        monkeypatch.chdir(experiment / place)
        assert find_condition() == Path(expected)


@pytest.mark.parametrize("several", [False, True])
def test_several_conditions_are_listed(several: bool, experiment: Path, monkeypatch: pytest.MonkeyPatch):
    """Each name in the message is one that is taken; a folder above them only where all may be meant."""
    monkeypatch.chdir(experiment)
    with pytest.raises(ConfigError, match=r"digits has 3 conditions; set condition to one of: ") as error:
        find_condition(several=several)
    names = str(error.value).partition("one of: ")[2].removesuffix(", or '.' for all of them").split(", ")
    assert names == ["'low_data/base'", "'low_data/cnn'", "'poison'"]
    assert [find_condition(name.strip("'")) for name in names] == [Path(name.strip("'")) for name in names]
    assert find_condition(experiment / "poison") == experiment / "poison"
    for folder in (".", "low_data"):
        if several:
            assert find_condition(folder, several=True) == Path(folder)
        else:
            with pytest.raises(
                ConfigError, match=f"condition '{folder}' is no condition folder; .* one of: 'low_data/"
            ):
                find_condition(folder)


@pytest.mark.parametrize("wrong", ["low_dat", "template", "low_data/base/model_0_data_10"])
def test_what_is_no_condition(wrong: str, experiment: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that does not exist, the template, a run: named, with what is allowed."""
    monkeypatch.chdir(experiment)
    with pytest.raises(ConfigError, match=f"condition '{wrong}' is no condition folder; .*'low_data/cnn', 'poison'"):
        find_condition(wrong)


def test_a_condition_folder_is_its_own(experiment: Path, monkeypatch: pytest.MonkeyPatch):
    """With conditions below it, too; and where it has runs but no config.yaml."""
    write_yaml(experiment / "poison" / "half" / CONFIG_NAME, tiny())
    monkeypatch.chdir(experiment / "poison")
    assert find_condition() == find_condition(".") == Path()
    by_hand = experiment / "low_data" / "base"
    (by_hand / CONFIG_NAME).unlink()
    monkeypatch.chdir(by_hand)
    assert find_condition() == find_condition(".") == Path()


@pytest.mark.parametrize("place", ["template", "low_data/base/model_0_data_10", "empty"])
def test_a_notebook_that_has_no_condition_below(place: str, experiment: Path, monkeypatch: pytest.MonkeyPatch):
    """It says where batch notebooks belong."""
    (experiment / place).mkdir(exist_ok=True)
    monkeypatch.chdir(experiment / place)
    with pytest.raises(ConfigError, match="has no conditions; make one with `minima-volume new .* holds template/"):
        find_condition()


@pytest.mark.parametrize("command", ["status", "pipeline"])
def test_an_experiment_folder_on_the_command_line(command: str, experiment: Path, cli):
    """These commands take a condition: those below are named."""
    code, _, err = cli(command, experiment)
    assert code == 1 and "has no run folders; it is above these conditions" in err and err.count("\n") == 1
    assert all(str(experiment / name) in err for name in ("low_data/base", "low_data/cnn", "poison"))
    code, _, err = cli(command, experiment / "poison")
    assert code == 1 and f"make some with `minima-volume new {experiment / 'poison'} --seeds 3`" in err


# ---- where the batch notebooks lie


def test_a_new_condition_gets_its_config_and_the_experiment_the_batch_notebooks(experiment: Path, cli):
    """Those that are missing; one that was edited there stays."""
    (experiment / FULL).write_text("mine", encoding="utf-8")
    wide = experiment / "low_data" / "wide"
    assert cli("new", wide, "--template", experiment / "template")[0] == 0
    assert {path.name for path in wide.iterdir()} == {CONFIG_NAME}
    assert notebooks_in(experiment) == set(BATCH_NOTEBOOKS)
    assert (experiment / FULL).read_text(encoding="utf-8") == "mine"
    others = [name for name in BATCH_NOTEBOOKS if name != FULL]
    assert all((experiment / name).read_text(encoding="utf-8") == notebook_source(name) for name in others)
    before = tree(experiment)
    new_folder(experiment / "wider", experiment / "poison")  # another condition as its template
    assert tree(experiment) == before | {f"wider/{CONFIG_NAME}": before[f"poison/{CONFIG_NAME}"]}


def test_a_new_condition_elsewhere(experiment: Path, tmp_path: Path):
    """In no experiment it has the batch notebooks itself, as they were edited beside the template; in another experiment that has them."""
    sync_notebooks(experiment)
    edited = notebook_source(FULL).replace("The full pipeline", "My pipeline")
    (experiment / FULL).write_text(edited, encoding="utf-8")
    alone = new_folder(tmp_path / "alone", experiment / "template")
    assert notebooks_in(alone) == set(BATCH_NOTEBOOKS) and "My pipeline" in (alone / FULL).read_text(encoding="utf-8")
    write_yaml(tmp_path / "other" / "template" / CONFIG_NAME, tiny())
    there = new_folder(tmp_path / "other" / "low", experiment / "template")
    assert notebooks_in(there) == set() and notebooks_in(there.parent) == set(BATCH_NOTEBOOKS)


def test_a_template_from_a_template_starts_an_experiment(experiment: Path, tmp_path: Path):
    """The five notebooks in it, the batch notebooks beside it; then conditions and runs as anywhere."""
    template = new_folder(tmp_path / "mine" / "template", experiment / "template")
    assert {path.name for path in template.iterdir()} == {CONFIG_NAME, *RUN_NOTEBOOKS}
    assert notebooks_in(tmp_path / "mine") == set(BATCH_NOTEBOOKS)
    condition = new_folder(tmp_path / "mine" / "low_data", template)
    assert batch_folder(condition) == tmp_path / "mine" and notebooks_in(condition) == set()
    assert sync_notebooks(tmp_path / "mine") == []


def test_syncing_writes_where_notebooks_belong(experiment: Path, tmp_path: Path):
    """Five in the template, seven beside it; a copy in a condition folder is brought up to date; nothing above the folder that was named."""
    write_yaml(tmp_path / "alone" / CONFIG_NAME, tiny())
    old = experiment / "poison" / FULL
    old.write_text('{"cells": []}', encoding="utf-8")
    assert sync_notebooks(experiment / "low_data") == []
    assert {path.parent for path in sync_notebooks(experiment / "template")} == {experiment / "template"}
    written = {path.relative_to(tmp_path).as_posix() for path in sync_notebooks(tmp_path)}
    beside = {f"digits/{name}" for name in BATCH_NOTEBOOKS}
    assert written == beside | {f"alone/{name}" for name in BATCH_NOTEBOOKS} | {f"digits/poison/{FULL}"}
    assert old.read_text(encoding="utf-8") == notebook_source(FULL)
