"""The pages under docs/: every snippet runs as it stands, every command and link is right, and so are the numbers."""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny

from minima_volume.config.run import Config
from minima_volume.files.yaml import dotted, read_yaml
from minima_volume.robustness.tables import SUMMARY, SWEEP
from minima_volume.stages.run import Run

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES["toy_models"] = (ROOT / "toy_models/README.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.S)


def run_page(page: str) -> dict[str, Any]:
    """All Python blocks of a page, one after the other, in one namespace."""
    names: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, names)
    return names


def test_every_snippet_has_a_test_here():
    """Pages and languages; a new one needs a test below."""
    languages = {page: sorted(set(re.findall(r"^ *```(\w+)", text, re.M))) for page, text in PAGES.items()}
    assert languages["measuring.md"] == ["bash", "python", "yaml"]
    assert languages["engine.md"] == ["bash", "python"]
    assert languages["toy_models"] == []
    assert [blocks(page, "bash") for page in ("measuring.md", "engine.md")] == [
        [".venv/bin/minima-volume suggest-sigma experiments/digits/low_data/base\n"],
        ["make bench\n"],
    ]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str):
    """Relative to the page."""
    folder = ROOT / "toy_models" if page == "toy_models" else ROOT / "docs"
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]) if not link.startswith("http")]
    assert links or page not in ("measuring.md", "engine.md", "toy_models")
    assert not [link for link in links if not (folder / link.split("#")[0]).exists()]


def test_measuring_says_what_the_snippets_print(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest):
    """The two minima of the first section: numbers within what other machines may change, verdicts to the word.

    Their full-batch trainings end within 1e-4 of each other whatever the rounding; tolerances are six standard errors of what is measured.
    """
    if request.config.getoption("--training-seed"):
        pytest.skip("the page's numbers belong to the minima that its own seed leads to")
    names = run_page("measuring.md")
    printed = capsys.readouterr().out.splitlines()
    local_small, star_small, local_large, star_large = printed[:4]
    page = PAGES["measuring.md"].replace("−", "-")
    documented = re.findall(r"Gaussian local volume, sigma 0.1 \| (-\d\.\d+) .* \| (-\d\.\d+) ", page)[0]
    assert f"This prints {documented[0]} and {documented[1]} for `filter`" in page
    for line, expected in zip((local_small, local_large), documented, strict=True):
        assert float(re.findall(r"measured: (\S+),", line)[0]) == pytest.approx(float(expected), abs=0.6)
    assert all("cannot be trusted: one direction of 1000 decides it" in line for line in (star_small, star_large))
    scalings = {line.split()[0]: [float(v) for v in re.findall(r"-?\d+\.\d+", line)] for line in printed[4:6]}
    assert scalings["filter"][0] > scalings["filter"][1] + 3
    assert scalings["none"][0] > scalings["none"][1]
    (default,) = re.findall(r"# splitting, (-\d\.\d+) \(", page)
    assert names["local"].method == "splitting"
    assert names["local"].log_mass == pytest.approx(float(default), abs=1.5)
    assert names["better"].log_volume > names["star"].log_volume + 1000
    assert math.isfinite(names["views"].trace.value)


def test_the_suggested_sigma(digits_run: Run, cli):
    """The command of the page, on a tiny condition."""
    command = blocks("measuring.md", "bash")[0].split()
    code, out, err = cli(command[1], digits_run.folder.parent)
    assert code == 0, err
    assert "sigma" in out


def test_the_settings_of_sigma():
    """The page's lines of config.yaml are settings, and mean what the page says."""
    content = tiny()
    path = ROOT / "experiments/digits/low_data/base/config.yaml"
    (block,) = blocks("measuring.md", "yaml")
    gaussian = dict(re.findall(r"^ +(\w+): +(\S.*)$", block, re.M))
    content["volume"]["gaussian"] = {"sigma": float(gaussian["sigma"]), "profile": [0.06, 0.12]}
    assert gaussian["profile"] == "[0.06, 0.12]"
    assert Config.model_validate(content).volume.gaussian.sigmas == [0.06, 0.085, 0.12]
    assert set(gaussian) <= set(read_yaml(path)["volume"]["gaussian"])


def test_the_engine_page(capsys: pytest.CaptureFixture[str]):
    """The snippets print what their comments say."""
    run_page("engine.md")
    printed = capsys.readouterr().out.splitlines()
    assert printed == re.findall(r"# ((?:mlp|\d+) .*?)(?::.*)?$", "\n".join(blocks("engine.md", "python")), re.M)


def test_the_weight_noise_page():
    """Its commands are scripts of the study's folder, which tests/robustness runs; its columns are those of the tables."""
    commands = [line.split("#")[0].split() for line in blocks("weight_noise.md", "bash")[0].splitlines()]
    assert commands[0] == ["cd", "experiments/weight_noise"]
    folder = ROOT / commands[0][1]
    assert all(command[0] == "python" and (folder / command[1]).is_file() for command in commands[1:])
    assert f"`{','.join(SUMMARY)}`" in PAGES["weight_noise.md"] and f"`{','.join(SWEEP)}`" in PAGES["weight_noise.md"]
    settings = {
        key
        for section in ("noise", "seeds", "volume")
        for key in dotted({section: read_yaml(folder / "config.yaml")[section]})
    }
    named = set(re.findall(r"`((?:noise|seeds|volume)\.\w+)", PAGES["weight_noise.md"]))
    assert named - {"noise.py"} and named - {"noise.py"} <= settings


def test_make_bench_runs_the_benchmark():
    """And the page keeps the place where its table goes."""
    environment = {**os.environ, "MAKEFLAGS": ""}
    command = ["make", "-n", "-o", ".venv/.installed", "bench"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "benchmarks/engine.py" in done.stdout
    assert re.search(r"<!-- table -->.*<!-- /table -->", PAGES["engine.md"], re.S)
