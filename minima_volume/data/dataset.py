"""The samples of one run, and dataset.pt."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minima_volume.config.run import Config
from minima_volume.data.cifar10 import cifar10
from minima_volume.data.digits import digits
from minima_volume.data.mnist import fashion_mnist, mnist
from minima_volume.data.modulo_arithmetic import modulo_arithmetic
from minima_volume.data.pixels import Pixels
from minima_volume.data.pool import Pool
from minima_volume.data.svhn import svhn
from minima_volume.data.swiss_roll import swiss_roll
from minima_volume.data.text import text
from minima_volume.data.variants import draw
from minima_volume.errors import ConfigError, DamagedFileError, DataError, MissingStageError, StaleError
from minima_volume.files.atomic import hash_arrays, read_pt, write_pt
from minima_volume.files.content import interpreted, settings_of, skims
from minima_volume.files.user_code import load_object
from minima_volume.isolation import own_defaults

Source = Callable[..., Pool]
SOURCES: dict[str, Source] = {
    "swiss_roll": swiss_roll,
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "svhn": svhn,
    "modulo_arithmetic": modulo_arithmetic,
    "text": text,
}
SAMPLE_KEYS = ("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test")
INDICES_NOTE = (
    "data.store: indices. The samples are not in this file: 'indices' are their positions in the source, which has to be there; "
    "minima_volume.load_models_and_data(run_folder) takes them from it. data.store: full keeps them here"
)


@dataclass(frozen=True)
class Dataset:
    """Base, additional and test samples of one run.

    Attributes:
        x_base_train, y_base_train: the samples every model sees.
        x_additional, y_additional: the additional samples; level q is the first q. As many as the largest level has, or more
            where a larger level was taken out of the configuration since they were drawn.
        x_test, y_test: the held-out test set.
        levels: numbers of additional samples, ascending.
        dataset_type: data, poison or noise.
        num_classes: number of classes; 1 for a single logit.
        indices: (base + additional,) positions in the source's training samples, -1 where a sample was made up.
        label_names: what pictures call the classes; () calls them by their numbers.
        pixels: how inputs were made from images of bytes; None if they were not.
        hashes: what `hash` has computed; it depends on the samples alone.
    """

    x_base_train: Tensor
    y_base_train: Tensor
    x_additional: Tensor
    y_additional: Tensor
    x_test: Tensor
    y_test: Tensor
    levels: tuple[int, ...]
    dataset_type: str
    num_classes: int
    indices: Tensor
    label_names: tuple[str, ...] = ()
    pixels: Pixels | None = None
    hashes: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def x_train(self) -> Tensor:
        """Base, then additional inputs up to the largest level: every landscape is a prefix of it."""
        return torch.cat([self.x_base_train, self.x_additional[: self.levels[-1]]])

    @property
    def y_train(self) -> Tensor:
        return torch.cat([self.y_base_train, self.y_additional[: self.levels[-1]]])

    @property
    def base_size(self) -> int:
        return len(self.x_base_train)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each landscape, in the order of the levels."""
        return tuple(self.base_size + level for level in self.levels)

    def hash(self, level: int | None = None) -> str:
        """A hash of the base, the test, and the first `level` additional samples; of the largest level by default.

        By it a model, and what is measured on it, knows the samples; how many more there are does not change it.

        Raises:
            DataError: there are fewer additional samples than that.
        """
        level = self.levels[-1] if level is None else level
        if level > len(self.x_additional):
            raise DataError(f"level {level} needs {level} additional samples, there are {len(self.x_additional)}")
        if level not in self.hashes:
            cut = {key: level if key.endswith("additional") else None for key in SAMPLE_KEYS}
            self.hashes[level] = hash_arrays({key: getattr(self, key)[:stop] for key, stop in cut.items()})
        return self.hashes[level]

    def samples(self) -> dict[str, Tensor]:
        """Every sample as dataset.pt keeps it, by its keys there: inputs that were made of images as the bytes of these."""
        kept = {key: getattr(self, key) for key in SAMPLE_KEYS}
        if self.pixels is not None:
            found = {key: self.pixels.images(kept[key]) for key in SAMPLE_KEYS if key.startswith("x_")}
            kept |= {key: images for key, images in found.items() if images is not None}
        return kept

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.x_base_train.shape[1:]))
        return (
            f"{self.base_size} base + up to {self.levels[-1]} additional samples ({self.dataset_type}), "
            f"{len(self.x_test)} test samples, inputs {shape}, levels {', '.join(map(str, self.levels))}"
        )


@own_defaults()
def make_dataset(config: Config, folder: Path | None = None, count: int | None = None) -> Dataset:
    """Draw the samples that a configuration describes.

    Args:
        config: a resolved configuration (with a data seed).
        folder: the run folder, where a user's own .py source is looked for.
        count: additional samples; as many as the largest level has by default.

    Raises:
        ConfigError: no such source, or its options are wrong.
        DataError: the samples are absent, or too few.
    """
    data, seed = config.data, config.data_seed
    count = data.levels[-1] if count is None else count
    pool = _pool(config, folder, seed, data.base_size + count)
    x_base, y_base, x_add, y_add, indices = draw(pool, data.variant, data.base_size, count, seed, data.imbalance)
    return Dataset(
        x_base,
        y_base,
        x_add,
        y_add,
        pool.x_test,
        pool.y_test,
        tuple(data.levels),
        data.variant,
        pool.num_classes,
        indices,
        pool.label_names,
        pool.pixels,
    )


def _pool(config: Config, folder: Path | None, seed: int, needed: int) -> Pool:
    name = config.data.source
    if ":" in name:
        source = load_object(name, folder, "data.source")
    elif name in SOURCES:
        source = SOURCES[name]
    else:
        raise ConfigError(
            f"data.source: {name!r} is not known; allowed: {', '.join(SOURCES)}, or <module>:<function> of your own"
        )
    options = config.data.options
    if "folder" in inspect.signature(source).parameters:  # a source that reads a file of the user's
        options = {"folder": folder, **options}
    try:
        pool = source(seed, needed, **options)
    except TypeError as error:
        raise ConfigError(f"data.options {config.data.options} do not fit source {name!r}: {error}") from error
    if not isinstance(pool, Pool):
        raise ConfigError(f"data.source: {name!r} must return a minima_volume.data.Pool, got {type(pool).__name__}")
    return pool


def save_dataset(dataset: Dataset, path: Path, config: Config) -> Path:
    """Write dataset.pt with the samples, or with indices into the source (`data.store: indices`); prints its size first."""
    content: dict[str, Any] = {
        "dataset_quantities": list(dataset.levels),
        "dataset_type": dataset.dataset_type,
        "base_dataset_size": dataset.base_size,
        "num_classes": dataset.num_classes,
        "label_names": list(dataset.label_names),
        "indices": dataset.indices,
        "data_hash": dataset.hash(len(dataset.x_additional)),
        "data_seed": config.data_seed,
        "settings": config.data.model_dump(),
    }
    samples = dataset.samples()
    size = sum(tensor.nbytes for tensor in samples.values()) / 1e6
    if config.data.store == "full":
        free = shutil.disk_usage(next(p for p in path.resolve().parents if p.exists())).free / 1e9
        print(f"{path.name} will take {size:.1f} MB ({free:.0f} GB free)")
        content |= {key: tensor.clone() for key, tensor in samples.items()}
        if dataset.pixels is not None:
            content |= {"pixel_mean": list(dataset.pixels.mean), "pixel_std": list(dataset.pixels.std)}
    else:
        print(f"{path.name} will have positions in the source, not the {size:.1f} MB of samples (data.store: indices)")
        content["note"] = INDICES_NOTE
    return write_pt(path, content)


@own_defaults()
def load_dataset(path: Path, config: Config, folder: Path | None = None) -> Dataset:
    """The samples of dataset.pt with the levels of the configuration, see `stored_dataset`.

    Raises:
        MissingStageError: notebook 1 has not been run, or not since a larger level was added.
    """
    stored, levels = stored_dataset(path, config, folder), tuple(config.data.levels)
    if levels[-1] > (drawn := len(stored.x_additional)):
        raise MissingStageError(
            f"{path} holds {drawn} additional samples, data.levels go up to {levels[-1]}: run 'Train Low Test Models.ipynb' "
            "(`minima-volume run --stage train`), which draws the others and trains the levels that are missing"
        )
    return replace(stored, levels=levels)


def extended_dataset(stored: Dataset, config: Config, folder: Path | None = None) -> Dataset:
    """The samples of a configuration whose largest level is above those that are stored, which stay the first of them.

    Args:
        stored: what was drawn for fewer levels.
        config: the configuration now.
        folder: the run folder.

    Raises:
        StaleError: the source or the variant gives other samples when more are asked for.
    """
    drawn, count = make_dataset(config, folder), len(stored.x_additional)
    if drawn.hash(count) != stored.hash(count):
        data = config.data
        raise StaleError(
            f"data.levels now go up to {data.levels[-1]}, and {count} additional samples were drawn before: source {data.source!r} with "
            f"variant {data.variant!r} gives other samples when more are asked for, so every level would be of other data"
        )
    return drawn


def stored_dataset(path: Path, config: Config, folder: Path | None = None) -> Dataset:
    """Read dataset.pt as it was written; what it keeps as images of bytes comes as the inputs made of them, bit for bit.

    Where it was stored with `store: indices` the samples are taken from the source again and checked.

    Raises:
        MissingStageError: notebook 1 has not been run.
        DamagedFileError: the file is truncated or lacks keys.
        StaleError: the source no longer gives the samples that were stored.
    """
    if not path.is_file():
        raise MissingStageError(
            f"{path} does not exist: run 'Train Low Test Models.ipynb' (`minima-volume run --stage train`) first"
        )
    content = read_pt(path)
    if "data_hash" not in content:
        raise DamagedFileError(f"{path} lacks 'data_hash': it was not written by this package")
    with interpreted(path):
        count = len(content["indices"]) - content["base_dataset_size"]
        by_index = settings_of(content)["store"] == "indices"
        levels = tuple(sorted(map(int, content["dataset_quantities"])))
        dataset = None if by_index else _stored(content)
    if dataset is None:
        dataset = replace(make_dataset(config, folder, count), levels=levels)
    with interpreted(path):
        same = skims() or dataset.hash(len(dataset.x_additional)) == content["data_hash"]
    if not same:
        raise StaleError(
            f"{path}: the samples differ from those that were stored (hash {content['data_hash']}); delete it and train again"
        )
    return dataset


def _stored(content: Mapping[str, Any]) -> Dataset:
    """The samples that dataset.pt keeps, images of bytes as the inputs made of them."""
    samples: dict[str, Any] = {key: content[key] for key in SAMPLE_KEYS}
    pixels = None
    if "pixel_mean" in content:
        pixels = Pixels(tuple(content["pixel_mean"]), tuple(content["pixel_std"]))
        for key in ("x_base_train", "x_additional", "x_test"):
            if samples[key].dtype == torch.uint8:
                samples[key] = pixels.inputs(samples[key])
    return Dataset(
        **samples,
        levels=tuple(content["dataset_quantities"]),
        dataset_type=content["dataset_type"],
        num_classes=content["num_classes"],
        indices=content["indices"],
        label_names=tuple(content.get("label_names", ())),
        pixels=pixels,
    )
