"""A run folder is confined to itself, and its code runs only in commands that train or measure."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import ALL_STAGES, edit_config, make_run, tree

import minima_volume as mv
from minima_volume.errors import BoundaryError, ConfigError
from minima_volume.files.trust import FOLDER_VARIABLE, trust_file
from minima_volume.files.user_code import load_object
from minima_volume.runs.trusted import own_code
from minima_volume.stages.run import read_run

CODE = """from pathlib import Path
from torch import nn
from minima_volume.data.digits import digits
with (Path(__file__).parent / "ran").open("a") as log:
    log.write("x")


def build(shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, outputs))


def source(seed, needed):
    return digits(seed, needed)
"""
OWN = {"model.name": "mine:build", "model.options": {}, "data.source": "mine:source", "data.options": {}}


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "configuration"))


def own_run(folder: Path, overrides=None, stages=ALL_STAGES):
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(CODE, encoding="utf-8")
    return make_run(folder, OWN | (overrides or {}), stages)


def test_looking_at_a_run_runs_none_of_its_code(tmp_path, cli):
    """`status`, `status --verify`, `analyze` and `report` say what they say of any run, and its .py file is not touched."""
    run = own_run(tmp_path / "base" / "model_0_data_10")
    log = run.folder / "ran"
    assert log.is_file()
    log.unlink()
    (run.folder / "mine.py").write_text(CODE + "\nraise SystemExit(3)\n", encoding="utf-8")
    code, out, _ = cli("status", run.folder.parent, "--verify")
    assert code == 0 and out.split("\n")[1].count("complete") == 5
    for command in ("analyze", "report"):
        code, out, err = cli(command, run.folder.parent)
        assert code == 0, err
    assert not log.exists() and not list(run.folder.rglob("__pycache__"))


def test_what_cannot_be_known_without_code_is_said(tmp_path, cli):
    """Samples that are stored as indices into an own source; --trust runs it."""
    run = own_run(tmp_path / "base" / "model_0_data_10", {"data.store": "indices"}, ("train",))
    (run.folder / "ran").unlink()
    code, out, _ = cli("status", run.folder)
    assert code == 0 and "unknown" in out and "data.source is 'mine:source', code of the folder" in out
    assert not (run.folder / "ran").exists()
    assert mv.stage_states(run.folder, run_code=True)["train"].complete
    code, out, _ = cli("status", run.folder, "--trust")
    assert "unknown" not in out and "complete" in out


def test_code_is_announced_until_it_is_trusted(tmp_path, cli, capsys, monkeypatch):
    """By its content: an edit makes it new. The list lies in the user's folder, not in the run's."""
    from minima_volume.files import trust

    run = own_run(tmp_path / "base" / "model_0_data_10", stages=())
    before = tree(run.folder)

    def told() -> bool:
        trust._told.clear()
        capsys.readouterr()
        load_object("mine:build", run.folder, "model.name")
        return "note: running the code of" in capsys.readouterr().err

    assert told()
    (run.folder / "ran").unlink()
    assert tree(run.folder) == before
    code, _, err = cli("run", run.folder, "--stage", "train", "--trust", "--quiet")
    assert code == 0, err
    assert trust_file().is_file() and not told()
    (run.folder / "mine.py").write_text(CODE + "\n# edited\n", encoding="utf-8")
    assert told()
    code, out, _ = cli("trust", run.folder / "mine.py")
    assert code == 0 and "1 of 1 are new" in out and not told()
    assert "0 of 1 are new" in cli("trust", run.folder / "mine.py")[1]
    code, out, err = cli("trust", run.folder / "no.py")
    assert code and "no.py does not exist" in out + err


def test_trusting_a_run_is_for_its_own_loss_too(tmp_path):
    run = own_run(tmp_path / "base" / "model_0_data_10", {"training.loss": "losses:sparse"}, stages=())
    (run.folder / "losses.py").write_text("def sparse(outputs, targets):\n    ...\n", encoding="utf-8")
    assert [file.name for file in own_code(run)] == ["mine.py", "losses.py"]


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/evil:f",
        "../evil:f",
        "a/b:f",
        "evil:",
        ":f",
        "a b:f",
        "evil:f()",
        ".evil:f",
        "evil.:f",
        "evil:a.b",
        "e\n:f",
    ],
)
def test_an_import_path_is_a_name_and_no_path(path, tmp_path):
    """Nothing is looked up."""
    (tmp_path / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(ConfigError, match="model.name: .* is not allowed: write <module>:<name>"):
        load_object(path, tmp_path / "run", "model.name")


@pytest.mark.parametrize("where", ["..", "../elsewhere", "{outside}", "a/../../b", "link", "link/deep", "a/link"])
def test_output_stays_in_the_folder_unless_config_opens_it(where, tmp_path):
    """One line that names the key and the way out; nothing is made outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    run = make_run(tmp_path / "base" / "model_0_data_10").folder
    (run / "a").mkdir()
    for link in (run / "link", run / "a" / "link"):
        link.symlink_to(outside, target_is_directory=True)
    where = where.format(outside=outside)
    with pytest.raises(BoundaryError, match="experiment.output_dir: .* leads out of .*allow_outside: true"):
        edit_config(run, {"experiment.output_dir": where})
    assert {state.name for state in mv.stage_states(run).values()} == {"invalid"}
    assert tree(outside) == {}
    opened = edit_config(run, {"experiment.allow_outside": True})
    assert opened.output == run / where


@pytest.mark.parametrize("where", [".", "out", "out/deep", "./out"])
def test_folders_below_are_fine(where, tmp_path):
    run = make_run(tmp_path / "base" / "model_0_data_10").folder
    assert edit_config(run, {"experiment.output_dir": where}).output == run / where
    assert read_run(run).config.experiment.output_dir == where
