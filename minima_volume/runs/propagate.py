"""A changed notebook or file, copied to all run folders of a condition or an experiment."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minima_volume.errors import ConfigError
from minima_volume.files import write_bytes
from minima_volume.layout import CONFIG_NAME, seeds_of
from minima_volume.lock import locked


@dataclass(frozen=True)
class Copy:
    """What copying a file into one run folder means.

    Attributes:
        target: the file in the run folder.
        state: new, same, differs, or refused (a link, or outside the experiment folder).
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
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise ConfigError(f"folder {folder} does not exist")
    found, todo = [], [folder]
    while todo:
        here = todo.pop()
        if seeds_of(here) is not None:
            found.append(here)
            continue
        todo += [sub for sub in here.iterdir() if sub.is_dir() and not sub.is_symlink()]
    return sorted(found, key=lambda run: (run.parent, seeds_of(run)))


def plan_propagation(source: str | Path, folder: str | Path, *, keep_outputs: bool = True) -> list[Copy]:
    """What `propagate` would do: nothing is written.

    Args:
        source: a notebook or another file.
        folder: a run folder, a condition, or an experiment folder: every run folder at or below it.
        keep_outputs: of notebooks that were executed; the outputs of a cell stay where its source is the same.

    Raises:
        ConfigError: no such file, no run folder, or it is config.yaml, which says what a run's files were made with.
    """
    source = Path(source)
    if not source.is_file():
        raise ConfigError(f"{source} is not a file; propagate copies one file to all run folders")
    if source.name == CONFIG_NAME:
        raise ConfigError(
            f"{CONFIG_NAME} is each run's own and what it has computed goes by it; change one setting of all runs with "
            "`minima-volume run RUN --set KEY=VALUE`, or make new runs from a changed condition"
        )
    runs = all_runs(folder)
    if not runs:
        raise ConfigError(f"{folder} has no run folders; make some with `minima-volume new {folder} --seeds 3`")
    return [_plan(source, run / source.name, keep_outputs) for run in runs if run / source.name != source.resolve()]


def _plan(source: Path, target: Path, keep_outputs: bool) -> Copy:
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
    if keep_outputs:
        return Copy(target, "differs" if difference else "same", difference, _with_outputs(content, there))
    return Copy(target, "same" if there == content else "differs", difference, content)


def propagate(source: str | Path, folder: str | Path, *, keep_outputs: bool = True, dry_run: bool = True) -> list[Copy]:
    """Copy a file to every run folder at or below a folder; as a dry run, the default, only say what would be done.

    Links are not written through. Arguments as in `plan_propagation`.

    Raises:
        ConfigError: see `plan_propagation`.
        LockedError: a pipeline works on one of the run folders; those before it have been written.
    """
    plan = plan_propagation(source, folder, keep_outputs=keep_outputs)
    for copy in plan if not dry_run else ():
        if copy.state in ("new", "differs"):
            with locked(copy.target.parent):
                write_bytes(copy.target, copy.content)
    return plan


def describe_propagation(plan: Sequence[Copy], dry_run: bool) -> str:
    """A line for each run folder, with what differs, and the counts."""
    lines = []
    for copy in plan:
        lines += [f"{copy.state:>8}  {copy.target}", *(f"          {line}" for line in copy.difference)]
    count = sum(copy.state in ("new", "differs") for copy in plan)
    return "\n".join([*lines, f"{count} of {len(plan)} files {'would be' if dry_run else 'were'} written"])


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", errors="replace").splitlines()


def _cells(content: bytes) -> list[str]:
    """The lines of a notebook's cells, without what papermill injected."""
    import nbformat

    try:
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
    except Exception:  # not a notebook: compared as text
        return _lines(content)
    cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return [line for cell in cells for line in cell.source.splitlines()]


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
