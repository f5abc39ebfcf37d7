"""Time and memory of experiment directories: a table of 336,776 rows, 60,000 images, and binary MNIST against published numbers.

    python benchmarks/directories.py table [flights.csv]   # the table of nycflights13 as CSV; else a made-up one of that shape
    python benchmarks/directories.py embed                 # made-up images, 6,000 and 60,000
    python benchmarks/directories.py elbo                  # grey and binary MNIST (`make data`), 784-400-20, 10 epochs

Each measurement runs in a process of its own, one thread; memory is its peak less that of the imports.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from minima_volume.config.directory import EmbedConfig, PredictConfig, TrainConfig
from minima_volume.config.errors import parse
from minima_volume.directories.embed import embed_directory, predict_directory
from minima_volume.directories.train import train_directory

ROWS = 336_776
NUMERICAL = ["month", "day", "sched_dep_time", "sched_arr_time", "distance", "hour", "minute"]
CATEGORICAL = ["carrier", "origin", "dest"]
LEVELS = {"carrier": 16, "origin": 3, "dest": 105}


def experiment(name: str) -> dict[str, Any]:
    return {"name": name, "output_dir": "runs"}


def made_up_flights(path: Path) -> None:
    """A table of the shape of nycflights13's."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {name: random.integers(1, 2400, ROWS) for name in NUMERICAL}
    for name, count in LEVELS.items():
        columns[name] = [f"{name}_{code}" for code in random.zipf(1.5, ROWS) % count]
    pd.DataFrame(columns).to_csv(path, index=False)


def table(path: str, rows: int) -> None:
    """One epoch over a table, and embeddings of all its rows."""
    source = {"data_path": path, "loader_class": "TabularDataLoader"}
    content = {
        "experiment": experiment("flights"),
        "model": {"class": "VAE", "params": {"latent_dim": 8, "hidden_dims": [128]}},
        "data": {"columns": {"numerical": NUMERICAL, "categorical": CATEGORICAL}},
        "train": {**source, "epochs": 1, "loader_params": {"batch_size": 512}, "loss": {"class": "VAELoss"}},
    }
    train_directory(parse(TrainConfig, content, "table"), say=print)
    embed_directory(parse(EmbedConfig, {"experiment": experiment("flights"), "train": source}, "embed"), say=print)


def embed(path: str, count: int) -> None:
    """Embeddings of images in a .npy file, by a VAE that saw one batch."""
    source = {"data_path": path, "loader_class": "ImageDataLoader"}
    content = {
        "experiment": experiment("images"),
        "model": {"class": "VAE", "params": {"latent_dim": 20}},
        "train": {**source, "epochs": 1, "loader_params": {"num_batches_per_epoch": 1}, "loss": {"class": "VAELoss"}},
    }
    train_directory(parse(TrainConfig, content, "embed"), say=print)
    embed_directory(parse(EmbedConfig, {"experiment": experiment("images"), "train": source}, "embed"), say=print)


def elbo(kind: str, draws: int) -> None:
    """Test metrics of a 784-400-20 VAE after ten epochs on all 60,000 training images."""
    loader = {
        "data_path": "mnist:all",
        "loader_class": "ImageDataLoader",
        "loader_params": {"binarize": kind == "binary"},
    }
    content = {
        "experiment": experiment(kind),
        "model": {"class": "VAE", "params": {"latent_dim": 20, "hidden_dims": [400]}},
        "train": {**loader, "epochs": 10, "loss": {"class": "VAELoss"}},
        "checkpoint": {"save_strategy": "last"},
    }
    train_directory(parse(TrainConfig, content, "elbo"), say=print)
    test = {**loader, "data_path": "mnist:test", "metrics": {"compute": True, "importance_samples": draws}}
    config = {"experiment": experiment(kind), "checkpoint": {"load_strategy": "last"}, "test": test}
    predict_directory(parse(PredictConfig, config, "elbo"), say=print)


WORK = {"table": table, "embed": embed, "elbo": elbo}


def memory() -> float:
    """Peak of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(kind: str, argument: str, number: int, folder: str) -> None:
    """Run one piece of work in a process of its own, and print what it took."""
    command = [sys.executable, str(Path(__file__).resolve()), "--work", kind, argument, str(number)]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    *lines, last = done.stdout.splitlines()
    took = json.loads(last)
    print(*lines[-2:], sep="\n")
    print(
        f"{kind} {Path(argument).name} {number:,}: {took['seconds']:.1f} s, {took['mib']:.0f} MiB more than the imports"
    )


def main() -> None:
    kind, *rest = sys.argv[1:]
    if kind == "--work":
        before, began = memory(), time.perf_counter()
        WORK[rest[0]](rest[1], int(rest[2]))
        print(json.dumps({"seconds": time.perf_counter() - began, "mib": memory() - before}))
        return
    with tempfile.TemporaryDirectory() as folder:
        if kind == "table":
            path = Path(rest[0]).resolve() if rest else Path(folder) / "made_up.csv"
            if not rest:
                made_up_flights(path)
            measured("table", str(path), ROWS, folder)
        elif kind == "embed":
            for count in (6_000, 60_000):
                path = Path(folder) / f"images_{count}.npy"
                np.save(path, np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8))
                measured("embed", str(path), count, folder)
        else:
            for name, draws in (("grey", 0), ("binary", 100)):
                measured("elbo", name, draws, folder)


if __name__ == "__main__":
    main()
