"""The files that this package writes into a run folder, known by name and by content: what `clean` may remove."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import read_json, read_pt
from minima_volume.files.plain import open_plain
from minima_volume.files.verify import SIGNATURE
from minima_volume.stages.run import MODEL_PREFIXES, VOLUME_FIGURES, Run

NUMBER = r"\d+(\.\d+)?(e[+-]?\d+)?"
FIGURES = {f"{name}.png" for name in VOLUME_FIGURES}
THRESHOLD = re.compile(f"loss_{NUMBER}")
MASS = re.compile(rf"(data|poison|noise|epoch|batch_size)_\d+_sigma_{NUMBER}(_acc)?\.json")
MODEL = re.compile(rf"({'|'.join(MODEL_PREFIXES.values())})\d+(_epoch_\d+)?\.pt")
SWEEP = re.compile(r"(data|poison|noise|epoch|batch_size)_\d+\.npz")
SHARD = re.compile(r"directions_\d+_\d+\.npz")
# keys that each kind of file has in every version of the package, all of one of the groups
KEYS: dict[str, tuple[set[str], ...]] = {
    "results.json": ({"model_data_levels", "settings"},),
    "radii.npz": ({"radius", "perturbation_seed"},),
    "views.json": ({"minima", "settings"},),
    "test_accuracies.npz": ({"test_accs", "test_loss"},),
    "mass": ({"sigma", "fingerprint"},),
    "sweep": ({"loss", "accs", "perturbation_seed"},),
    "shard": ({"loss", "key"},),
    "model": ({"state_dict", "weights_hash"}, {"state_dict", "epoch"}),
    "dataset.pt": ({"dataset_quantities", "base_dataset_size"},),
}


def landscapes_of(run: Run) -> list[Path]:
    """The folders of a run's landscapes, those that config.yaml no longer has among them."""
    name = re.compile(rf"{run.config.data.variant}_\d+")
    return [
        path for path in run.output.glob("*") if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]


def threshold_files(run: Run) -> Iterator[Path]:
    """What notebook 3 has written below the landscapes."""
    for landscape in landscapes_of(run):
        for folder in landscape.iterdir():
            if THRESHOLD.fullmatch(folder.name):
                yield from _known(folder.glob("*"), {"results.json", "radii.npz"})
                yield from (path for path in folder.glob("*.png") if path.name in FIGURES and _is_figure(path))
                yield from (path for path in (folder / "log_mass").glob("*.json") if _fits(path, MASS, "mass"))


def view_files(run: Run) -> Iterator[Path]:
    """The views.json of the landscapes."""
    return (path for landscape in landscapes_of(run) for path in _known(landscape.glob("*"), {"views.json"}))


def sweep_files(run: Run) -> Iterator[Path]:
    """What notebook 2 has written: the sweeps, and unfinished shards."""
    for landscape in landscapes_of(run):
        yield from (path for path in landscape.glob("*.npz") if _fits(path, SWEEP, "sweep"))
    yield from (path for path in run.shards.glob("*/*.npz") if _fits(path, SHARD, "shard"))


def model_files(run: Run) -> Iterator[Path]:
    """What notebook 1 has written."""
    yield from _known([run.dataset_file], {"dataset.pt"})
    yield from (path for path in run.models.glob("*.pt") if _fits(path, MODEL, "model"))


def run_files(run: Run) -> Iterator[Path]:
    """What notebooks 4 and 5 have written."""
    if run.cutoffs_file.is_file() and _are_cutoffs(run.cutoffs_file):
        yield run.cutoffs_file
    yield from figure_files(run)
    yield from _known([run.accuracies_file], {"test_accuracies.npz"})


def figure_files(run: Run) -> Iterator[Path]:
    """The figure of notebook 4."""
    return (path for path in [run.loss_curves_figure] if path.is_file() and _is_figure(path))


def _known(paths: Iterable[Path], names: set[str]) -> list[Path]:
    return [path for path in paths if path.name in names and path.is_file() and _has_keys(path, path.name)]


def _fits(path: Path, name: re.Pattern[str], kind: str) -> bool:
    return name.fullmatch(path.name) is not None and path.is_file() and _has_keys(path, kind)


def _has_keys(path: Path, kind: str) -> bool:
    """Whether a file holds what the package writes under its name; one that cannot be read any more may be removed by its name."""
    try:
        if path.suffix == ".npz":
            with open_plain(path) as file, zipfile.ZipFile(file) as archive:
                found = {name.removesuffix(".npy") for name in archive.namelist()}
        else:
            found = set(read_json(path) if path.suffix == ".json" else read_pt(path))
    except (MinimaVolumeError, OSError, ValueError, zipfile.BadZipFile):
        return True
    return any(keys <= found for keys in KEYS[kind])


def _are_cutoffs(path: Path) -> bool:
    try:
        return all(key.startswith("Model_") for key in read_json(path))
    except MinimaVolumeError:
        return True


def _is_figure(path: Path) -> bool:
    with open_plain(path) as file:
        return file.read(len(SIGNATURE)) in (SIGNATURE, b"")
