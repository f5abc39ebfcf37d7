"""MNIST and Fashion-MNIST through torchvision, from one data root."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from pathlib import Path

from torch import Tensor

from minima_volume.data.pool import Pool
from minima_volume.errors import DataError
from minima_volume.files import write_bytes

MEAN_STD = {"MNIST": (0.1307, 0.3081), "FashionMNIST": (0.2860, 0.3530)}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SIZE_ON_DISK = "about 12 MB to download, 55 MB on disk"


def data_root() -> Path:
    """Where data sets lie: the environment variable MINIMA_VOLUME_DATA, else `data` in the working folder or the
    nearest folder above it that holds one beside a pyproject.toml."""
    if chosen := os.environ.get("MINIMA_VOLUME_DATA"):
        return Path(chosen)
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)
    return project / "data"


def mnist(seed: int, needed: int) -> Pool:
    """MNIST: 60,000 training and 10,000 test images, normalised with mean 0.1307 and deviation 0.3081.

    Args:
        seed: unused: the samples are fixed.
        needed: unused.

    Returns:
        float32 inputs (N, 1, 28, 28) and integer labels.

    Raises:
        DataError: the files are absent and cannot be downloaded.
    """
    return _load("MNIST")


def fashion_mnist(seed: int, needed: int) -> Pool:
    """Fashion-MNIST: as MNIST, with its own mean and deviation."""
    return _load("FashionMNIST")


def _load(name: str) -> Pool:
    import torchvision  # here, because it takes seconds and most runs do without

    root = data_root()
    raw = root / name / "raw"
    _unpack(raw)
    source = getattr(torchvision.datasets, name)
    if not all((raw / file).is_file() for file in FILES):
        print(
            f"{name} is not in {raw}: downloading it ({SIZE_ON_DISK}) through torchvision ...",
            file=sys.stderr,
        )
        try:
            source(str(root), train=True, download=True)
        except Exception as error:  # URLError, RuntimeError, OSError: whatever stops a download
            raise DataError(
                f"{name} is not in {raw} and could not be downloaded ({' '.join(str(error).split()) or type(error).__name__}). "
                f"Place {', '.join(FILES)} (or their .gz) there by hand ({SIZE_ON_DISK}), run `make data`, "
                "or point MINIMA_VOLUME_DATA at a folder that has them."
            ) from error
    try:
        train, test = source(str(root), train=True), source(str(root), train=False)
    except Exception as error:
        raise DataError(f"{name} in {raw} cannot be read ({error}): delete the folder and fetch it again") from error
    mean, std = MEAN_STD[name]

    def normalise(images: Tensor) -> Tensor:
        return ((images.float() / 255 - mean) / std).unsqueeze(1)

    return Pool(normalise(train.data), train.targets, normalise(test.data), test.targets, num_classes=10)


def _unpack(raw: Path) -> None:
    """Unpack .gz files that were placed by hand."""
    for file in FILES:
        packed = raw / f"{file}.gz"
        if packed.is_file() and not (raw / file).is_file():
            try:
                content = gzip.decompress(packed.read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise DataError(f"{packed} cannot be unpacked ({error}): delete it and place it again") from error
            write_bytes(raw / file, content)
