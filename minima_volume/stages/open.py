"""Opening a run folder: its seeds, its overrides, and the errors when it is not one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minima_volume.config.moved import set_settings
from minima_volume.config.run import parse_config
from minima_volume.errors import ConfigError
from minima_volume.files.lock import locked
from minima_volume.files.yaml import parse_yaml, plain, read_commented_yaml, write_yaml
from minima_volume.stages.run import CONFIG_NAME, STAGES, Run, read_run, resolve_seeds, run_path
from minima_volume.stages.trained import check_trained_settings

OVERRIDABLE: dict[str, set[str] | None] = {
    "train": None,
    "perturb": {"perturbation", "execution"},
    "volume": {"volume", "execution"},
    "cutoff": set(),
    "accuracy": set(),
}


def open_run(run_folder: str | Path = ".", stage: str | None = None, overrides: Mapping[str, Any] | None = None) -> Run:
    """Open a run folder and check its config.yaml; with a stage, write the resolved seeds and overrides into it.

    Args:
        run_folder: the folder, named model_<seed>_data_<seed> unless its config.yaml has both seeds.
        stage: train, perturb, volume, cutoff or accuracy: which notebook asks. None only reads.
        overrides: dotted keys, {"training.epochs": 10}. The first notebook may override everything, a later one only the
            section of its own stage.

    Raises:
        ConfigError: not a run folder, a template, contradicting seeds, or a config that is not allowed.
        StaleError: the overrides contradict models that are already trained.
    """
    if stage is None and not overrides:
        return read_run(run_folder)
    folder = run_path(run_folder)
    path = folder / CONFIG_NAME
    content = read_commented_yaml(path)
    before = plain(content)
    _check_overrides(stage, overrides or {})
    set_settings(content, overrides or {})
    resolve_seeds(content, folder)
    config = parse_config(plain(content), str(path))
    run = Run(folder, config)
    if plain(content) != before:
        check_trained_settings(run)
        with locked(folder):
            write_yaml(path, content)
    return run


def _check_overrides(stage: str | None, overrides: Mapping[str, Any]) -> None:
    if not overrides:
        return
    if stage not in STAGES:
        raise ConfigError(f"overrides need a stage; stage {stage!r} is not one of {', '.join(STAGES)}")
    allowed = OVERRIDABLE[stage]
    if allowed is None:
        return
    for dotted in overrides:
        if str(dotted).split(".")[0] not in allowed:
            what = "only " + ", ".join(f"{section}.*" for section in sorted(allowed)) if allowed else "nothing"
            raise ConfigError(
                f"overrides: {dotted!r} cannot be set in {STAGES[stage]!r}, which may override {what}; "
                f"set it in {STAGES['train']!r} or in {CONFIG_NAME}"
            )


def parse_override(text: str) -> tuple[str, Any]:
    """KEY=VALUE of a command line, the value read as YAML.

    >>> parse_override("data.levels=[0, 10]")
    ('data.levels', [0, 10])
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write it as KEY=VALUE, for example training.epochs=10")
    return key, parse_yaml(value, f"--set {text[:80]!r}: the value")
