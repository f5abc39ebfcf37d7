"""Kept cells: what is written is read, and what an older estimator wrote is told in today's terms or measured again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from minima_volume.files.atomic import read_json, write_json
from minima_volume.stages.freshness import MASSES
from minima_volume.stages.mass_cells import Cell, read_mass, write_mass
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.mass import GaussianMass, outside, plain_estimate, splitting_estimate
from minima_volume.volume.gaussian.splitting import Repeat, SplittingStage

CELL = Cell(0, 20, 20, 0.5, Condition("loss", 0.5), 0.1)
STAGE = SplittingStage(1.5, 0.25, 20, 0.3, 0.2, 0.6, None)


def repeats(*logs: float) -> list[Repeat]:
    return [Repeat(i, log, (STAGE,), 5, 100, None, 250, 1) for i, log in enumerate(logs)]


SPREAD = repeats(-10.0, -10.5, -9.5, -10.2)
MEASURED = replace(splitting_estimate(SPREAD, repeats(-10.1, -9.9)), num_moves=40, moves_effect=(0.1, 0.4), note="slow")


def first_estimator(path: Path) -> None:
    """The file as the first estimator wrote it: another interval, and nothing that came later."""
    content = read_json(path)
    del content["estimator"]
    for repeat in content["repeats"]:
        for key in ("num_particles", "first_hits", "lost"):
            del repeat[key]
    if content["repeats"]:
        content |= {"interval": [-11.0, -9.0], "standard_error": 0.1, "hits": None, "num_samples": None}
    write_json(path, content)


STUCK = splitting_estimate([*SPREAD, replace(SPREAD[0], reason="not reached in 3 stages")])


@pytest.mark.parametrize("mass", [MEASURED, STUCK, plain_estimate(70, 3000), outside(2.0)])
def test_what_is_written_is_read(tmp_path: Path, mass: GaussianMass) -> None:
    path = write_mass(tmp_path / "cell.json", mass, CELL, "abc")
    assert read_mass(path, "abc") == mass
    assert read_mass(path, "other") is None and read_mass(tmp_path / "none.json", "abc") is None
    content = read_json(path)
    assert content["estimator"] == MASSES and content["verdict"] == mass.verdict
    for earlier in range(2, MASSES):
        write_json(path, content | {"estimator": earlier})
        assert read_mass(path, "abc") == mass
    write_json(path, content | {"estimator": MASSES + 1})
    assert read_mass(path, "abc") is None


def test_intervals_of_older_cells_are_made_from_their_repeats(tmp_path: Path) -> None:
    """Nothing else changes: the same log mass, counts and notes."""
    path = write_mass(tmp_path / "cell.json", MEASURED, CELL, "abc")
    first_estimator(path)
    found = read_mass(path, "abc")
    assert found is not None and found.log_mass == MEASURED.log_mass and found.note == "slow"
    assert found.interval == MEASURED.interval and found.standard_error == MEASURED.standard_error
    assert (found.degrees, found.num_moves, found.moves_effect) == (3, 40, (0.1, 0.4))


@pytest.mark.parametrize(
    ("mass", "kept"),
    [
        (plain_estimate(300, 2000), False),  # the pilot itself
        (plain_estimate(200, 2500), True),
        (outside(2.0), True),
        (STUCK, False),  # its upper limit could be wrong
        (splitting_estimate(repeats(-10.0, -13.0, -9.0, -12.0)), False),  # they disagree
        (splitting_estimate([replace(repeat, lineages=1) for repeat in SPREAD]), False),
    ],
)
def test_older_cells_that_are_measured_again(tmp_path: Path, mass: GaussianMass, kept: bool) -> None:
    """Where today other particles would be drawn, or what was said could be wrong."""
    path = write_mass(tmp_path / "cell.json", mass, CELL, "abc")
    first_estimator(path)
    assert read_mass(path, "abc") == (mass if kept else None)
    assert math.isfinite(read_json(path)["sigma"])


@pytest.mark.parametrize("key", ["interval", "moves_effect"])
@pytest.mark.parametrize("value", ["x", "xy", ["x", 1.0], [1.0], [1.0, 2.0, 3.0], {"a": 1, "b": 2}, True])
def test_a_cell_with_words_for_limits_is_measured_again(tmp_path: Path, key: str, value: object) -> None:
    """Its file is whole and its hash is right; what it says cannot be used."""
    path = write_mass(tmp_path / "cell.json", MEASURED, CELL, "abc")
    write_json(path, read_json(path) | {key: value})
    assert read_mass(path, "abc") is None
