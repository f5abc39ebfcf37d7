"""`make screenshots` says in one line what is missing; the pictures themselves need a browser, and a person."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import screenshots
from helpers import EXPERIMENTS


def test_without_a_browser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Its names, and what to install."""
    monkeypatch.setattr(sys, "argv", ["screenshots"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert screenshots.main() == 1
    assert capsys.readouterr().err.startswith("error: no browser: none of chromium, ")


def test_a_folder_that_is_no_condition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It is named before anything is written or started."""
    monkeypatch.setattr(sys, "argv", ["screenshots", "--condition", "nowhere", "--output", str(tmp_path / "out")])
    assert screenshots.main() == 1 and not (tmp_path / "out").exists()
    assert "error: nowhere is not a condition" in capsys.readouterr().err


def test_the_run_folder_is_of_a_copy(tmp_path: Path):
    """The condition itself gets no run."""
    condition = EXPERIMENTS / "digits/low_data/base"
    before = sorted(condition.iterdir())
    run = screenshots.new_run(condition, tmp_path)
    assert run == tmp_path / "base/model_0_data_10" and (run / "config.yaml").is_file()
    assert sorted(condition.iterdir()) == before
