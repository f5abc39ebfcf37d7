"""Reading every file of a run through: is it what was written?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from minima_volume.errors import DamagedFileError, MinimaVolumeError
from minima_volume.files.verify import verify
from minima_volume.numerals import listed
from minima_volume.stages.run import read_run

KINDS = (".json", ".npz", ".pt", ".png", ".ipynb")
SHOWN = 3


@dataclass(frozen=True)
class Verified:
    """What reading the files of a run folder gave.

    Attributes:
        run: its name.
        files: how many were read through and are what was written.
        unverified: files of an earlier version, which wrote no hash into them: readable, but nothing says what they were.
        damaged: an error for each file that is not what was written.
    """

    run: str
    files: int
    unverified: tuple[str, ...]
    damaged: tuple[str, ...]

    def __str__(self) -> str:
        words = [f"{self.run}: {self.files} files are what was written"]
        if self.unverified:
            words.append(
                f"{len(self.unverified)} of an earlier version have no hash, so they are complete, unverified "
                f"({listed(self.unverified, SHOWN)})"
            )
        return "; ".join([*words, *self.damaged])


def verify_run(folder: Path) -> Verified:
    """Read every file of a run folder through; links are not followed, and nothing is changed."""
    folder, places = folder.resolve(), {folder.resolve()}
    with contextlib.suppress(MinimaVolumeError):  # `status` says what is wrong with its config.yaml
        places.add(read_run(folder).output)
    whole, unverified, damaged = 0, [], []
    for path in sorted({path for place in places for path in place.rglob("*") if path.suffix in KINDS}):
        if path.is_dir() or path.is_symlink():
            continue
        try:
            found = verify(path)
        except DamagedFileError as error:
            damaged.append(str(error))
        else:
            whole += bool(found)
            if found is False:
                unverified.append(path.name)
    return Verified(folder.name, whole, tuple(unverified), tuple(damaged))
