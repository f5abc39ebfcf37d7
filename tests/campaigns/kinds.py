"""Values of a wrong kind at each key of each file, under hashes that are right: one line that names the file, or nothing."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from campaigns.common import Tally, analyzed, call, restore, small_run
from minima_volume.files.atomic import read_json, read_npz, read_pt, write_json, write_npz, write_pt

FILES = (
    "cutoffs/cutoffs.json",
    "data_0/data_0.npz",
    "data_0/loss_0.5/log_mass/data_0_sigma_0.02.json",
    "data_0/loss_0.5/radii.npz",
    "data_0/loss_0.5/results.json",
    "data_0/views.json",
    "models_and_data/dataset.pt",
    "models_and_data/model_additional_0.pt",
    "test_accuracies.npz",
)
VALUES = (3, "x", [1], {"a": 1}, None, [["x"]], True)
STAGES = ("train", "perturb", "volume", "cutoff", "accuracy")
ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "of another type": lambda array: array.astype("U8") if array.dtype.kind != "U" else np.zeros(array.shape),
    "text": lambda array: np.array('{"a": ['),
    "empty": lambda array: np.zeros((0,)),
    "one number": lambda array: np.array(3.0),
    "a list": lambda array: np.array('["b", 1]'),
}


def cases(run: Path) -> Iterator[tuple[str, str, Any]]:
    """File, key and what is to stand there."""
    for name in FILES:
        path = run / name
        if path.suffix == ".npz":
            yield from ((name, key, how) for key in read_npz(path) for how in ARRAYS)
        else:
            content = read_json(path) if path.suffix == ".json" else read_pt(path)
            more = [] if path.suffix == ".json" else [torch.zeros(3)]
            yield from (
                (name, key, odd) for key in content for odd in (*VALUES, *more) if type(odd) is not type(content[key])
            )


def campaign(count: int | None = None, seed: int = 0) -> Tally:
    """All cases, or `count` of them; each is read by `status`, `show`, a stage and the analysis, now and then by `report`."""
    tally, chance = Tally("kinds of values"), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        pristine = small_run(Path(folder) / "pristine").folder
        call("views", pristine, "--chains", 0, "--quiet")
        base = Path(folder) / "attacked" / "base"
        found = list(cases(pristine))
        for name, key, odd in found if count is None else chance.sample(found, count):
            restore(base, pristine.parent)
            _write(base / pristine.name / name, key, odd)
            problems, seconds = _read(base, base / pristine.name, chance)
            tally.add(f"{name}, {key}: {odd!r}", problems, seconds)
    return tally


def _write(path: Path, key: str, odd: Any) -> None:
    if path.suffix == ".npz":
        arrays = read_npz(path)
        write_npz(path, arrays | {key: ARRAYS[odd](arrays[key])})
    elif path.suffix == ".json":
        write_json(path, read_json(path) | {key: odd})
    else:
        write_pt(path, read_pt(path) | {key: odd})


def _read(base: Path, run: Path, chance: random.Random) -> tuple[list[str], float]:
    stage = chance.choice(STAGES)
    said = {
        "status": call("status", base, "--verify"),
        "show": call("show", run),
        stage: call("run", run, "--stage", stage, "--quiet"),
    }
    problems = [f"{name}: {problem}" for name, one in said.items() for problem in one.problems()]
    slowest = max(one.seconds for one in said.values())
    if chance.random() < 0.1:
        problems += [f"report: {problem}" for problem in call("report", base).problems(limit=60)]
    problems += analyzed(base)
    return problems, slowest
