"""Which code of run folders a user has said to trust: hashes of its content, in the user's own configuration folder."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path

from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import read_json, write_json

FOLDER_VARIABLE = "MINIMA_VOLUME_CONFIG"  # where the list lies, instead of the user's configuration folder
_told: set[str] = set()


def trust_file() -> Path:
    """Where the hashes are kept."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen) / "trusted.json"
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "minima_volume" / "trusted.json"


def code_hash(content: bytes) -> str:
    """The SHA-256 of a file's content, by which it is remembered."""
    return hashlib.sha256(content).hexdigest()


def trust(files: list[Path]) -> list[Path]:
    """Remember the content of some files; after an edit they are new.

    Returns:
        Those that were not known.
    """
    known = _known()
    new = {code_hash(file.read_bytes()): file for file in files}
    if added := {mark: file for mark, file in new.items() if mark not in known}:
        write_json(trust_file(), {"trusted": known | {mark: file.name for mark, file in added.items()}})
    return list(added.values())


def tell(file: Path, content: bytes) -> None:
    """Say on standard error, once per process, that code which nobody has said to trust is about to run."""
    mark = code_hash(content)
    if mark not in _told and mark not in _known():
        print(
            f"note: running the code of {file} (SHA-256 {mark[:12]}), which can do whatever you can; "
            f"`minima-volume trust {shlex.quote(str(file))}` remembers that you know it",
            file=sys.stderr,
        )
    _told.add(mark)


def _known() -> dict[str, str]:
    try:
        found = read_json(trust_file()).get("trusted", {})
    except MinimaVolumeError:
        return {}
    return found if isinstance(found, dict) else {}
