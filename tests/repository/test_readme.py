"""Every command and every example of the README does what it says."""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from helpers import tiny

from minima_volume.files.yaml import write_yaml
from minima_volume.runs import stage_states
from minima_volume.stages.run import find_runs

ROOT = Path(__file__).parents[2]
DIGITS = "experiments/digits/low_data/base"
SWISS = "experiments/swiss_roll/low_data/x5"
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("   #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
]


FEW = {
    "training.epochs": 15,
    "data.levels": [0, 20],
    "volume.loss_thresholds": [0.5],
    "volume.accuracy_thresholds": [0.8],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the README's commands use, with tiny settings and this environment as its .venv."""
    project = tmp_path_factory.mktemp("project")
    for name in ("Makefile", "README.md", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, project / name)
    ignore = shutil.ignore_patterns("model_*_data_*", "analysis", "MNIST")
    shutil.copytree(ROOT / "experiments", project / "experiments", ignore=ignore)
    (project / ".venv").symlink_to(sys.prefix)
    for folder in (DIGITS, "experiments/digits/template"):
        write_yaml(project / folder / "config.yaml", tiny(FEW))
    return project


def shell(project: Path, command: str) -> str:
    """Run one command in the project; its standard output."""
    environment = {**os.environ, "MAKEFLAGS": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme_has_the_commands_that_are_tested_here():
    """A new command in the README needs a test: this list and the tests below."""
    assert [
        "make run",
        "make test",
        f"make run EXPERIMENT={SWISS} SEEDS=10",
        f"cp -r experiments/digits/template {DIGITS}/model_7_data_17",
        f".venv/bin/jupyter lab {DIGITS}/model_7_data_17",
        f".venv/bin/minima-volume new {DIGITS} --seeds 3",
        f".venv/bin/minima-volume pipeline {DIGITS}",
        f".venv/bin/minima-volume status {DIGITS}",
        f".venv/bin/minima-volume analyze {DIGITS}",
    ] == COMMANDS


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("make run", f".venv/bin/minima-volume pipeline {DIGITS} --seeds 3"),
        (f"make run EXPERIMENT={SWISS} SEEDS=10", f".venv/bin/minima-volume pipeline {SWISS} --seeds 10"),
        ("make test", "-m pytest"),
    ],
)
def test_make_targets_run_what_they_say(project: Path, command: str, expected: str):
    """The dry run of each make command; the pipeline itself runs below, the tests are running."""
    assert command in COMMANDS
    assert expected in shell(project, command.replace("make", "make -n -o .venv/.installed", 1))


FIGURES = {
    "log_volume_against_data.png",
    "test_loss_against_log_volume.png",
    "test_accuracy_against_data.png",
}


@pytest.mark.notebooks
def test_many_seeds_from_a_shell(project: Path):
    """new, cp of a template, pipeline, status and analyze, in the README's order, with one seed instead of three."""
    shell(project, COMMANDS[3])
    made = shell(project, COMMANDS[5].replace("--seeds 3", "--seeds 1"))
    assert "model_0_data_10" in made
    printed = shell(project, COMMANDS[6])
    runs = find_runs(project / DIGITS)
    assert [run.name for run in runs] == ["model_0_data_10", "model_7_data_17"]
    assert all(state.complete for run in runs for state in stage_states(run).values())
    for title in ("training samples", "log-volume", "test accuracy", "directions", "effective sample size"):
        assert title in printed
    figures = re.findall(r"figure: (\S+)", printed)
    assert {Path(figure).name for figure in figures} >= FIGURES
    assert all((project / figure).read_bytes()[:4] == b"\x89PNG" for figure in figures)
    assert shell(project, COMMANDS[7]).count("complete") == 10
    assert "summary" not in shell(project, COMMANDS[8])
    assert (project / DIGITS / "analysis" / "summary.csv").is_file()
    again = shell(project, "make -o .venv/.installed run SEEDS=1")
    assert again.count("skipped") == 5


def test_jupyter_lab_opens_the_run_folder(project: Path, tmp_path: Path):
    """`jupyter lab FOLDER` serves the five notebooks."""
    folder = project / DIGITS / "model_7_data_17"
    if not folder.exists():
        shutil.copytree(project / "experiments/digits/template", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "jupyter_server_config.py").write_text(
        "c.ServerApp.allow_root = True\nc.ServerApp.open_browser = False\nc.IdentityProvider.token = 'readme'\n"
        f"c.ServerApp.port = {port}\nc.ServerApp.port_retries = 0\n"
    )
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path)}
    server = subprocess.Popen(
        COMMANDS[4].split(), cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        listing = _fetch(f"http://127.0.0.1:{port}/api/contents?token=readme", seconds=60)
    finally:
        server.terminate()
        server.wait(timeout=30)
    assert "Train Low Test Models.ipynb" in listing
    assert "Test Accuracy.ipynb" in listing


def _fetch(url: str, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_the_library_example_runs(tmp_path: Path):
    """The Python block of the README, as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    values, verdict = done.stdout.strip().splitlines()[-2:]
    assert all(math.isfinite(float(value)) for value in values.split())
    assert "effective sample size" in verdict


def test_the_files_that_the_readme_links_to_exist():
    """Pictures and pages."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert links
    assert all((ROOT / link).exists() for link in links)
