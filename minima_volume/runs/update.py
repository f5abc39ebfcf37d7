"""A condition's config.yaml and those of its runs: where they differ since the runs were made, and bringing edits in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minima_volume.arguments import as_path
from minima_volume.config.moved import MOVED, set_settings
from minima_volume.config.run import Config, load_config, parse_config
from minima_volume.config.sections import Section
from minima_volume.errors import ConfigError, MinimaVolumeError
from minima_volume.files.lock import locked
from minima_volume.files.yaml import plain, read_commented_yaml, write_yaml
from minima_volume.numerals import listed
from minima_volume.runs.origin import Origin, origins_of, remember
from minima_volume.stages.run import CONFIG_NAME, Run, find_runs, resolve_seeds
from minima_volume.stages.trained import check_trained_settings

OF_THE_RUN = ("seeds.model", "seeds.data")  # the run folder's name says them
CONDITION, RUN, BOTH, UNKNOWN = ("condition", "run", "both", "unknown")
WORDS = {
    CONDITION: "edited in the condition since the runs were made",
    RUN: "set in the runs",
    BOTH: "edited in the condition and set in the runs",
    UNKNOWN: "where it was changed is not known",
}
SHOWN = 4  # run folders named in a line


@dataclass(frozen=True)
class Difference:
    """One setting that a run and its condition do not share.

    Attributes:
        run: the run folder's name.
        key: dotted, such as training.epochs.
        condition, own: its value in the condition's config.yaml, and in the run's.
        where: it was changed since the run folder was made: condition, run, both; unknown where the folder was made by hand or by an
            earlier version.
    """

    run: str
    key: str
    condition: Any
    own: Any
    where: str


@dataclass(frozen=True)
class Update:
    """What bringing edits into one run means.

    Attributes:
        run: the run folder's name.
        changes: dotted key -> value.
        refused: why it is not done, empty where it is.
    """

    run: str
    changes: Mapping[str, Any]
    refused: str = ""


def differences(condition: str | Path, runs: Iterable[Path] | None = None) -> list[Difference]:
    """Settings in which runs differ from their condition; what cannot be read has none.

    Args:
        condition: the condition folder.
        runs: run folders of it; all by default.
    """
    condition = as_path(condition, "condition folder")
    try:
        wanted = load_config(condition / CONFIG_NAME)
    except MinimaVolumeError:  # no condition, or one that says itself what is wrong with it
        return []
    origins, found = origins_of(condition), []
    for run in find_runs(condition) if runs is None else runs:
        try:
            own = load_config(run / CONFIG_NAME)
        except MinimaVolumeError:
            continue
        base = _parsed(origins.get(run.name, Origin()).config)
        for key, (in_condition, in_run) in _differing(wanted, own).items():
            where = UNKNOWN
            if base is not None:
                before = _value(base, key)
                where = RUN if in_condition == before else CONDITION if in_run == before else BOTH
            found.append(Difference(run.name, key, in_condition, in_run, where))
    return found


def _parsed(content: Mapping[str, Any] | None) -> Config | None:
    """A config.yaml as it was; None if it is unknown, or this version does not allow it."""
    try:
        return None if content is None else parse_config(content)
    except ConfigError:
        return None


def _differing(first: Section, second: Section, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in type(first).model_fields:
        key, a, b = f"{prefix}{name}", getattr(first, name), getattr(second, name)
        if isinstance(a, Section) and isinstance(b, Section):
            found |= _differing(a, b, f"{key}.")
        elif a != b and key not in OF_THE_RUN:
            found[key] = _dumped(a), _dumped(b)
    return found


def _value(config: Section, dotted: str) -> Any:
    """A setting by its dotted key; None if its section is None."""
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name, None)
    return _dumped(value)


def _dumped(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Section) else value


def describe_differences(found: Sequence[Difference], condition: str | Path) -> str:
    """A line for each setting with both values and where it was changed, then what to do; empty if there is none."""
    if not found:
        return ""
    lines = [f"{Path(condition) / CONFIG_NAME} and those of its runs differ; each run goes by its own:"]
    groups: dict[tuple[str, str, str], list[Difference]] = {}
    for difference in found:
        groups.setdefault((difference.key, repr(difference.own), difference.where), []).append(difference)
    for (key, own, where), group in groups.items():
        names = listed([difference.run for difference in group], SHOWN)
        lines.append(f"  {key}: {group[0].condition!r} in the condition, {own} in {names} ({WORDS[where]})")
    command = f"minima-volume update {condition}"
    if any(d.where == CONDITION for d in found):
        lines.append(
            f"`{command}` shows how the runs take over what was edited in the condition, and with --yes does it"
        )
    if named := dict.fromkeys(d.key for d in found if d.where != CONDITION):
        lines.append(
            f"what was set in runs, or may have been, stays; to replace it, too: `{command} --key {next(iter(named))}`"
        )
    return "\n".join(lines)


def update_runs(
    condition: str | Path,
    runs: Sequence[str | Path] | None = None,
    *,
    keys: Sequence[str] | None = None,
    dry_run: bool = True,
) -> list[Update]:
    """Bring settings that were edited in a condition's config.yaml into its runs; as a dry run, the default, only say what would be.

    What a run has set for itself, by an override in a notebook, `--set` or an editor, stays unless `keys` names it.

    Args:
        condition: the condition folder.
        runs: run folders of it; all by default.
        keys: dotted keys to bring in, wherever they were changed; by default those that were edited in the condition alone.
        dry_run: nothing is written.

    Returns:
        An update for each run that differs in one of them. It is refused where models were trained with other values.

    Raises:
        ConfigError: no such run or key, or the condition's config.yaml is not allowed.
        LockedError: a pipeline works on one of the run folders; those before it have been written.
    """
    condition = as_path(condition, "condition folder")
    wanted = load_config(condition / CONFIG_NAME)
    keys = keys and [MOVED.get(key, key) for key in keys]
    folders = find_runs(condition) if runs is None else [_run_of(condition, run) for run in runs]
    if unknown := [key for key in keys or () if not _is_key(wanted, key)]:
        raise ConfigError(
            f"--key {unknown[0]!r} is no setting of config.yaml; write it with its section, such as training.epochs"
        )
    updates = []
    for folder in folders:
        mine = [d for d in differences(condition, [folder]) if d.where == CONDITION or keys]
        changes = {d.key: d.condition for d in mine if keys is None or _within(d.key, keys)}
        if changes:
            updates.append(_update(condition, folder, changes, dry_run))
    return updates


def _run_of(condition: Path, run: str | Path) -> Path:
    """A run folder by its name or its path."""
    for folder in (condition / run, Path(run)):
        if folder.is_dir() and folder.resolve().parent == condition.resolve():
            return folder
    raise ConfigError(
        f"{run} is not a run folder of {condition}; it has {', '.join(r.name for r in find_runs(condition)) or 'none'}"
    )


def _is_key(config: Config, dotted: str) -> bool:
    """Whether there is such a setting, or such a section."""
    place: Any = config
    for name in dotted.split("."):
        if isinstance(place, Section) and name in type(place).model_fields:
            place = getattr(place, name)
        elif place is not None:
            return False
    return True


def _within(key: str, keys: Sequence[str]) -> bool:
    return any(key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in keys)


def _update(condition: Path, folder: Path, changes: Mapping[str, Any], dry_run: bool) -> Update:
    if folder.is_symlink():
        return Update(folder.name, changes, f"it is a link to {folder.readlink()}, and links are not written through")
    path = folder / CONFIG_NAME
    content = read_commented_yaml(path)
    set_settings(content, changes)
    resolved = plain(content)
    resolve_seeds(resolved, folder.resolve())
    try:
        check_trained_settings(Run(folder.resolve(), parse_config(resolved, str(path))))
    except MinimaVolumeError as error:
        return Update(folder.name, changes, str(error))
    if not dry_run:
        with locked(folder):
            write_yaml(path, content)
        origin = origins_of(condition).get(folder.name, Origin())
        if origin.config is not None:
            base = plain(origin.config)
            set_settings(base, changes)
            remember(condition, {folder.name: replace(origin, config=base)})
    return Update(folder.name, changes)


def describe_updates(updates: Sequence[Update], dry_run: bool) -> str:
    """A line for each setting of each run, why some are refused, and the count."""
    lines = []
    for update in updates:
        lines += [f"{update.run}: {key} = {value!r}" for key, value in update.changes.items()]
        lines += [f"{update.run}: refused: {update.refused}"] if update.refused else []
    count = sum(not update.refused for update in updates)
    return "\n".join([*lines, f"{count} config.yaml {'would be' if dry_run else 'were'} written"])
