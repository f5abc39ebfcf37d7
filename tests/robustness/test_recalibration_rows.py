"""Rows that were recalibrated with averages over batches of unequal sizes are measured again, or named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from robustness_cases import tiny_study
from torch import nn

from minima_volume.files.atomic import read_npz, write_npz
from minima_volume.robustness import evaluate
from minima_volume.robustness.run import run_study
from minima_volume.robustness.study import Network, Study


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 20, so that 50 images are as uneven as 1,300 are in batches of 500; and a network of two layers for resnet18."""
    monkeypatch.setattr(evaluate, "BATCH", 20)

    def build(name: str, options: object, shape: object, num_classes: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, num_classes))

    monkeypatch.setattr("minima_volume.robustness.study.build_architecture", build)


def study_of(folder: Path, seeds: list[int], size: int) -> Study:
    sizes = {"data.train_size": 64, "data.test_size": 20, "training.epochs": 1, "noise.draws": 2}
    study = tiny_study(
        folder, {**sizes, "noise.alpha_test": [0, 0.1], "noise.recalibration_size": size, "seeds.training": seeds}
    )
    return replace(study, config=study.config.model_copy(update={"architectures": {"resnet18": {}}}))


def as_before(study: Study, network: Network) -> None:
    """Make a sweep's file one of the version that averaged over batches."""
    found = read_npz(path := study.sweep(network))
    settings = json.loads(str(found["settings"]))
    settings.pop("recalibration", None)
    write_npz(path, {**found, "settings": json.dumps(settings)})


@pytest.mark.parametrize(("size", "stale"), [(50, True), (40, False), (20, False)])
def test_rows_of_before(tmp_path: Path, size: int, stale: bool) -> None:
    """Seed 0 is of before, then seed 1 is run alone, then both: named and left out of mean drops, then measured again."""
    run_study(first := study_of(tmp_path, [0], size), say=lambda text: None)
    old = first.networks()
    for network in old:
        as_before(first, network)
    said: list[str] = []
    results = run_study(study_of(tmp_path, [1], size), say=said.append)
    named = [text for text in said if "averages over batches" in text]
    assert bool(named) == stale and all(network.name in text for text in named for network in old)
    assert [row["seeds"] for row in results["mean_drops"]] == [[0, 1], [0, 1]]
    assert [row["drop_recalibrated"] is None for row in results["mean_drops"]] == [stale, stale]
    said.clear()
    results = run_study(study_of(tmp_path, [0, 1], size), say=said.append)
    done = {network.name: text for network in old for text in said if text.startswith(network.name)}
    assert all(text.endswith("measured" if stale else "done before") for text in done.values())
    assert not any("averages over batches" in text for text in said)
    assert all(row["drop_recalibrated"] is not None for row in results["mean_drops"])
