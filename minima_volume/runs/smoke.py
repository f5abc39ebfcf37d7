"""A condition at the smallest size that still runs every stage: a check that takes seconds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minima_volume.config.moved import set_settings
from minima_volume.config.run import Config, load_config
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import read_yaml, write_yaml
from minima_volume.losses.registry import LOSSES
from minima_volume.runs.create import new_runs, seed_pairs
from minima_volume.runs.notebooks import notebook_for, notebook_source
from minima_volume.runs.origin import ORIGINS
from minima_volume.runs.states import run_stage
from minima_volume.stages.open import open_run
from minima_volume.stages.run import CONFIG_NAME, RUN_NOTEBOOKS, STAGES

# what makes the built-in models and sources small; lists of widths keep their length, so that depth is kept
WIDTHS = {"hidden": 16, "channels": 4, "fc": 16}
NUMBERS = {"num_layers": 1, "num_heads": 2, "width": 16, "hidden_dim": 16, "mlp_dim": 16}
SOURCES = {
    "swiss_roll": {"test_per_arm": 100},
    "modulo_arithmetic": {"modulus": 11},
    "text": {"block_size": 16, "stride": 16},
}
TOKEN_THRESHOLD = 3.0


def smoke_overrides(config: Config) -> dict[str, Any]:
    """Dotted settings that shrink a configuration: few samples, narrow layers, few epochs and directions, one easy threshold.

    What sets the condition apart stays: variant, imbalance, optimiser, SAM, series, depth, loss, scaling.
    """
    data, training = config.data, config.training
    changes: dict[str, Any] = {
        "data.base_size": min(data.base_size, 24),
        "data.levels": [0, 12] if len(data.levels) > 1 else [min(data.levels[0], 8)],
        "data.options": {**data.options, **SOURCES.get(data.source, {})},
        "model.options": {**config.model.options, **_small(config)},
        "training.epochs": 15 if config.model.name == "cnn" else 40,
        "training.learning_rate": 0.01 if config.model.name == "cnn" else 0.005,
        "perturbation.num_directions": 4,
        "perturbation.coefficients.count": 12,
        "perturbation.shard_size": 4,
        "execution.workers": 1,
        "volume.loss_thresholds": _thresholds(config),
        "volume.accuracy_thresholds": None if config.volume.accuracy_thresholds is None else [0.2],
        "volume.headline_threshold": None,
        "volume.top_k": 4,
        "volume.gaussian.profile": [],
        "volume.gaussian.num_particles": 20,
        "volume.gaussian.num_repeats": 2,
        "volume.gaussian.num_moves": 2,
    }
    if training.batch_size is not None:
        changes["training.batch_size"] = min(training.batch_size, 16)
    if training.checkpoints is not None:
        changes["training.checkpoints"] = [10, 40]
    if training.batch_sizes is not None:
        changes["training.batch_sizes"] = [8, 24]
    return changes


def _thresholds(config: Config) -> list[float]:
    if config.data.source == "text":
        return [TOKEN_THRESHOLD]
    loss = LOSSES.get(config.training.loss)
    easy = None if loss is None else loss.trial_threshold  # a user's own: its values mean what they mean
    return [max(config.volume.loss_thresholds) if easy is None else easy]


def _small(config: Config) -> dict[str, Any]:
    if ":" in config.model.name:  # a user's own: its options mean what they mean
        return {}
    options = config.model.options
    widths = {key: [min(value, WIDTHS[key]) for value in options[key]] for key in WIDTHS if key in options}
    return widths | {key: min(options[key], NUMBERS[key]) for key in NUMBERS if key in options}


def smoke(
    condition: str | Path, target: str | Path, overrides: Mapping[str, Any] | None = None, *, notebooks: bool = False
) -> dict[str, float]:
    """Make a small copy of a condition with one run folder, and run its five stages.

    Args:
        condition: the condition folder; it is not written to.
        target: the folder to make the copy in.
        overrides: dotted settings of your own, on top of the small ones.
        notebooks: execute the notebooks, each in a kernel of its own; False calls the same functions in this process.

    Returns:
        Seconds that each stage took.

    Raises:
        MissingStageError: the condition has no config.yaml.
        ConfigError: the target is there already.
        PipelineError: a notebook failed.
    """
    source, copy = Path(condition), Path(target) / Path(condition).resolve().name
    config = load_config(source / CONFIG_NAME)
    if copy.exists():
        raise ConfigError(f"{copy} exists; choose another folder, nothing was changed")
    copy.mkdir(parents=True)
    for file in source.iterdir():  # a user's own .py files and texts
        if file.is_file() and file.suffix != ".ipynb" and file.name not in (CONFIG_NAME, ORIGINS):
            shutil.copy(file, copy)
    for name in RUN_NOTEBOOKS:  # the copy has no template
        if (text := notebook_for(source, name)) != notebook_source(name):
            (copy / name).write_text(text, encoding="utf-8")
    content = read_yaml(source / CONFIG_NAME)
    set_settings(content, {**smoke_overrides(config), **(overrides or {})})
    write_yaml(copy / CONFIG_NAME, content)
    (run,) = new_runs(copy, seed_pairs(1, copy))
    if notebooks:
        from minima_volume.runs.pipeline import raise_failures, run_pipeline

        outcomes = run_pipeline(copy, progress=False)
        raise_failures(outcomes)
        return {outcome.stage: outcome.seconds for outcome in outcomes}
    seconds = {}
    for stage in STAGES:
        start = time.perf_counter()
        run_stage(open_run(run, stage), stage, progress=False)
        seconds[stage] = time.perf_counter() - start
    return seconds
