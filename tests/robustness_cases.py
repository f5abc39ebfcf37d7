"""A tiny robustness study that several test files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minima_volume.config.noise import parse_noise_config
from minima_volume.files.yaml import set_dotted
from minima_volume.robustness.evaluate import Sweep
from minima_volume.robustness.study import Study


def tiny_study(folder: Path, overrides: dict[str, Any] | None = None) -> Study:
    """Digits, small networks, few epochs."""
    content: dict[str, Any] = {
        "experiment": {"name": "tiny"},
        "data": {"source": "digits", "train_size": 400, "test_size": 200},
        "architectures": {"mlp": {"hidden": [16]}, "cnn": {"channels": [4], "fc": []}},
        "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.01, "weight_decay": 0},
        "noise": {"alpha_train": 0.2, "alpha_test": [0, 0.1, 0.5], "draws": 3},
        "seeds": {"training": [0, 1]},
        "execution": {"workers": 1},
    }
    set_dotted(content, overrides or {})
    return Study.of(parse_noise_config(content), folder)


def fake_sweep(shares: dict[float, float], images: int = 1000, draws: int = 5, seed: int = 0) -> Sweep:
    """Networks that are right with a probability per alpha, independently for every image and draw; alpha 0 has one draw."""
    random = np.random.default_rng(seed)
    alphas = sorted(shares)
    correct = np.stack([random.random((draws, images)) < shares[alpha] for alpha in alphas])
    correct[0] = correct[0, :1]
    return Sweep(np.array(alphas), np.arange(draws), correct, np.zeros(correct.shape[:2]))
