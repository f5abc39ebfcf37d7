"""The command line: output, exit codes, help."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ALL_STAGES, ROOT, edit_config, make_run, tiny, tree

import minima_volume as mv
from minima_volume.files.yaml import write_yaml

COMMANDS = ("new", "run", "pipeline", "analyze", "views", "status", "clean", "update", "propagate", "notebooks")


@pytest.fixture
def condition(tmp_path: Path) -> Path:
    write_yaml(tmp_path / "low_data" / "config.yaml", tiny())
    return tmp_path / "low_data"


def test_a_command_that_does_not_exist(cli):
    """A typing error is exit code 2 and names what was typed."""
    code, _, err = cli("trian")
    assert code == 2 and "trian" in err


def test_the_console_script_shows_help():
    """`minima-volume --help` in a process of its own names every command."""
    script = Path(sys.executable).with_name("minima-volume")
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0 and all(command in shown.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, cli):
    """--help says what it is for and lists its options, without a traceback."""
    code, out, err = cli(command, "--help")
    assert code == 0 and not err
    assert f"minima-volume {command}" in out and "--help" in out
    assert len(out.splitlines()) >= 6


def test_new_makes_runs_and_overwrites_nothing(condition, cli):
    """--seeds prints the folders; a second call prints the same and leaves every byte."""
    code, out, _ = cli("new", condition, "--seeds", 2)
    names = [Path(line).name for line in out.splitlines()]
    assert code == 0 and names == ["model_0_data_10", "model_1_data_11"]
    edit_config(condition / "model_0_data_10", {"training.epochs": 4})
    before = tree(condition)
    code, again, _ = cli("new", condition, "--seeds", 2)
    assert code == 0 and again == out and tree(condition) == before
    code, out, _ = cli("new", condition, "--pair", "7:17", "--pair", "8:17")
    assert code == 0 and [Path(line).name for line in out.splitlines()] == ["model_7_data_17", "model_8_data_17"]


def test_new_from_a_template_refuses_to_overwrite(condition, cli):
    """--template makes a folder once."""
    target = condition.parent / "wide"
    assert cli("new", target, "--template", condition)[0] == 0
    before = tree(condition.parent)
    code, _, err = cli("new", target, "--template", condition)
    assert code == 1 and "wide exists and is not empty" in err and tree(condition.parent) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["give one of --seeds N, --pair MODEL:DATA, --template FOLDER"]),
        (["--seeds", "2", "--pair", "1:2"], ["give one of"]),
        (["--pair", "1-2"], ["--pair '1-2'", "MODEL:DATA", "7:17"]),
        (["--pair", "a:b"], ["--pair 'a:b'"]),
        (["--pair", "²:1"], ["--pair '²:1'"]),
        (
            ["--pair", "1:2", "--pair", f"{2**31}:2"],
            ["model_2147483648_data_2: model: 2147483648", "less than 2147483648"],
        ),
        (["--pair", f"1:{10**20}"], [f"data: {10**20} is not allowed", "less than 2147483648"]),
    ],
)
def test_new_with_wrong_arguments_makes_nothing(arguments, words, condition, cli):
    """One line that says how it is written."""
    before = tree(condition)
    code, _, err = cli("new", condition, *arguments)
    assert code == 1 and all(word in err for word in words) and err.count("\n") == 1
    assert tree(condition) == before


def test_new_from_a_template_where_no_folder_can_be(condition, cli):
    """Seeds that no run may have; below a file, which the system refuses: one line, nothing is made."""
    before = tree(condition.parent)
    for target, words in (
        (condition.parent / f"model_{10**20}_data_2", "it should be less than 2147483648"),
        (
            condition / "config.yaml" / "wide",
            f"error: {condition / 'config.yaml' / 'wide'}: Not a directory. Check that",
        ),
    ):
        code, _, err = cli("new", target, "--template", condition)
        assert code == 1 and words in err and err.count("\n") == 1 and tree(condition.parent) == before


def test_what_the_system_says_of_a_path_is_one_line(condition, cli, monkeypatch):
    """Such as a folder that may not be read, in any command; an error without a path is a fault of the package, and keeps its traceback."""
    said: list[OSError] = [PermissionError(13, "Permission denied", "/secret"), OSError("no path")]

    def refuse(folder: Path) -> None:
        raise said.pop(0)

    monkeypatch.setattr("minima_volume.directories.keep.find_directories", refuse)
    code, _, err = cli("clean", condition, "--what", "epochs")
    assert code == 1 and err.startswith("error: /secret: Permission denied. Check") and err.count("\n") == 1
    with pytest.raises(OSError, match="no path"):
        cli("clean", condition, "--what", "epochs")


def test_new_without_a_config(tmp_path, cli):
    """The condition has no config.yaml."""
    code, _, err = cli("new", tmp_path, "--seeds", 1)
    assert code == 1 and "config.yaml does not exist: copy a template/" in err and not list(tmp_path.iterdir())


def test_run_does_all_stages_then_nothing(tmp_path, cli):
    """All five by default; --set is written into config.yaml; a second call changes no sweep, model or result."""
    run = make_run(tmp_path / "model_0_data_10", {"volume.loss_thresholds": [0.5], "volume.accuracy_thresholds": None})
    code, out, _ = cli(
        "run", run.folder, "--quiet", "--set", "data.levels=[0, 20]", "--set", "perturbation.num_directions=3"
    )
    assert code == 0 and out.splitlines()[-1] == str(run.folder)
    assert all(state.complete for state in mv.stage_states(run.folder).values())
    config = mv.open_run(run.folder).config
    assert config.data.levels == [0, 20] and config.perturbation.num_directions == 3
    times = {
        p: p.stat().st_mtime_ns for pattern in ("*.pt", "results.json", "data_*.npz") for p in run.folder.rglob(pattern)
    }
    assert cli("run", run.folder, "--quiet")[0] == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stage", "trian"], ["--stage 'trian' is not known; allowed: train, perturb, volume, cutoff, accuracy"]),
        (["--set", "training.epochs"], ["--set 'training.epochs'", "KEY=VALUE"]),
        (["--set", "training.epochs=ten"], ["training.epochs", "'ten'"]),
        (
            ["--stage", "volume", "--set", "training.epochs=3"],
            ["'training.epochs' cannot be set", "only execution.*, volume.*"],
        ),
        (["--set", "training.epochs=31"], ["training.epochs = 30", "says 31"]),
    ],
)
def test_run_with_wrong_arguments_changes_nothing(arguments, words, copied, cli):
    """One line, exit code 1, every byte as before."""
    before = tree(copied.folder)
    code, _, err = cli("run", copied.folder, "--quiet", *arguments)
    assert code == 1 and all(word in err for word in words), err
    assert err.count("\n") == 1 and tree(copied.folder) == before


def test_status_of_a_condition(digits_run, condition, cli, copied):
    """A row a run, a column a stage, reasons below; exit code 0 while nothing is wrong."""
    folder = copied.folder.parent
    write_yaml(folder / "config.yaml", tiny())
    mv.new_runs(folder, [(3, 13)])
    code, out, _ = cli("status", folder)
    lines = out.splitlines()
    assert code == 0 and lines[0].split() == [*ALL_STAGES, "time"]
    assert lines[1].split() == ["model_0_data_10", *["complete"] * 5]
    assert lines[2].split() == ["model_3_data_13", *["missing"] * 5]
    assert "model_3_data_13, train:" in out
    copied.sweep_file(0, 20).write_bytes(b"x")
    code, out, _ = cli("status", copied.folder)
    assert code == 1 and out.splitlines()[1].split()[1:3] == ["complete", "damaged"] and "data_20.npz" in out


def test_status_where_there_is_nothing(condition, cli):
    """No runs: how to make some. No folder: said."""
    code, _, err = cli("status", condition)
    assert code == 1 and "has no run folders; make some with `minima-volume new" in err
    code, _, err = cli("status", condition / "nowhere")
    assert code == 1 and "nowhere does not exist" in err


def test_the_wrong_kind_of_folder_is_named(condition, cli):
    """A file for `status`, a run folder for `analyze`, no such kind for `clean`: one line with what is allowed."""
    run = make_run(condition / "model_0_data_10").folder
    for arguments, words in (
        (
            ("status", condition / "config.yaml"),
            ["config.yaml is a file; status takes a condition folder or a run folder"],
        ),
        (("analyze", run), [f"{run} is a run folder; analyze takes a condition folder", str(condition)]),
        (("clean", run, "--what", "foo"), ["--what 'foo' is not known; allowed: results, sweeps, models"]),
    ):
        code, _, err = cli(*arguments)
        assert code == 1 and all(word in err for word in words) and err.count("\n") == 1, err


def test_run_says_when_no_volume_is_defined(tmp_path, cli):
    """Also with --quiet: one line with the reason, and none where a volume exists."""
    thresholds = {
        "volume.loss_thresholds": [1e-9],
        "volume.accuracy_thresholds": None,
        "perturbation.loss_ceiling": 1.0,
    }
    run = make_run(tmp_path / "model_0_data_10", {**thresholds, "data.levels": [0], "perturbation.num_directions": 3})
    code, out, err = cli("run", run.folder, "--quiet")
    lines = [line for line in out.splitlines() if line.startswith("model_0_data_10: ")]
    assert code == 0 and len(lines) == 1, (out, err)
    assert "no minimum has a volume at loss thresholds 1e-09: the minimum itself is outside" in lines[0]
    edit_config(run.folder, {"volume.loss_thresholds": [1e-9, 1.0]})
    code, out, _ = cli("run", run.folder, "--quiet", "--stage", "volume")
    assert code == 0 and "no minimum has a volume" not in out


def test_a_model_that_cannot_be_built_leaves_nothing_behind(tmp_path, cli):
    """A misspelt model.name, or options that do not fit it, are reported before dataset.pt is written."""
    for change in ({"model.name": "mpl"}, {"model.options": {"hiden": [8]}}):
        run = make_run(tmp_path / "model_0_data_10", change)
        code, out, err = cli("run", run.folder, "--quiet")
        assert code == 1 and "model." in err and err.count("\n") == 1 and not out
        assert set(tree(run.folder)) == {"config.yaml"}


def test_a_linked_environment_is_ignored(tmp_path):
    """git leaves `.venv` alone whether it is a folder or a link to one."""
    rules = ROOT / ".gitignore"
    if shutil.which("git") is None or not rules.is_file():
        pytest.skip("needs git and the repository's .gitignore")
    shutil.copy(rules, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".venv").symlink_to("elsewhere")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    asked = subprocess.run(
        ["git", "check-ignore", ".venv", "elsewhere"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert asked.stdout.split() == [".venv"]


def test_clean_lists_then_removes(copied, cli):
    """Without --yes nothing changes; with it only that kind is gone."""
    before = set(tree(copied.folder))
    code, out, _ = cli("clean", copied.folder, "--what", "sweeps")
    assert code == 0 and "add --yes to remove them" in out and set(tree(copied.folder)) == before
    listed = {str(Path(line).relative_to(copied.folder)) for line in out.splitlines()[:-1]}
    assert f"{len(listed)} files" in out.splitlines()[-1]
    code, out, _ = cli("clean", copied.folder, "--what", "sweeps", "--yes")
    assert code == 0 and out == f"{len(listed)} files removed\n"
    assert before - set(tree(copied.folder)) == listed
    assert {name.split("/")[0] for name in tree(copied.folder)} == {"config.yaml", "models_and_data"}
    code, _, err = cli("clean", copied.folder, "--what", "all")
    assert code == 1 and "'all' is not known; allowed: results, sweeps, models" in err


def test_analyze_prints_a_table_and_writes_the_figures(copied, cli):
    """Levels, how far to trust them, what is missing, where the figures are."""
    condition = copied.folder.parent
    (condition / "model_1_data_11").mkdir()
    code, out, _ = cli("analyze", condition)
    assert code == 0
    assert "landscape +0 (20 samples), loss threshold 0.5" in out and "effective sample size" in out
    assert "not analyzed: model_1_data_11:" in out
    written = {p.name for p in (condition / "analysis").iterdir()}
    figures = {"log_volume_against_data.png", "test_loss_against_log_volume.png", "test_accuracy_against_data.png"}
    assert {"all_minima.csv", "summary.csv"} | figures < written
    assert all(str(condition / "analysis" / name) in out for name in written if name.endswith(".png"))


@pytest.mark.parametrize("command", ["analyze", "pipeline", "notebooks"])
def test_a_folder_that_is_not_there(command, tmp_path, cli):
    """Named, exit code 1, and not made."""
    code, _, err = cli(command, tmp_path / "nowhere")
    assert code == 1 and "nowhere does not exist" in err and not list(tmp_path.iterdir())


def test_analyze_and_pipeline_without_runs(condition, cli):
    """Both say that there are none."""
    code, _, err = cli("analyze", condition)
    assert code == 1 and "has no results to analyze (it has no run folders)" in err
    code, _, err = cli("pipeline", condition)
    assert code == 1 and "has no run folders; make some with" in err
    assert set(tree(condition)) == {"config.yaml"}


def test_notebooks_are_rewritten_from_their_source(tmp_path, cli):
    """A changed copy in a template is written again, a run's own is left."""
    write_yaml(tmp_path / "d" / "template" / "config.yaml", tiny())
    write_yaml(tmp_path / "d" / "low" / "model_0_data_1" / "config.yaml", tiny())
    code, out, _ = cli("notebooks", tmp_path)
    assert code == 0 and out.endswith("12 notebooks written\n")
    changed = tmp_path / "d" / "template" / "Random Perturbs.ipynb"
    changed.write_text("{}", encoding="utf-8")
    code, out, _ = cli("notebooks", tmp_path)
    assert out.splitlines() == [str(changed), "1 notebooks written"]
    assert not list((tmp_path / "d" / "low" / "model_0_data_1").glob("*.ipynb"))
