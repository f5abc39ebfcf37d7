"""Hostile folders: links, hard links, pipes and odd names in the place of everything that is written. Nothing outside changes."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

from helpers import tree

from campaigns.common import Tally, call, restore, small_run

PLACES = [
    ".lock", ".sweep_shards", ".sweep_shards/level_0", ".train.executing.ipynb", "config.yaml", "models_and_data",
    "models_and_data/dataset.pt", "models_and_data/model_additional_0.pt", "data_0", "data_0/data_0.npz", "data_0/loss_0.5",
    "data_0/loss_0.5/results.json", "data_0/loss_0.5/radii.npz", "data_0/loss_0.5/log_volume.png", "data_0/loss_0.5/log_mass",
    "data_0/views.json", "cutoffs", "cutoffs/cutoffs.json", "loss_curves.png", "test_accuracies.npz", "Volume Cutoff.ipynb", "..",
    "../made_from.json", "../analysis", "../analysis/summary.csv", "../analysis/report.html", "../model_1_data_11", "../config.yaml",
]  # fmt: skip
KINDS = ["file", "folder", "dangling", "hard link", "pipe", "loop"]
NAMES = [
    "model_7_data_17\n",
    "model_8_data_18 ",
    "-rf",
    "model_9_data_19;x",
    "модель",
    "x" * 200,
    ".hidden",
    "model_٣_data_٤",
]
COMMANDS = [
    ("run", "{run}", "--quiet"), ("clean", "{base}", "--what", "models", "--yes"), ("clean", "{base}", "--what", "outputs", "--yes"),
    ("new", "{base}", "--seeds", "2", "--overwrite", "--force"), ("update", "{base}", "--yes", "--key", "training"), ("analyze", "{base}"),
    ("report", "{base}"), ("status", "{base}", "--verify"), ("views", "{run}", "--chains", "0", "--quiet"),
    ("propagate", "{base}/../Volume Cutoff.ipynb", "{base}", "--yes", "--force"), ("run", "{run}", "--stage", "train", "--quiet"),
    ("clean", "{run}", "--what", "results", "--yes"),
]  # fmt: skip


def put(path: Path, kind: str, outside: Path) -> None:
    """Something hostile in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "hard link":
        path.hardlink_to(outside / "precious")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.parent, target_is_directory=True)
    else:
        path.symlink_to(outside / {"file": "precious", "folder": "folder", "dangling": "not there"}[kind])


def campaign(count: int, seed: int = 0) -> Tally:
    """Try `count` folders, each with several commands."""
    tally, chance = Tally("hostile folders"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outside, attacked = folder / "outside", folder / "attacked"
        run = small_run(folder / "pristine")
        pristine = run.folder.parent
        (outside / "folder" / "deep").mkdir(parents=True)
        for path in ("precious", "folder/precious", "folder/deep/precious", "folder/results.json", "folder/data_0.npz"):
            (outside / path).write_text("precious", encoding="utf-8")
        shutil.copytree(run.folder, outside / "folder" / "model_0_data_10")
        before = _everything(outside)
        for number in range(count):
            restore(attacked / "base", pristine)
            shutil.copy(run.folder / "Volume Cutoff.ipynb", attacked)
            base = attacked / "base"
            place, kind = chance.choice(PLACES), chance.choice(KINDS)
            target = base if place == ".." else Path(os.path.normpath(base / run.folder.name / place))
            if place == "..":
                target = base / run.folder.name
            put(target, kind, outside)
            (base / chance.choice(NAMES)).mkdir(exist_ok=True)
            problems, slowest = [], 0.0
            for command in chance.sample(COMMANDS, 5):
                words = [word.format(base=base, run=base / run.folder.name) for word in command]
                said = call(*words)
                slowest = max(slowest, said.seconds)
                problems += [f"{' '.join(command)}: {p}" for p in said.problems(limit=60)]
            if _everything(outside) != before:
                problems.append("something outside changed")
            tally.add(f"{number} {place} is a {kind}", problems, slowest)
    return tally


def _everything(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    return tree(folder), sorted(str(path) for path in folder.rglob("*"))
