"""The table of all conditions in experiments/README.md says what the configurations say, with a time for each."""

from __future__ import annotations

import json
import re
import sys

import pytest
from helpers import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def tables():
    """benchmarks/conditions_table.py, which is a script and no part of the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import conditions_table
    finally:
        sys.path.remove(str(BENCHMARKS))
    return conditions_table


def rows_of(text, tables):
    _, _, rest = text.partition("<!-- conditions -->")
    lines = rest.partition("<!-- /conditions -->")[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_is_that_of_the_configurations(tables):
    """Every condition with its settings: `python benchmarks/conditions_table.py` would change nothing."""
    text = tables.README.read_text(encoding="utf-8")
    head, _, *rows = rows_of(text, tables)
    assert tuple(head) == tables.HEAD and len(rows) == len(tables.CONDITIONS)
    for row, expected in zip(
        rows, rows_of(tables.between(text, "conditions", tables.table()), tables)[2:], strict=True
    ):
        assert row == expected, "run `python benchmarks/conditions_table.py`"


def test_settings_are_those_of_the_files_themselves(tables):
    """Levels, directions and sigma, read from config.yaml as text and not through the package."""
    for row in rows_of(tables.README.read_text(encoding="utf-8"), tables)[2:]:
        cells = dict(zip(tables.HEAD, row, strict=True))
        config = (tables.EXPERIMENTS / cells["condition"].strip("`") / "config.yaml").read_text(encoding="utf-8")
        (levels,) = re.findall(r"^  levels: \[(.*?)\]", config, re.M)
        (directions,) = re.findall(r"^  num_directions: (\d+)", config, re.M)
        (sigma,) = re.findall(r"^    sigma: (\S+)", config, re.M)
        listed = [
            int(level.replace(",", ""))
            for level in re.findall(r"[\d,]*\d", cells["base / levels"].partition("/")[2].partition(";")[0])
        ]
        assert listed == [int(level) for level in levels.split(",")]
        assert int(cells["directions"].replace(",", "")) == int(directions)
        assert cells["sigma"].partition(" (")[0] == ("not set" if sigma == "null" else f"{float(sigma):g}")


def test_every_time_says_how_it_is_known(tables):
    """Measured or estimated, for each condition; a measured one has an estimate beside it."""
    times = json.loads(tables.TIMES.read_text(encoding="utf-8"))
    assert set(times) == set(tables.CONDITIONS)
    for row in rows_of(tables.README.read_text(encoding="utf-8"), tables)[2:]:
        assert re.fullmatch(r"(about .*|.*, measured)", row[-1]), row
    assert any("measured_minutes" in time for time in times.values())
    assert all(time["estimated_minutes"] > 0 for time in times.values())


def test_a_changed_setting_is_noticed(tables):
    """Another sigma or level gives another row."""
    config = tables.load_config(tables.EXPERIMENTS / "swiss_roll/low_data/x5/config.yaml")
    before = tables.row("a", config, {})
    gaussian = config.volume.gaussian.model_copy(update={"sigma": 0.5})
    volume = config.volume.model_copy(update={"gaussian": gaussian})
    changed = tables.row("a", config.model_copy(update={"volume": volume}), {})
    assert [i for i in range(len(before)) if before[i] != changed[i]] == [tables.HEAD.index("sigma")]
