"""MNIST and Fashion-MNIST through torchvision, from one data root."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from minima_volume.data.pixels import Pixels
from minima_volume.data.pool import Pool
from minima_volume.data.root import data_root, read_or_download
from minima_volume.errors import DataError
from minima_volume.files.atomic import write_bytes

PIXELS = {"MNIST": Pixels((0.1307,), (0.3081,)), "FashionMNIST": Pixels((0.2860,), (0.3530,))}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SIZE_ON_DISK = "about 12 MB to download, 55 MB on disk"


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
    train, test = read_or_download(
        name,
        raw,
        all((raw / file).is_file() for file in FILES),
        lambda: source(str(root), train=True, download=True),
        lambda: (source(str(root), train=True), source(str(root), train=False)),
        SIZE_ON_DISK,
        f"Run `make data`, place {', '.join(FILES)} (or their .gz) there",
    )
    pixels, names = PIXELS[name], tuple(train.classes) if name == "FashionMNIST" else ()
    x, x_test = (pixels.inputs(part.data.unsqueeze(1)) for part in (train, test))
    return Pool(x, train.targets, x_test, test.targets, 10, names, pixels)


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
