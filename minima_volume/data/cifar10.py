"""CIFAR-10 through torchvision, from one data root."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minima_volume.data.pixels import Pixels
from minima_volume.data.pool import Pool
from minima_volume.data.root import data_root, read_or_download

PIXELS = Pixels(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
SIZE_ON_DISK = "170 MB to download, 350 MB with what it unpacks to"


def cifar10(seed: int, needed: int, *, checksums: bool = True) -> Pool:
    """CIFAR-10: 50,000 training and 10,000 test images in colour, each channel normalised.

    Args:
        seed: unused: the samples are fixed.
        needed: unused.
        checksums: compare the files with the published ones' checksums. False reads other files in the same format; they are
            pickles, and opening a pickle can run code, so do this with files of your own only.

    Returns:
        float32 inputs (N, 3, 32, 32) and integer labels.

    Raises:
        DataError: the files are absent and cannot be downloaded, or are not the published ones.
    """
    import torchvision  # here, because it takes seconds and most runs do without

    kind: Any = torchvision.datasets.CIFAR10 if checksums else _without_checksums(torchvision.datasets.CIFAR10)
    root = data_root()

    def pictures(train: bool) -> tuple[Tensor, Tensor, list[str]]:
        part = kind(str(root), train=train)
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2)
        return PIXELS.inputs(images), torch.tensor(part.targets), list(part.classes)

    (x, y, names), (x_test, y_test, _) = read_or_download(
        "CIFAR-10",
        root / FOLDER,
        all((root / FOLDER / name).is_file() for name in BATCHES),
        lambda: kind(str(root), download=True),
        lambda: (pictures(True), pictures(False)),
        SIZE_ON_DISK,
        f"Place {ARCHIVE} in {root}, or {', '.join(BATCHES)} in {root / FOLDER},",
    )
    return Pool(x, y, x_test, y_test, num_classes=10, label_names=tuple(names), pixels=PIXELS)


def _without_checksums(kind: Any) -> Any:
    lists = {name: [(file, None) for file, _ in getattr(kind, name)] for name in ("train_list", "test_list")}
    return type(kind.__name__, (kind,), {**lists, "meta": kind.meta | {"md5": None}})
