"""Edits of a user's are used or kept, and never lost without a word: notebooks of templates and runs, config.yaml of conditions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from helpers import make_run, tiny, tree

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import read_commented_yaml, set_dotted, write_yaml
from minima_volume.runs.create import new_folder, new_runs, sync_notebooks
from minima_volume.runs.notebooks import BATCH_NOTEBOOKS, VERSIONS, is_edited, mark_of, notebook_source, record_versions
from minima_volume.runs.origin import ORIGINS
from minima_volume.runs.pipeline import run_pipeline
from minima_volume.runs.propagate import propagate
from minima_volume.runs.update import Update, describe_differences, differences, update_runs
from minima_volume.stages.run import CONFIG_NAME, PERTURB, RUN_NOTEBOOKS, TRAIN, VOLUME

ALL = (*RUN_NOTEBOOKS, *BATCH_NOTEBOOKS)


def edit(notebook: Path, line: str = "\nprint('mine')") -> str:
    """Add a line to a notebook's last code cell, as a user does; its text."""
    content = nbformat.read(notebook, as_version=4)
    [cell for cell in content.cells if cell.cell_type == "code"][-1].source += line
    nbformat.write(content, notebook)
    return notebook.read_text(encoding="utf-8")


def execute(notebook: Path) -> None:
    """What papermill and Jupyter leave in a notebook that was executed: outputs, counts, a cell of parameters, an empty one."""
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = (
                [nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[])],
                3,
            )
            cell.metadata["papermill"] = {"duration": 1.0}
    content.cells.insert(2, nbformat.v4.new_code_cell('run_folder = "."', metadata={"tags": ["injected-parameters"]}))
    content.cells.append(nbformat.v4.new_code_cell(""))
    content.metadata["papermill"] = {"duration": 3.0}
    nbformat.write(content, notebook)


def change(folder: Path, settings: dict[str, object]) -> None:
    """Change a config.yaml with an editor."""
    content = read_commented_yaml(folder / CONFIG_NAME)
    set_dotted(content, settings)
    write_yaml(folder / CONFIG_NAME, content)


def sources(notebook: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells]


@pytest.fixture
def experiment(tmp_path):
    """A template with the five notebooks, beside it the batch notebooks and a condition, another condition a folder deeper."""
    root = tmp_path / "experiment"
    for place in ("template", "poison", "low_data/base"):
        write_yaml(root / place / CONFIG_NAME, tiny())
    sync_notebooks(root)
    return root


# ---- the package's versions


@pytest.mark.parametrize("name", ALL)
def test_the_present_source_is_a_known_version(name, tmp_path):
    """As it is stored, after it was executed, and saved by another tool; one more character in it is an edit.

    Where this fails a source was edited: `make notebooks` adds it to versions.json.
    """
    path = tmp_path / name
    path.write_text(notebook_source(name), encoding="utf-8")
    assert not is_edited(path), f"minima_volume/notebooks/{VERSIONS} lacks the present source: run `make notebooks`"
    execute(path)
    assert not is_edited(path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=8), encoding="utf-8")
    assert not is_edited(path)
    edit(path, "#")
    assert is_edited(path)


def test_earlier_versions_are_known(tmp_path):
    """As many marks as sources there were: recording one adds it once, and keeps the others."""
    for name in ALL:
        (tmp_path / name).write_text(notebook_source(name), encoding="utf-8")
    assert record_versions(tmp_path) == list(ALL) and record_versions(tmp_path) == []
    first = mark_of(notebook_source(TRAIN))
    edit(tmp_path / TRAIN)
    assert record_versions(tmp_path) == [TRAIN]
    versions = json.loads((tmp_path / VERSIONS).read_text(encoding="utf-8"))
    assert versions[TRAIN] == [first, mark_of((tmp_path / TRAIN).read_text(encoding="utf-8"))]
    assert [len(marks) for marks in versions.values()] == [2, *[1] * (len(ALL) - 1)]


# ---- templates


@pytest.mark.parametrize("place", ["poison", "low_data/base"])
def test_new_runs_have_the_templates_edited_notebook(place, experiment, cli):
    """Without the outputs that it has there; the others are the package's."""
    edit(experiment / "template" / PERTURB)
    execute(experiment / "template" / PERTURB)
    code, out, _ = cli("new", experiment / place, "--seeds", 2)
    runs = [Path(line) for line in out.splitlines()]
    assert code == 0 and len(runs) == 2
    for run in runs:
        assert mark_of((run / PERTURB).read_text()) == mark_of((experiment / "template" / PERTURB).read_text())
        assert "print('mine')" in (run / PERTURB).read_text() and '"output_type"' not in (run / PERTURB).read_text()
        assert all((run / name).read_text() == notebook_source(name) for name in RUN_NOTEBOOKS if name != PERTURB)
        assert {p.name for p in run.iterdir()} == {CONFIG_NAME, *RUN_NOTEBOOKS}
    assert mv.status_table(experiment / place)["error"].tolist() == ["", ""]


def test_a_conditions_own_notebook_and_a_template_that_is_only_older(experiment):
    """A notebook beside the condition's config.yaml goes first; an earlier version of the package's in a template is no edit."""
    condition = experiment / "poison"
    mine = edit(experiment / "template" / TRAIN, "\nprint('of the template')")
    shutil.copy(experiment / "template" / TRAIN, condition / TRAIN)
    own = edit(condition / TRAIN, "\nprint('of the condition')")
    (run,) = new_runs(condition, [(0, 10)])
    assert mark_of((run / TRAIN).read_text()) == mark_of(own) != mark_of(mine)
    (run,) = new_runs(experiment / "low_data" / "base", [(0, 10)])
    assert mark_of((run / TRAIN).read_text()) == mark_of(mine)


def test_folders_from_a_template_get_all_that_was_put_there(experiment, tmp_path):
    """A run and a condition: edited notebooks and files of the user's own; a condition elsewhere keeps notebooks for its runs."""
    template = experiment / "template"
    edit(template / VOLUME)
    (template / "my_model.py").write_text("x = 1\n", encoding="utf-8")
    run = new_folder(tmp_path / "model_1_data_2", template)
    assert sources(run / VOLUME)[-1] == sources(template / VOLUME)[-1] and (run / "my_model.py").is_file()
    near, far = new_folder(experiment / "wide", template), new_folder(tmp_path / "elsewhere", template)
    assert not (near / VOLUME).exists() and (near / "my_model.py").is_file()
    for condition in (near, far):
        (made,) = new_runs(condition, [(0, 10)])
        assert mark_of((made / VOLUME).read_text()) == mark_of((template / VOLUME).read_text())


# ---- the commands that write notebooks


def test_rewriting_notebooks_keeps_edited_ones(experiment, cli):
    """They are named with both ways out, the others are written; --force replaces them, too."""
    edited, stale = experiment / "template" / PERTURB, experiment / "full_pipeline.ipynb"
    mine = edit(edited)
    execute(stale)
    code, _, err = cli("notebooks", experiment)
    assert code == 1 and err.count("\n") == 1 and "Traceback" not in err
    for words in (
        str(edited),
        "kept (1 others were written)",
        "`minima-volume new` gives new runs a template's own",
        "--force",
    ):
        assert words in err
    assert edited.read_text() == mine and stale.read_text() == notebook_source(stale.name)
    code, out, _ = cli("notebooks", experiment, "--force")
    assert code == 0 and out.splitlines() == [str(edited), "1 notebooks written"]
    assert edited.read_text() == notebook_source(PERTURB) and sync_notebooks(experiment) == []


def test_overwriting_runs_keeps_what_was_edited(experiment, cli):
    """A notebook and a config.yaml that the user changed: nothing is touched without --force; a template's edit is no edit of the run."""
    condition = experiment / "poison"
    edit(experiment / "template" / TRAIN)
    runs = new_runs(condition, mv.seed_pairs(3))
    edit(experiment / "template" / TRAIN, "\nprint('again')")
    change(condition, {"training.epochs": 44})
    mine = edit(runs[1] / PERTURB)
    change(runs[2], {"training.epochs": 55})
    before = tree(experiment)
    code, _, err = cli("new", condition, "--seeds", 3, "--overwrite")
    assert code == 1 and tree(experiment) == before
    assert (
        str(runs[1] / PERTURB) in err
        and str(runs[2] / CONFIG_NAME) in err
        and str(runs[0]) not in err
        and "--force" in err
    )
    assert cli("new", condition, "--seeds", 1, "--overwrite")[0] == 0
    assert sources(runs[0] / TRAIN)[-2].endswith("print('again')") and mv.open_run(runs[0]).config.training.epochs == 44
    assert (runs[1] / PERTURB).read_text() == mine
    assert cli("new", condition, "--seeds", 3, "--overwrite", "--force")[0] == 0
    assert {mv.open_run(run).config.training.epochs for run in runs} == {44}
    assert (runs[1] / PERTURB).read_text() == notebook_source(PERTURB)


def test_propagating_keeps_edited_notebooks(experiment, cli):
    """Of a run that has its own edit; what was propagated before is none, so a second change goes to the others."""
    condition, source = experiment / "poison", experiment / "template" / PERTURB
    runs = new_runs(condition, mv.seed_pairs(3))
    mine = edit(runs[1] / PERTURB, "\nprint('this run')")
    execute(runs[2] / PERTURB)
    for line in ("\nprint('one')", "\nprint('two')"):
        edit(source, line)
        assert [copy.state for copy in propagate(source, condition)] == ["differs", "edited", "differs"]
        code, out, _ = cli("propagate", source, condition, "--yes")
        assert code == 0 and out.splitlines()[-1] == "2 of 3 files were written"
        assert "edited in their run folders: 1, which stay as they are unless you say --force" in out
        assert (runs[1] / PERTURB).read_text() == mine
        assert all(mark_of((run / PERTURB).read_text()) == mark_of(source.read_text()) for run in (runs[0], runs[2]))
    code, out, _ = cli("propagate", source, condition, "--yes", "--force")
    assert code == 0 and out.splitlines()[-1] == "1 of 3 files were written"
    assert [copy.state for copy in propagate(source, condition)] == ["same"] * 3


# ---- config.yaml of a condition


@pytest.fixture
def condition(experiment):
    """Three runs; then the condition is edited, one run has set something for itself, one the same key as the condition."""
    condition = experiment / "poison"
    runs = new_runs(condition, mv.seed_pairs(3))
    for run in runs:
        mv.open_run(run, "train")
    mv.open_run(runs[1], "train", {"perturbation.num_directions": 7})
    change(runs[2], {"training.epochs": 9})
    change(condition, {"training.epochs": 44, "data.levels": [0, 20], "training.sam": {"rho": 0.1}})
    return condition


def test_differences_say_where_a_setting_was_changed(condition):
    """In the condition, in the run, or in both; seeds, which the notebooks write, are none."""
    found = {(d.run[:7], d.key): (d.condition, d.own, d.where) for d in differences(condition)}
    sam = {"rho": 0.1, "adaptive": False}
    assert found == {
        **{(f"model_{i}", "data.levels"): ([0, 20], [0, 20, 40], "condition") for i in range(3)},
        **{(f"model_{i}", "training.sam"): (sam, None, "condition") for i in range(3)},
        **{(f"model_{i}", "training.epochs"): (44, 30, "condition") for i in range(2)},
        ("model_2", "training.epochs"): (44, 9, "both"),
        ("model_1", "perturbation.num_directions"): (12, 7, "run"),
    }


@pytest.mark.parametrize("command", ["status", "pipeline"])
def test_the_pipeline_and_the_status_name_them(command, condition, cli, monkeypatch, capsys):
    """Each setting once, with both values, where it was changed, and the command that brings it in; it is no error."""
    monkeypatch.setattr("minima_volume.runs.pipeline._run_all", lambda *_: [])
    if command == "pipeline":
        assert run_pipeline(condition, progress=False) == []
        code, text = 0, capsys.readouterr().out
    else:
        code, text, _ = cli("status", condition)
    lines = text.splitlines()
    assert code == 0
    assert (
        "  training.epochs: 44 in the condition, 30 in model_0_data_10, model_1_data_11 (edited in the condition since the runs were made)"
        in lines
    )
    assert (
        "  training.epochs: 44 in the condition, 9 in model_2_data_12 (edited in the condition and set in the runs)"
        in lines
    )
    assert "  perturbation.num_directions: 12 in the condition, 7 in model_1_data_11 (set in the runs)" in lines
    assert f"`minima-volume update {condition}` shows how the runs" in text and "seeds." not in text


def test_nothing_is_said_where_nothing_differs(experiment, cli):
    """Runs that were just made, whose first notebook has written the seeds; a folder without a config.yaml."""
    runs = new_runs(experiment / "poison", mv.seed_pairs(2))
    for run in runs:
        mv.open_run(run, "train")
    assert differences(experiment / "poison") == [] and describe_differences([], "x") == ""
    assert "differ" not in cli("status", experiment / "poison")[1]
    assert differences(experiment) == []


def test_updating_brings_in_what_was_edited_in_the_condition(condition, cli):
    """Shown first; comments, seeds and what the runs have set stay; what remains is what was set in the runs."""
    runs = mv.find_runs(condition)
    path = runs[0] / CONFIG_NAME
    path.write_text(path.read_text().replace("epochs: 30", "epochs: 30  # as before"), encoding="utf-8")
    before = tree(condition)
    code, out, _ = cli("update", condition)
    assert code == 0 and tree(condition) == before and out.splitlines()[-1] == "3 config.yaml would be written"
    code, out, _ = cli("update", condition, "--yes")
    assert code == 0 and out.splitlines()[-1] == "3 config.yaml were written"
    configs = [mv.open_run(run).config for run in runs]
    assert [config.training.epochs for config in configs] == [44, 44, 9]
    assert all(config.data.levels == [0, 20] and config.training.sam.rho == 0.1 for config in configs)
    assert [config.perturbation.num_directions for config in configs] == [12, 7, 12]
    assert [(c.model_seed, c.data_seed) for c in configs] == [
        (0, 10),
        (1, 11),
        (2, 12),
    ] and "# as before" in path.read_text()
    assert [(d.run, d.key, d.where) for d in differences(condition)] == [
        ("model_1_data_11", "perturbation.num_directions", "run"),
        ("model_2_data_12", "training.epochs", "both"),
    ]
    assert cli("update", condition)[1] == "0 config.yaml would be written\n"
    change(condition, {"training.epochs": 45})
    assert [u.run for u in update_runs(condition)] == ["model_0_data_10", "model_1_data_11"]


def test_updating_some_runs_and_some_keys(condition, cli):
    """A run by its name or path; a key, or a section, that the run has set itself."""
    runs = mv.find_runs(condition)
    assert [u.run for u in update_runs(condition, ["model_2_data_12"])] == ["model_2_data_12"]
    assert cli("update", condition, runs[2], "--key", "training.epochs", "--yes")[0] == 0
    assert mv.open_run(runs[2]).config.training.epochs == 44 and mv.open_run(runs[2]).config.data.levels == [0, 20, 40]
    assert update_runs(condition, [runs[1]], keys=["perturbation"]) == [
        Update("model_1_data_11", {"perturbation.num_directions": 12})
    ]
    for arguments, words in (
        (["--key", "training.epoch"], "--key 'training.epoch' is no setting of config.yaml"),
        (["model_9_data_9"], "model_9_data_9 is not a run folder of"),
    ):
        code, _, err = cli("update", condition, *arguments)
        assert code == 1 and words in err


def test_runs_made_by_hand_or_by_an_earlier_version(condition, cli):
    """It is not known where a setting was changed: said so, and brought in where it is named."""
    (condition / ORIGINS).unlink()
    assert {d.where for d in differences(condition)} == {"unknown"}
    out = cli("status", condition)[1]
    assert "where it was changed is not known" in out and f"`minima-volume update {condition} --key " in out
    assert update_runs(condition) == []
    assert cli("update", condition, "--key", "training", "--key", "data.levels", "--yes")[0] == 0
    assert [(d.run, d.key) for d in differences(condition)] == [("model_1_data_11", "perturbation.num_directions")]


def test_updating_a_run_that_is_trained(experiment, cli):
    """A level more is taken; another learning rate contradicts the models: refused, with the way out, and the others go on."""
    condition = experiment / "low_data" / "base"
    runs = new_runs(condition, mv.seed_pairs(2))
    change(condition, {"training.epochs": 3})
    update_runs(condition, dry_run=False)
    mv.train_models(mv.open_run(runs[0], "train"), progress=False)
    change(condition, {"data.levels": [0, 20, 40, 60]})
    assert cli("update", condition, "--yes")[0] == 0 and differences(condition) == []
    assert mv.stage_states(runs[0])["train"].reason == "3 of 4 models"
    change(condition, {"training.learning_rate": 0.5})
    code, out, _ = cli("update", condition, "--yes")
    assert code == 1 and "model_0_data_10: refused:" in out and "clean RUN --what models" in out
    assert [mv.open_run(run).config.training.learning_rate for run in runs] == [0.03, 0.5]


def test_a_config_that_is_copied_by_propagate_is_refused_with_the_command(condition):
    """And the command exists."""
    with pytest.raises(ConfigError, match=r"is each run's own .* `minima-volume update CONDITION`"):
        propagate(condition / CONFIG_NAME, condition)


def test_origins_that_cannot_be_read(condition):
    """A damaged list of origins is as none; a run folder of another condition has none."""
    (condition / ORIGINS).write_text("{", encoding="utf-8")
    assert {d.where for d in differences(condition)} == {"unknown"}
    new_runs(condition, [(7, 17)])
    make_run(condition / "model_8_data_18", {"training.epochs": 1})
    assert {d.run: d.where for d in differences(condition) if d.key == "training.epochs"}[
        "model_8_data_18"
    ] == "unknown"
