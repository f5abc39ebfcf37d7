"""Small files of MNIST, CIFAR-10 and SVHN in the original formats; those in colour show pictures that a model can tell apart."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import scipy.io

CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3, 32, 32) bytes and labels 0 to 9: noise over a brightness and a place that depend on the label."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    x = random.integers(0, 60, (count, 3, 32, 32))
    for i, label in enumerate(labels):
        x[i, label % 3, 3 * label : 3 * label + 5] += 150
    return x.astype(np.uint8), labels


def write_cifar10(root: Path, per_batch: int = 40, test: int = 50) -> dict[str, str]:
    """cifar-10-batches-py: five training batches, a test batch and the names, pickled as the published ones; their MD5 sums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sizes = {**{f"data_batch_{i}": per_batch for i in range(1, 6)}, "test_batch": test}
    for seed, (name, size) in enumerate(sizes.items()):
        x, y = pictures(size, seed)
        (folder / name).write_bytes(pickle.dumps({"data": x.reshape(size, -1), "labels": y.tolist()}, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR_NAMES)}, protocol=2))
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def write_svhn(root: Path, train: int = 200, test: int = 50) -> dict[str, str]:
    """train_32x32.mat and test_32x32.mat: X (32, 32, 3, N), y (N, 1), where 10 is the digit 0; their MD5 sums."""
    folder = root / "SVHN"
    folder.mkdir(parents=True)
    for seed, (name, size) in enumerate({"train": train, "test": test}.items()):
        x, y = pictures(size, 10 + seed)
        content = {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]}
        scipy.io.savemat(folder / f"{name}_32x32.mat", content)
    return {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def write_idx(raw: Path, pack: bool = False) -> None:
    """A tiny MNIST (or Fashion-MNIST), 30 and 8 images of rising bytes: the four IDX files, or their .gz."""
    raw.mkdir(parents=True)
    for split, count in (("train", 30), ("t10k", 8)):
        images = np.arange(count * 784, dtype=np.int64).reshape(count, 28, 28) % 256
        head = np.array([0x00000803, count, 28, 28], ">i4").tobytes()
        files = {
            f"{split}-images-idx3-ubyte": head + images.astype(np.uint8).tobytes(),
            f"{split}-labels-idx1-ubyte": np.array([0x00000801, count], ">i4").tobytes()
            + bytes(i % 10 for i in range(count)),
        }
        for name, content in files.items():
            if pack:
                (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / name).write_bytes(content)
