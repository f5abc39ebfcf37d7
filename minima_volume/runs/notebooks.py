"""The notebooks: their one source in the package, the versions it had, and what a user has edited."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from minima_volume.files.atomic import write_text
from minima_volume.runs.conditions import template_of
from minima_volume.stages.run import RUN_NOTEBOOKS

BATCH_NOTEBOOKS = (
    "make_dataset_notebooks.ipynb",
    "full_pipeline.ipynb",
    "Run Random Perturbs Parallel.ipynb",
    "Run Volume Parallel.ipynb",
    "propagate_file.ipynb",
    "cleanup_files.ipynb",
    "analyze_experiments_data.ipynb",
)
SOURCES = resources.files("minima_volume") / "notebooks"
VERSIONS = "versions.json"  # notebook -> marks of the package's present and earlier sources


def notebook_source(name: str) -> str:
    """The canonical text of a notebook."""
    return (SOURCES / name).read_text(encoding="utf-8")


def cells_of(text: str) -> list[tuple[str, str]] | None:
    """(kind, source) of a notebook's cells without what papermill injected and without empty ones; None if it is not a notebook."""
    try:
        cells = json.loads(text or "{}").get("cells", [])
        found = [
            (str(cell["cell_type"]), "".join(cell["source"]).rstrip())
            for cell in cells
            if "injected-parameters" not in cell.get("metadata", {}).get("tags", [])
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return [(kind, source) for kind, source in found if source]


def mark_of(text: str) -> str:
    """A hash of what a user writes into a notebook: the same before and after it was executed."""
    cells = cells_of(text)
    return hashlib.sha256((text if cells is None else json.dumps(cells)).encode()).hexdigest()[:16]


@cache
def _versions() -> dict[str, list[str]]:
    return json.loads((SOURCES / VERSIONS).read_text(encoding="utf-8"))


def has_outputs(notebook: Path) -> bool:
    """Whether a notebook was executed and has outputs."""
    return notebook.is_file() and '"output_type"' in notebook.read_text(encoding="utf-8", errors="replace")


def is_edited(path: Path, known: Mapping[str, str] | None = None) -> bool:
    """Whether a notebook is no version of the package's, nor the one that was put there; one without cells has nothing to lose.

    Args:
        path: the notebook.
        known: notebook -> mark of what was put there last.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    mark = mark_of(text)
    return cells_of(text) != [] and mark not in _versions().get(path.name, ()) and mark != (known or {}).get(path.name)


def notebook_for(condition: Path, name: str) -> str:
    """A notebook as new runs of a condition get it: as it was edited in the condition or in its template, else the package's."""
    template = template_of(condition)
    return edited_in([condition, *([] if template is None else [template])], name) or notebook_source(name)


def edited_in(folders: list[Path], name: str) -> str | None:
    """A notebook of the first folder that has it edited, without outputs; None if none has."""
    for path in (folder / name for folder in folders):
        if path.is_file() and is_edited(path):
            return without_outputs(path.read_text(encoding="utf-8"))
    return None


def without_outputs(text: str) -> str:
    """A notebook as it was before it was executed; other text as it is."""
    import nbformat

    if cells_of(text) is None:
        return text
    content: Any = nbformat.reads(text, as_version=4)
    content.metadata.pop("papermill", None)
    content.cells = [cell for cell in content.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in content.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.writes(content) + "\n"


def record_versions(folder: Path | None = None) -> list[str]:
    """Add the present sources to the list of versions; whoever edits a source calls it (`make notebooks`).

    Args:
        folder: of the sources; the package's by default.

    Returns:
        The notebooks that had a version which was not listed.
    """
    folder = Path(str(SOURCES)) if folder is None else folder
    path = folder / VERSIONS
    versions: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = []
    for name in (*RUN_NOTEBOOKS, *BATCH_NOTEBOOKS):
        mark = mark_of((folder / name).read_text(encoding="utf-8"))
        if mark not in versions.setdefault(name, []):
            versions[name].append(mark)
            new.append(name)
    if new:
        write_text(path, json.dumps(versions, indent=1) + "\n")
    return new
