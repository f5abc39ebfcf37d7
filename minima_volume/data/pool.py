"""What a data source hands over: a pool of training samples to draw from, and the test set."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from minima_volume.data.pixels import Pixels
from minima_volume.errors import DataError


@dataclass(frozen=True)
class Pool:
    """Samples of one source.

    Attributes:
        x_train, y_train: (N, ...) inputs and (N,) labels or (N, outputs) targets to draw base and additional samples from.
        x_test, y_test: the whole test set.
        num_classes: number of classes; 1 for a single-logit or regression target.
        label_names: what pictures call the classes, one name each; () calls them by their numbers.
        pixels: how inputs were made from images of bytes, so that dataset.pt can keep the bytes; None if they were not.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    label_names: tuple[str, ...] = ()
    pixels: Pixels | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            if len(x) != len(y) or len(x) == 0:
                raise DataError(
                    f"the data source gave {len(x)} {split} inputs and {len(y)} {split} labels; they must be as many, at least 1"
                )
