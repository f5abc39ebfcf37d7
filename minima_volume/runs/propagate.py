"""A changed notebook or file, copied to all run folders of a condition or an experiment."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from minima_volume.arguments import as_folder, as_path
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import write_bytes
from minima_volume.files.lock import locked
from minima_volume.files.walk import find_below
from minima_volume.runs.conditions import no_runs
from minima_volume.runs.notebooks import cells_of, is_edited, mark_of
from minima_volume.runs.origin import Origin, origins_of, remember
from minima_volume.stages.run import CONFIG_NAME, seeds_of


@dataclass(frozen=True)
class Copy:
    """What copying a file into one run folder means.

    Attributes:
        target: the file in the run folder.
        state: new, same, differs, edited (it differs, and is a notebook that was edited in its run folder), or refused (a link).
        difference: the lines that differ, of notebooks the source of their cells; at most 20.
        content: what is written.
    """

    target: Path
    state: str
    difference: tuple[str, ...]
    content: bytes


def all_runs(folder: str | Path) -> list[Path]:
    """The run folders at or below a folder, without following links.

    Raises:
        ConfigError: there is no such folder.
    """
    found = find_below(as_folder(folder).resolve(), lambda path: seeds_of(path) is not None)
    return sorted(found, key=lambda run: (run.parent, seeds_of(run)))


def plan_propagation(
    source: str | Path, folder: str | Path, *, keep_outputs: bool = True, force: bool = False
) -> list[Copy]:
    """What `propagate` would do: nothing is written.

    Args:
        source: a notebook or another file.
        folder: a run folder, a condition, or an experiment folder: every run folder at or below it.
        keep_outputs: of notebooks that were executed; the outputs of a cell stay where its source is the same.
        force: replace also notebooks that were edited in a run folder.

    Raises:
        ConfigError: no such file, no run folder, or it is config.yaml, which says what a run's files were made with.
    """
    source = as_path(source, "source")
    if not source.is_file():
        raise ConfigError(f"{source} is not a file; propagate copies one file to all run folders")
    if source.name == CONFIG_NAME:
        raise ConfigError(
            f"{CONFIG_NAME} is each run's own and what it has computed goes by it; bring what was edited in a condition into its runs "
            "with `minima-volume update CONDITION`, or change one setting of a run with `minima-volume run RUN --set KEY=VALUE`"
        )
    runs = all_runs(folder)
    if not runs:
        raise ConfigError(no_runs(Path(folder)))
    origins = {condition: origins_of(condition) for condition in {run.parent for run in runs}}
    return [
        _plan(source, run / source.name, keep_outputs, force, origins[run.parent].get(run.name, Origin()))
        for run in runs
        if run / source.name != source.resolve()
    ]


def _plan(source: Path, target: Path, keep_outputs: bool, force: bool, origin: Origin) -> Copy:
    content = source.read_bytes()
    if target.is_symlink() or (target.exists() and not target.is_file()):
        return Copy(target, "refused", (f"{target} is not a plain file",), content)
    if not target.exists():
        return Copy(target, "new", (), content)
    there = target.read_bytes()
    if source.suffix != ".ipynb":
        state = "same" if there == content else "differs"
        return Copy(target, state, _difference(_lines(there), _lines(content)), content)
    difference = _difference(_cells(there), _cells(content))
    differs = "edited" if difference and not force and is_edited(target, origin.notebooks) else "differs"
    if keep_outputs:
        return Copy(target, differs if difference else "same", difference, _with_outputs(content, there))
    return Copy(target, "same" if there == content else differs, difference, content)


def propagate(
    source: str | Path, folder: str | Path, *, keep_outputs: bool = True, force: bool = False, dry_run: bool = True
) -> list[Copy]:
    """Copy a file to every run folder at or below a folder; as a dry run, the default, only say what would be done.

    Links are not written through, and notebooks that were edited in their run folder are left alone unless `force` says otherwise.
    Arguments as in `plan_propagation`.

    Raises:
        ConfigError: see `plan_propagation`.
        LockedError: a pipeline works on one of the run folders; those before it have been written.
    """
    plan = plan_propagation(source, folder, keep_outputs=keep_outputs, force=force)
    if dry_run:
        return plan
    written = [copy.target for copy in plan if copy.state in ("new", "differs")]
    try:
        for copy in plan:
            if copy.target in written:
                with locked(copy.target.parent):
                    write_bytes(copy.target, copy.content)
    finally:
        if Path(source).suffix == ".ipynb":
            _remember(Path(source), written)
    return plan


def _remember(source: Path, targets: Sequence[Path]) -> None:
    """Write down that these copies are no edits of their run folders."""
    mark = mark_of(source.read_text(encoding="utf-8", errors="replace"))
    for condition in {target.parent.parent for target in targets}:
        known = origins_of(condition)
        runs = [target.parent.name for target in targets if target.parent.parent == condition]
        origins = {name: known.get(name, Origin()) for name in runs}
        remember(
            condition,
            {name: replace(o, notebooks={**o.notebooks, source.name: mark}) for name, o in origins.items()},
        )


def describe_propagation(plan: Sequence[Copy], dry_run: bool) -> str:
    """A line for each run folder, with what differs, and the counts."""
    lines = []
    for copy in plan:
        lines += [f"{copy.state:>8}  {copy.target}", *(f"          {line}" for line in copy.difference)]
    if edited := sum(copy.state == "edited" for copy in plan):
        lines.append(
            f"edited in their run folders: {edited}, which stay as they are unless you say --force (force=True)"
        )
    count = sum(copy.state in ("new", "differs") for copy in plan)
    return "\n".join([*lines, f"{count} of {len(plan)} files {'would be' if dry_run else 'were'} written"])


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", errors="replace").splitlines()


def _cells(content: bytes) -> list[str]:
    """The lines of a notebook's cells; of other text its own."""
    cells = cells_of(content.decode("utf-8", errors="replace"))
    return _lines(content) if cells is None else [line for _, source in cells for line in source.splitlines()]


def _with_outputs(content: bytes, there: bytes) -> bytes:
    """A notebook with the outputs of another's code cells that have the same source."""
    import nbformat

    try:
        new = nbformat.reads(content.decode("utf-8"), as_version=4)
        known = {
            cell.source: cell
            for cell in nbformat.reads(there.decode("utf-8"), as_version=4).cells
            if cell.cell_type == "code" and cell.outputs
        }
    except Exception:  # one of them is not a notebook: there are no outputs to keep
        return content
    if not known:
        return content
    for cell in new.cells:
        if cell.cell_type == "code" and cell.source in known:
            cell.outputs, cell.execution_count = known[cell.source].outputs, known[cell.source].execution_count
    return (nbformat.writes(new) + "\n").encode()


def _difference(before: list[str], after: list[str]) -> tuple[str, ...]:
    lines = [line for line in list(difflib.unified_diff(before, after, lineterm="", n=0))[2:] if line[:2] != "@@"]
    return tuple(lines[:20]) + ((f"... {len(lines) - 20} more lines",) if len(lines) > 20 else ())
