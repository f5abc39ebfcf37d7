"""Where a directory's samples come from: CSV tables, .npy arrays, built-in image sets, each with fixed splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minima_volume.config.directory import Data, LoaderParams, Source
from minima_volume.data.dataset import SOURCES
from minima_volume.data.digits import pixels
from minima_volume.directories.arrays import read_npy
from minima_volume.directories.tables import read_cardinalities, read_table
from minima_volume.errors import ConfigError, DataError

IMAGE_SETS = ("digits", "mnist", "fashion_mnist", "cifar10", "svhn")
SPLITS = ("train", "val", "test", "all")
SPLIT_SEED = 0
CHUNK = 1024  # samples that are evaluated, or looked through, at a time
ROUNDING = 64 * np.finfo(np.float64).eps  # of the deviation of equal numbers, relative to them


@dataclass(frozen=True)
class Samples:
    """Samples that stay where they are until they are taken.

    Attributes:
        values: (rows, ...) as stored.
        chosen: the rows that belong to the split, increasing; None: all.
        finish: stored samples -> what the model sees.
        source: how messages call it.
    """

    values: np.ndarray
    chosen: np.ndarray | None
    finish: Callable[[np.ndarray], np.ndarray]
    source: str

    def __len__(self) -> int:
        return len(self.values) if self.chosen is None else len(self.chosen)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.values.shape[1:]

    def take(self, rows: Tensor | slice) -> Tensor:
        """Some samples, float32."""
        where = rows if isinstance(rows, slice) else rows.numpy()
        stored = self.values[where if self.chosen is None else self.chosen[where]]
        return torch.from_numpy(np.array(self.finish(stored), dtype=np.float32, order="C"))

    def chunks(self) -> Iterator[Tensor]:
        """All samples in order, CHUNK at a time."""
        for start in range(0, len(self), CHUNK):
            yield self.take(slice(start, start + CHUNK))


def open_samples(section: Source, split: str, data: Data) -> tuple[Samples, Data]:
    """The samples of one section of a config.

    Args:
        section: path and loader. `digits` is its own `split`, `digits:all` is all but the test set. A file is taken whole, or with
            `:train`, `:val`, `:test` by eight, one and one tenth of its rows, the same ones every time.
        split: the section's name.
        data: columns of tables; their categories and scales, if they are known.

    Returns:
        The samples, and `data` with the categories and scales, which training finds.

    Raises:
        ConfigError: path, loader and columns do not belong together.
        DataError: the samples cannot be used.
        MissingStageError: no such file.
    """
    path, part = _parts(section.data_path)
    if path in IMAGE_SETS:
        if section.loader_class != "ImageDataLoader":
            raise ConfigError(
                f"{split}.data_path: {path!r} are images; loader_class must be ImageDataLoader, not {section.loader_class}"
            )
        return _images(path, part or split, section.loader_params), data
    if section.loader_class == "TabularDataLoader":
        return _table(Path(path), part, section.data_path, data)
    values = read_npy(Path(path))
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds an array of type {values.dtype}; samples are real numbers, saved as float32 for example"
        )
    if section.loader_class == "EmbeddingDataLoader" and values.ndim != 2:
        raise DataError(f"{path} holds an array of shape {values.shape}; embeddings are (n_samples, embedding_dim)")
    if section.loader_class == "ImageDataLoader":
        values, finish = _as_images(values, path), _pixels(section.loader_params, values.dtype)
    else:
        finish = _same
    samples = Samples(values, _rows(len(values), part), finish, section.data_path)
    _check(samples, section)
    return samples, data


def batches(samples: Samples, params: LoaderParams, order: torch.Generator) -> Iterator[Tensor]:
    """The batches of one epoch: every sample once, or `num_batches_per_epoch` batches, for which it begins anew if need be."""
    left = params.num_batches_per_epoch
    while True:
        rows = torch.randperm(len(samples), generator=order) if params.shuffle else torch.arange(len(samples))
        for batch in rows.split(params.batch_size):
            yield samples.take(batch)
            left = None if left is None else left - 1
            if left == 0:
                return
        if left is None:
            return


def _parts(data_path: str) -> tuple[str, str | None]:
    path, colon, part = data_path.rpartition(":")
    return (path, part) if colon and part in SPLITS else (data_path, None)


def _rows(count: int, part: str | None) -> np.ndarray | None:
    if part in (None, "all"):
        return None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED)).numpy()
    tenth = count // 10
    where = {"test": slice(0, tenth), "val": slice(tenth, 2 * tenth), "train": slice(2 * tenth, None)}[str(part)]
    rows = np.sort(order[where])
    if not len(rows):
        raise DataError(f"{count} rows are too few for a split {part!r}; it takes a tenth of them")
    return rows


def _images(name: str, split: str, params: LoaderParams) -> Samples:
    pool = SOURCES[name](0, 0)
    x = pool.x_test if split == "test" else pool.x_train
    if pool.pixels is not None:
        images = pool.pixels.images(x)
        assert images is not None
        values = images.numpy()
    else:
        values = pixels(x).numpy()
    border = len(values) - len(values) // 6
    part = {"train": slice(0, border), "val": slice(border, None)}.get(split, slice(None))
    return Samples(values[part], None, _pixels(params, values.dtype), f"{name}:{split}")


def _as_images(values: np.ndarray, path: str) -> np.ndarray:
    if values.ndim not in (3, 4):
        raise DataError(
            f"{path} holds an array of shape {values.shape}; images are (n, height, width) or (n, channels, height, width)"
        )
    return values[:, None] if values.ndim == 3 else values


def _pixels(params: LoaderParams, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """Bytes become 0 to 1."""

    def finish(images: np.ndarray) -> np.ndarray:
        scaled = images / np.float32(255) if dtype == np.uint8 else images
        return (scaled > 0.5).astype(np.float32) if params.binarize else scaled

    return finish


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _check(samples: Samples, section: Source) -> None:
    """Raise DataError for numbers that are none, and for pixels that are not between 0 and 1."""
    if 0 in (shape := (len(samples), *samples.shape)):
        raise DataError(f"{samples.source} holds no samples: its shape is {shape}")
    for number, chunk in enumerate(samples.chunks()):
        bad = ~chunk.flatten(1).isfinite().all(1)
        if bad.any():
            row = number * CHUNK + int(bad.nonzero()[0])
            raise DataError(f"{samples.source}: sample {row} (counted from 0) holds NaN or infinite numbers")
        if section.loader_class == "ImageDataLoader" and not 0 <= float(chunk.min()) <= float(chunk.max()) <= 1:
            raise DataError(f"{samples.source}: pixels must be bytes, or numbers from 0 to 1")


def _table(path: Path, part: str | None, source: str, data: Data) -> tuple[Samples, Data]:
    columns = data.columns
    if columns is None:
        raise ConfigError(
            f"{path}: data.columns is missing: say which of its columns are numerical, categorical, embeddings"
        )
    categories = data.categories
    if categories is None and data.cardinalities_path is not None:
        categories = read_cardinalities(Path(data.cardinalities_path), columns)
    values, categories = read_table(path, columns, categories)
    rows = _rows(len(values), part)
    scales = data.scales
    if scales is None:
        numbers = values[:, : len(columns.numerical)] if rows is None else values[rows, : len(columns.numerical)]
        scales = {
            name: _scale(column, f"{source}: {name}") for name, column in zip(columns.numerical, numbers.T, strict=True)
        }
    finish = standardise(scales, columns.numerical)
    found = data.model_copy(update={"categories": categories, "scales": scales})
    return Samples(values, rows, finish, source), found


def _scale(column: np.ndarray, where: str) -> list[float]:
    """Mean and standard deviation; 1 instead of 0, which equal numbers have but for rounding."""
    largest = float(np.abs(column).max())
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(column.mean()), float(column.std())
    if not np.isfinite([mean, deviation]).all():
        raise DataError(
            f"{where} holds numbers up to {largest:.3g}, too large for a standard deviation; take another unit"
        )
    return [mean, deviation if deviation > ROUNDING * largest else 1.0]


def standardise(
    scales: dict[str, list[float]], names: list[str], back: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """Numerical columns, which come first, to mean 0 and deviation 1 of the training data; or back from there."""
    mean, deviation = (np.array([scales[name][i] for name in names], dtype=np.float64) for i in (0, 1))

    def finish(values: np.ndarray) -> np.ndarray:
        result = np.array(values, dtype=np.float64)
        numbers = result[:, : len(names)]
        result[:, : len(names)] = numbers * deviation + mean if back else (numbers - mean) / deviation
        return result

    return finish
