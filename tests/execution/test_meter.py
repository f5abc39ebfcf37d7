"""Progress of one measurement: monotone, silent in a log but for a line now and then."""

from __future__ import annotations

import re
import sys

import pytest
import torch

import minima_volume as mv
from minima_volume.execution import meter
from minima_volume.execution.meter import Meter


def test_nothing_is_said_within_half_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter(2, True) as found:
        found.at(1, "half")
    assert capsys.readouterr() == ("", "")


def test_lines_in_a_log_never_fall(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the work turns out to be more than was planned."""
    monkeypatch.setattr(meter, "LINE_SECONDS", 0.0)
    with Meter(4, True) as found:
        for done in (1, 3, 2, 9):
            found.at(done, f"step {done}")
    shares = [int(line.partition("%")[0]) for line in capsys.readouterr().err.splitlines()]
    assert shares == [25, 75, 75, 100]
    with Meter(1, False) as silent:
        silent.at(1, "nothing")
    assert capsys.readouterr().err == ""


def test_measurements_say_which_repeat(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all repeats, and the log mass that it has reached; the share never falls."""
    monkeypatch.setattr(meter, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    x, model = torch.eye(4), torch.nn.Linear(4, 1, bias=False)
    y = model(x).detach()
    gaussian = mv.Gaussian(
        sigma=[0.5, 2.0], scaling="none", estimator="splitting", num_particles=40, num_repeats=4, num_moves=2
    )
    mv.measure_volume(model, x, y, "mse", threshold=0.01, how=gaussian)
    lines = capsys.readouterr().err.splitlines()
    shares = [int(line.partition("%")[0]) for line in lines]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 100
    found = [
        re.search(r"sigma (0.5|2) \((1|2) of 2\): repeat (\d+) of (\d+), log mass (-?\d+\.\d)", line) for line in lines
    ]
    assert all(found) and {match[1] for match in found if match} == {"0.5", "2"}
    assert all(1 <= int(match[3]) <= int(match[4]) for match in found if match)
    mv.suggest_sigma(model, x, y, "mse", threshold=0.1, scaling="none")
    assert "trying sigma" in capsys.readouterr().err
