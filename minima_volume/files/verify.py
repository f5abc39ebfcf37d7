"""Reading a file through, to say whether it is what was written: checksums, hashes, figures and notebooks."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from minima_volume.errors import DamagedFileError
from minima_volume.files.atomic import MAX_JSON, read_json, read_npz, read_pt
from minima_volume.files.content import HASH_KEY, skims
from minima_volume.files.plain import open_plain, read_text

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
MAX_FIGURE = 2**26  # bytes
MAX_NOTEBOOK = 2**27


def verify(path: Path) -> bool | None:
    """Read a file of a run through.

    Returns:
        True: it is what was written. False: it is readable, and of an earlier version, which wrote no hash into it.
        None: not a kind of file that carries one.

    Raises:
        DamagedFileError: it is not what was written.
    """
    if path.suffix == ".json":
        read_json(path)
        return HASH_KEY in json.loads(read_text(path, MAX_JSON))
    if path.suffix == ".npz":
        read_npz(path)
    elif path.suffix == ".pt":
        read_pt(path)
    elif path.suffix == ".png":
        check_figure(path)
    elif path.suffix == ".ipynb":
        if read_notebook(path) is None:
            raise DamagedFileError(f"{path} is no notebook, or damaged; replace it by another run's")
        return None
    else:
        return None
    return True


def check_figure(path: Path) -> None:
    """Compare the checksums of all parts of a .png, or see that its end is there where files are skimmed.

    Raises:
        DamagedFileError: it is truncated or damaged.
    """
    with open_plain(path) as file:
        content = file.read(MAX_FIGURE)
    if skims() and content.startswith(SIGNATURE) and content.endswith(END):
        return
    place, kind = len(SIGNATURE), b""
    whole = content.startswith(SIGNATURE)
    while whole and place < len(content) and kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        kind, part = content[place + 4 : place + 8], content[place + 4 : place + 8 + length]
        stated = content[place + 8 + length : place + 12 + length]
        whole = len(stated) == 4 and zlib.crc32(part) == int.from_bytes(stated, "big")
        place += 12 + length
    if not whole or kind != b"IEND" or place != len(content):
        raise DamagedFileError(f"{path} is truncated or damaged. Delete it and run its stage again, which draws it.")


def read_notebook(path: Path) -> dict[str, Any] | None:
    """A notebook's content; None if there is none that can be read."""
    try:
        content = json.loads(read_text(path, MAX_NOTEBOOK))
        whole = isinstance(content["cells"], list) and all(isinstance(cell, dict) for cell in content["cells"])
        return content if whole else None
    except (OSError, DamagedFileError, LookupError, ValueError, TypeError, RecursionError):
        return None
