"""The table of all conditions in experiments/README.md: settings from every config.yaml, times from full_size_times.json.

    python benchmarks/conditions_table.py       # rewrites the table

A test fails where the table and the configurations disagree.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages import between

from minima_volume.analysis.subjects import model_text
from minima_volume.config.run import Config, load_config
from minima_volume.runs.conditions import is_condition

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
README = EXPERIMENTS / "README.md"
TIMES = Path(__file__).with_name("full_size_times.json")
CONDITIONS = sorted(
    str(path.parent.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("config.yaml") if is_condition(path.parent)
)
HEAD = ("condition", "model", "loss", "base / levels", "epochs", "directions", "thresholds", "sigma", "time of one run")
LOSSES = {"cross_entropy": "CE", "bce_with_logits": "BCE", "mse": "MSE"}


def row(name: str, config: Config, time: dict[str, Any]) -> list[str]:
    """The cells of one condition."""
    data, training, gaussian = config.data, config.training, config.volume.gaussian
    sigma = "not set" if gaussian.sigma is None else f"{gaussian.sigma:g}"
    return [
        f"`{name}`",
        model_text(config.model.name, config.model.options),
        LOSSES[training.loss] + sam_text(config),
        data_text(config),
        epochs_text(config),
        f"{config.perturbation.num_directions:,}",
        ", ".join(f"{threshold:g}" for threshold in config.volume.loss_thresholds),
        sigma if not data.levels[0] or gaussian.sigma is None else f"{sigma} (in +{data.levels[0]})",
        time_text(time),
    ]


def sam_text(config: Config) -> str:
    """How SAM is set, if it is."""
    sam = config.training.sam
    return "" if sam is None else f", {'ASAM' if sam.adaptive else 'SAM'} {sam.rho:g}"


def data_text(config: Config) -> str:
    """Base samples and levels, with the variant where it is not plain data."""
    data = config.data
    text = f"{data.base_size:,} / {', '.join(f'{level:,}' for level in data.levels)}"
    if data.variant != "data":
        text += f" {data.variant}"
    if data.imbalance is not None:
        text += f"; labels {data.imbalance.labels}: {data.imbalance.ratio:.0%}"
    return text


def epochs_text(config: Config) -> str:
    """Epochs and batch size, or the series."""
    training = config.training
    text = f"{training.epochs:,}"
    if training.checkpoints:
        return f"{text}; minima at {', '.join(map(str, training.checkpoints))}"
    if training.batch_sizes:
        return f"{text}; batches {', '.join(map(str, training.batch_sizes))}"
    return text if training.batch_size is None else f"{text}; batch {training.batch_size:,}"


def time_text(time: dict[str, Any]) -> str:
    """Minutes or hours, measured before estimated."""
    if "measured_minutes" in time:
        return f"{length(time['measured_minutes'])}, measured"
    return f"about {length(time['estimated_minutes'])}" if "estimated_minutes" in time else "unknown"


def length(minutes: float) -> str:
    """Two digits are enough.

    >>> length(4.62), length(102), length(1180), length(846877.0)
    ('4.6 min', '100 min', '20 h', '14,000 h')
    """
    value, unit = (minutes, "min") if minutes < 120 else (minutes / 60, "h")
    return f"{float(f'{value:.2g}'):,g} {unit}"


def table() -> str:
    """The table as Markdown."""
    times = json.loads(TIMES.read_text(encoding="utf-8"))
    lines = [HEAD, ("---",) * len(HEAD)]
    lines += [
        tuple(row(name, load_config(EXPERIMENTS / name / "config.yaml"), times.get(name, {}))) for name in CONDITIONS
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    README.write_text(between(README.read_text(encoding="utf-8"), "conditions", table()), encoding="utf-8")
