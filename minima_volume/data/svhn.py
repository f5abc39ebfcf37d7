"""Street View House Numbers, cropped digits, through torchvision, from one data root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minima_volume.data.pixels import Pixels
from minima_volume.data.pool import Pool
from minima_volume.data.root import data_root, read_or_download

PIXELS = Pixels(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))
FILES = ("train_32x32.mat", "test_32x32.mat")
SIZE_ON_DISK = "182 MB and 64 MB"


def svhn(seed: int, needed: int, *, checksums: bool = True) -> Pool:
    """SVHN: 73,257 training and 26,032 test images of digits in colour, each channel normalised.

    The files call the digit 0 "10"; here it is label 0.

    Args:
        seed: unused: the samples are fixed.
        needed: unused.
        checksums: compare the files with the published ones' checksums; False reads other files in the same format.

    Returns:
        float32 inputs (N, 3, 32, 32) and integer labels.

    Raises:
        DataError: the files are absent and cannot be downloaded, or are not the published ones.
    """
    import torchvision  # here, because it takes seconds and most runs do without

    kind: Any = torchvision.datasets.SVHN if checksums else _without_checksums(torchvision.datasets.SVHN)
    folder = data_root() / "SVHN"

    def pictures(split: str) -> tuple[Tensor, Tensor]:
        part = kind(str(folder), split=split)
        return PIXELS.inputs(torch.from_numpy(part.data)), torch.from_numpy(part.labels)

    (x, y), (x_test, y_test) = read_or_download(
        "SVHN",
        folder,
        all((folder / name).is_file() for name in FILES),
        lambda: [kind(str(folder), split=split, download=True) for split in ("train", "test")],
        lambda: (pictures("train"), pictures("test")),
        SIZE_ON_DISK,
        f"Place {' and '.join(FILES)} (from http://ufldl.stanford.edu/housenumbers/) there",
    )
    return Pool(x, y, x_test, y_test, num_classes=10, pixels=PIXELS)


def _without_checksums(kind: Any) -> Any:
    split_list = {split: [url, file, None] for split, (url, file, _) in kind.split_list.items()}
    return type(kind.__name__, (kind,), {"split_list": split_list})
