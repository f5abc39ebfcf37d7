"""Images of the study: three channels, values in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from minima_volume.config.noise import Data
from minima_volume.data.dataset import SOURCES
from minima_volume.data.digits import pixels
from minima_volume.data.pool import Pool
from minima_volume.errors import DataError
from minima_volume.files.atomic import hash_arrays

CHANNELS = 3


@dataclass(frozen=True)
class Images:
    """Training and test images.

    Attributes:
        x_train, x_test: (N, 3, height, width) in [0, 1]; grey images have the same memory for all three channels.
        y_train, y_test: (N,) labels.
        num_classes: number of classes.
        source: where they come from.
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return tuple(self.x_train.shape[1:])

    def hash(self) -> str:
        """Of all images and labels; by it results know what they were measured on."""
        one = {"x_train": self.x_train, "x_test": self.x_test}
        first = {name: x[:, :1] if x.stride(1) == 0 else x for name, x in one.items()}
        return hash_arrays({**first, "y_train": self.y_train, "y_test": self.y_test})

    def to(self, device: torch.device) -> Images:
        """The same on a device."""
        tensors = {name: getattr(self, name).to(device) for name in ("x_train", "y_train", "x_test", "y_test")}
        return replace(self, **tensors)


def dense(x: Tensor) -> Tensor:
    """Images in memory of their own, channels last, which convolutions on a CPU run twice as fast."""
    return x.contiguous(memory_format=torch.channels_last)


@cache
def load_images(data: Data) -> Images:
    """The images that a configuration names, loaded once in a process.

    Raises:
        DataError: they are absent, or fewer than asked for.
    """
    pool = SOURCES[data.source](0, 0)
    parts: dict[str, Tensor] = {}
    for split, size in (("train", data.train_size), ("test", data.test_size)):
        x, y = getattr(pool, f"x_{split}"), getattr(pool, f"y_{split}")
        if size is not None and size > len(x):
            raise DataError(f"data.{split}_size: {size} is not allowed: {data.source} has {len(x)} {split} images")
        parts |= {f"x_{split}": _values(pool, x[:size]), f"y_{split}": y[:size]}
    return Images(**parts, num_classes=pool.num_classes, source=data.source)


def _values(pool: Pool, x: Tensor) -> Tensor:
    """A source's inputs as values in [0, 1] of three channels; multiples of 1/255, or of 1/16 for the digits."""
    if pool.pixels is None:
        values = pixels(x)
    else:
        images = pool.pixels.images(x)
        assert images is not None
        values = images.float().div_(255)
    return values.expand(-1, CHANNELS, -1, -1)
