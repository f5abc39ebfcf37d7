"""`minima-volume show`, the end of `run`, whole summaries, completion, and a status that says each thing once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_results import fake_condition
from helpers import ROOT

from minima_volume.files.atomic import read_json, write_json
from minima_volume.runs.states import MODELS_REMOVED
from minima_volume.runs.status import describe_status, status


def test_show_prints_both_volumes(tmp_path, cli):
    """A row per minimum, the native one named, bounds as bounds, and the order in sentences."""
    run = fake_condition(tmp_path / "base", seeds=1) / "model_0_data_10"
    code, out, err = cli("show", run)
    lines = out.splitlines()
    assert code == 0 and not err and "landscape of 20 samples" in lines[0] and "digits" in lines[0]
    assert "20 (native)" in lines[2] and "or more" in lines[2]
    assert "Is the volume smaller with more data? Yes, without exception: in 3 of 3 pairs." in out
    assert "Published number (log volume): nothing can be said, 0 of 3 numbers are estimates." in out
    assert not {"None", "nan", "NaN"} & set(out.split())
    code, out, _ = cli("show", run, "--landscape", 20)
    assert code == 0 and "landscape of 40 samples" in out and "40 (native)" in out


@pytest.mark.parametrize(
    ("arguments", "words"), [(("--landscape", 7), "it has 0, 20, 40"), (("--threshold", 9), "it has 0.5")]
)
def test_show_names_what_there_is(arguments, words, tmp_path, cli):
    code, _, err = cli("show", fake_condition(tmp_path / "base", seeds=1) / "model_0_data_10", *arguments)
    assert code == 1 and words in err and err.count("\n") == 1


def test_status_says_each_thing_once_and_knows_results_without_models(tmp_path):
    """Of runs whose models were removed; and of runs in which nothing was done."""
    folder = fake_condition(tmp_path / "base", seeds=3)
    rows = status(folder)
    text = describe_status(rows)
    assert {row.stage: row.state for row in rows if row.run == "model_0_data_10"}["volume"] == "complete"
    assert text.count(MODELS_REMOVED) == 1
    assert "model_0_data_10, model_1_data_11, model_2_data_12, train: " in text
    assert "models first" not in text


def test_help_and_version(cli):
    """Summaries are whole sentences; completion can be installed; the version is printed."""
    code, out, _ = cli("--help")
    assert code == 0 and "..." not in out.partition("Commands:")[2] and "--install-completion" in out and "show" in out
    code, out, _ = cli("--version")
    assert code == 0 and out.startswith("minima-volume ")


@pytest.mark.parametrize("name", ["landscape", "boundary", "ray"])
def test_a_script_of_videos_is_the_command(name):
    """It hands its arguments on: help is that of `minima-volume video`."""
    shown = subprocess.run(
        [sys.executable, ROOT / "videos" / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0 and "--frames" in shown.stdout
    assert len(Path(ROOT / "videos" / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 12


def test_show_does_not_call_what_is_outside_a_lower_limit(copied, cli):
    """A minimum above the threshold has no volume; the others are still lower limits, if there are others."""
    path = copied.results_file(0, 0.5)
    for gone in (1, 3):
        content = read_json(path)
        for key in ("log_exp_r_n", "log_volume"):
            content[f"{key}_values"][:gone] = [None] * gone
            content[f"{key}_intervals"][:gone] = [[None, None]] * gone
        write_json(path, content)
        code, out, err = cli("show", copied.folder, "--threshold", 0.5)
        assert code == 0 and f"0 of 3 are estimates; {gone} of 3 are outside and have no volume" in out, err
        assert ("the others are lower limits" in out) == (gone < 3)
