"""Experiment, template, condition: which folder is which, and the condition that a batch notebook works on."""

from __future__ import annotations

from pathlib import Path

from minima_volume.arguments import as_path
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.files.yaml import read_yaml
from minima_volume.stages.run import CONFIG_NAME, seeds_of

TEMPLATE = "template"
# of robustness studies and of experiment directories; volume runs have neither
SECTIONS_OF_OTHERS = {"architectures", "train"}


def template_of(condition: Path) -> Path | None:
    """The template that a condition belongs to: the nearest `template/` in it or in a folder above it."""
    condition = condition.resolve()
    places = (place / TEMPLATE for place in (condition, *condition.parents))
    return next((place for place in places if (place / CONFIG_NAME).is_file()), None)


def batch_folder(condition: Path) -> Path:
    """Where the batch notebooks of a condition or template lie: beside the template, or in a condition that has no template."""
    condition = condition.resolve()
    if condition.name == TEMPLATE:
        return condition.parent
    template = template_of(condition)
    return condition if template is None else template.parent


def is_condition(folder: Path) -> bool:
    """Whether a folder has a config.yaml and is neither a template, nor a run, nor of another study."""
    if not (folder / CONFIG_NAME).is_file() or folder.resolve().name == TEMPLATE:
        return False
    return not (_is_run(folder) or _is_of_another_study(folder))


def _is_of_another_study(folder: Path) -> bool:
    """Whether its config.yaml is that of a robustness study or of an experiment directory, which have no runs."""
    try:
        return not SECTIONS_OF_OTHERS.isdisjoint(read_yaml(folder / CONFIG_NAME))
    except MinimaVolumeError:  # whoever opens it learns what is wrong
        return False


def _is_run(folder: Path) -> bool:
    """By its name, or by the model seed of its config.yaml, as in a copy of a run folder."""
    if seeds_of(folder.resolve()) is not None:
        return True
    try:
        return (read_yaml(folder / CONFIG_NAME).get("seeds") or {}).get("model") is not None
    except (MinimaVolumeError, AttributeError):  # there is none, or whoever opens it learns what is wrong
        return False


def conditions_of(folder: Path) -> list[Path]:
    """The conditions at or below a folder, without following links; also folders of runs that have no config.yaml."""
    found, todo = [], [folder]
    while todo:
        here = todo.pop()
        if here.resolve().name == TEMPLATE or _is_run(here):
            continue
        below = [sub for sub in here.iterdir() if sub.is_dir() and not sub.name.startswith(".")]
        if is_condition(here) or any(seeds_of(sub) is not None for sub in below):
            found.append(here)
        todo += [sub for sub in below if not sub.is_symlink()]
    return sorted(found)


def find_condition(condition: str | Path | None = None, *, several: bool = False) -> Path:
    """The condition that a batch notebook works on.

    Args:
        condition: its folder, relative to the working folder, which is the notebook's. None: the working folder if it is a condition,
            else the only condition below it.
        several: a folder above several conditions is allowed, too, such as ".", for all of them.

    Returns:
        The folder, relative to the working folder unless `condition` is absolute.

    Raises:
        ConfigError: there is no such condition, or None was given and there are several; the message lists them.
    """
    folder = Path() if condition is None else as_path(condition, "condition folder")
    if folder.is_dir():
        if is_condition(folder):
            return folder
        found = conditions_of(folder)
        if condition is None and len(found) == 1:
            return found[0]
        if condition is not None and (folder in found or (several and found)):
            return folder
    raise ConfigError(_advice(condition, several))


def no_runs(folder: Path) -> str:
    """The message for a folder that has no run folders: the conditions below an experiment folder, or how to make runs."""
    if below := [path for path in conditions_of(folder) if path != folder]:
        return (
            f"{folder} has no run folders; it is above these conditions, take one of them: {', '.join(map(str, below))}"
        )
    return f"{folder} has no run folders; make some with `minima-volume new {folder} --seeds 3`"


def _advice(condition: str | Path | None, several: bool) -> str:
    here = Path().resolve()
    names = [repr(path.as_posix()) for path in conditions_of(Path())]
    wrong = "" if condition is None else f"condition {str(condition)!r} is no condition folder; "
    if not names:
        return (
            f"{wrong}{here} has no conditions; make one with `minima-volume new CONDITION --template TEMPLATE`, and open the notebook in "
            "the folder that holds template/, or in the condition"
        )
    listed = ", ".join(names) + (", or '.' for all of them" if several else "")
    count = f"{len(names)} condition{'s' if len(names) > 1 else ''}"
    return f"{wrong}{here} has {count}; set condition to one of: {listed}"
