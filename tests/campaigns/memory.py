"""Peak memory of each stage against `execution.memory_gib`, for networks of several shapes: it stays within, or is refused beforehand."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import make_run

from campaigns.common import Tally

OVERHEAD_MIB = 200  # libraries on first use, samples read from a file, fragments of the allocator
BUDGETS = (0.3, 1.0)
STAGES = ("train", "train in batches", "perturb", "volume", "views")
NETWORKS: dict[str, dict[str, Any]] = {
    "wide perceptron": {"name": "mlp", "options": {"hidden": [1024, 512]}},
    "deep perceptron": {"name": "mlp", "options": {"hidden": [64] * 12}},
    "cnn": {"name": "cnn", "options": {"channels": [32, 64], "fc": [64]}},
    "vision transformer": {"name": "vit", "options": {"patch_size": 8}},
    "resnet18": {"name": "resnet18", "options": {}},
    "your own": {"name": "shapes:Residual", "options": {}},
}
SHAPES = """
import torch
from torch import nn
from minima_volume.data import Pool

def pixels(options, seed):
    x = torch.rand(SIZE + 50, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    y = (x.mean((1, 2, 3)) * 3000).long() % 10
    return Pool(x[:SIZE], y[:SIZE], x[SIZE:], y[SIZE:], 10)

class Residual(nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 24, 3, padding=1), nn.Linear(24, num_outputs)
        self.blocks = nn.ModuleList(nn.Conv2d(24, 24, 3, padding=1) for _ in range(3))
        self.norm = nn.BatchNorm2d(24)

    def forward(self, x):
        x = self.norm(self.first(x))
        for block in self.blocks:
            x = x + block(x).relu()
        return self.last(x.mean((2, 3)))
"""
MEASURE = """
import resource, sys
import torch
torch.set_num_threads(1)
from minima_volume.runs.states import run_stage
from minima_volume.stages.open import open_run
from minima_volume.stages.trained import load_models_and_data
from minima_volume.stages.views import views_table
from minima_volume.curvature.views import ViewSettings
from minima_volume.hosts.footprint import Footprint
folder, stage = sys.argv[1:]
Footprint.of(lambda n: torch.nn.Linear(2, 2)(torch.ones(n, 2)))  # its first use imports 100 MiB of torch
run = open_run(folder, "train" if stage == "views" else stage)
if stage != "train":
    trained = load_models_and_data(run)
    with torch.no_grad():
        trained.models[run.config.minima[-1]].eval()(trained.dataset.x_train[:2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if stage == "views":
        views_table(run, settings=ViewSettings(num_eigenvalues=3, num_products=6, num_chains=0), progress=False)
    else:
        run_stage(run, stage, progress=False)
except Exception as error:
    print(type(error).__name__, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def campaign(count: int | None = None, seed: int = 0, stages: Sequence[str] = STAGES) -> Tally:
    """Try networks and budgets, all or `count` of them; each takes its run as far as the budget, or `stages`, lets it."""
    tally, cases = Tally("memory"), list(itertools.product(NETWORKS, BUDGETS))
    for name, budget in cases if count is None else random.Random(seed).sample(cases, count):
        with tempfile.TemporaryDirectory() as folder:
            _try(Path(folder) / "model_0_data_10", name, budget, stages, tally)
    return tally


def _try(folder: Path, name: str, budget: float, stages: Sequence[str], tally: Tally) -> None:
    size = 600 if name == "resnet18" else 2000
    folder.mkdir()
    (folder / "shapes.py").write_text(SHAPES.replace("SIZE", str(size)), encoding="utf-8")
    settings = _settings(name, size, budget)
    make_run(folder, settings)
    for stage in stages:
        start = time.perf_counter()
        if stage == "train in batches":  # anew, if all at once was refused
            if (folder / "models_and_data" / "model_additional_0.pt").exists():
                continue
            make_run(folder, settings | {"training.batch_size": 50})
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder), stage.split()[0]], capture_output=True, text=True, check=False
        )
        said = [line for line in done.stdout.splitlines() if not line.startswith("dataset.pt")]
        case, problems = f"{name}, {budget} GiB, {stage}", []
        if done.returncode or not said:
            problems.append(done.stderr[-300:])
        elif (peak := float(said[-1])) > budget * 1024 + OVERHEAD_MIB:
            problems.append(f"{peak:.0f} MiB")
        refused = [line for line in said[:-1] if "Error" in line]
        if refused and "memory_gib" not in refused[0]:
            problems.append(refused[0])
        case += f": {refused[0] if refused else peak}"
        tally.add(case, problems, time.perf_counter() - start)
        if refused and stage != "train":
            break


def _settings(name: str, size: int, budget: float) -> dict[str, Any]:
    return {
        "data.source": "shapes:pixels",
        "data.base_size": size // 2,
        "data.levels": [0, size // 2],
        "model.name": NETWORKS[name]["name"],
        "model.options": NETWORKS[name]["options"],
        "training.epochs": 2,
        "training.learning_rate": 1e-3,
        "execution.memory_gib": budget,
        "perturbation.num_directions": 4,
        "perturbation.shard_size": 4,
        "perturbation.coefficients.count": 3,
        "volume.loss_thresholds": [5.0],
        "volume.accuracy_thresholds": None,
        "volume.top_k": 4,
        "volume.gaussian": {
            "sigma": 0.01,
            "estimator": "splitting",
            "num_particles": 20,
            "num_repeats": 2,
            "num_moves": 1,
        },
    }
