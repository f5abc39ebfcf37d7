"""Embeddings and predictions of a trained model, written chunk by chunk in the order of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minima_volume.config.directory import EmbedConfig, EmbedSource, PredictConfig
from minima_volume.directories.arrays import write_npy
from minima_volume.directories.directory import Directory, held
from minima_volume.directories.load import Checkpoint, device_of, load
from minima_volume.directories.metrics import measure
from minima_volume.directories.own_code import explained
from minima_volume.directories.sources import Samples, standardise
from minima_volume.directories.track import track_predictions
from minima_volume.errors import ConfigError
from minima_volume.execution.device import threads
from minima_volume.files.atomic import finite_or_none, write_json, write_npz
from minima_volume.isolation import own_defaults

Say = Callable[[str], object]


@own_defaults()
def embed_directory(config: EmbedConfig, places: Sequence[Path] = (), say: Say = print) -> list[Path]:
    """Write embeddings (n_samples, embedding_dim), float32, row i of sample i: a VAE's posterior means, an SAE's codes.

    Args:
        config: of the extraction.
        places: folders in which a user's own class is looked for; it needs a method `embed`.
        say: called with a line per file.

    Returns:
        The files.

    Raises:
        MissingStageError: no such checkpoint.
        ConfigError: data and model do not belong together.
    """
    checkpoint, directory, written = load(config), Directory(config.experiment.folder), []
    with threads(config.experiment.threads), held(directory):
        for split, source in config.sources.items():
            samples = checkpoint.samples(source, split, config.data)
            model = checkpoint.model(samples.shape, config.experiment.device, places)
            path = output_file(directory, source, "embeddings", split)
            written.append(write_npy(path, len(samples), _rows(model, "embed", samples)))
            say(f"{path}: {len(samples)} embeddings by {checkpoint.path}")
    return written


@own_defaults()
def predict_directory(config: PredictConfig, places: Sequence[Path] = (), say: Say = print) -> Path:
    """Write what the model makes of each sample of the test split: reconstructions, in the units of the data.

    Args:
        config: of the prediction.
        places: folders in which a user's own class is looked for; its method `predict` is called, else the model itself.
        say: called with a line per file, and the metrics.

    Returns:
        The .npy file; a .npz with names if the model has several outputs.

    Raises:
        MissingStageError: no such checkpoint.
        ConfigError: data and model do not belong together.
    """
    checkpoint, directory, wanted = load(config), Directory(config.experiment.folder), config.test
    with threads(config.experiment.threads), held(directory):
        samples = checkpoint.samples(wanted, "test", config.data)
        model = checkpoint.model(samples.shape, config.experiment.device, places)
        criterion = checkpoint.criterion(wanted.metrics.loss, model, places) if wanted.metrics.compute else None
        path = _write_predictions(
            output_file(directory, wanted, "predictions", "test"), model, samples, _units(checkpoint)
        )
        say(f"{path}: {len(samples)} predictions by {checkpoint.path}")
        if criterion is not None:
            count = wanted.metrics.importance_samples
            found = measure(model, criterion, samples, checkpoint.config.experiment.seed, count)
            say(", ".join(f"test_{name} {value:.6g}" for name, value in found.items() if isinstance(value, float)))
            named = {f"test_{name}": value for name, value in found.items()}
            write_json(
                path.with_name("test_metrics.json"), {name: finite_or_none(value) for name, value in named.items()}
            )
            track_predictions(directory, int(checkpoint.content["epoch"]), named, say)
    return path


def output_file(directory: Directory, source: EmbedSource, kind: str, split: str) -> Path:
    """Where the array of a split goes.

    Raises:
        ConfigError: `output` is no .npy file.
    """
    path = Path(source.output or f"{split}_{kind}.npy")
    if path.suffix != ".npy":
        raise ConfigError(f"{split}.output: {source.output!r} must be a .npy file")
    return directory.folder / kind / path if path.name == str(path) else path


@torch.no_grad()
def _outputs(model: nn.Module, method: str, samples: Samples) -> Iterator[Any]:
    function = getattr(model, method, model if method == "predict" else None)
    if function is None:
        raise ConfigError(f"model {type(model).__name__} has no method {method}(x), which gives the embeddings")
    for chunk in samples.chunks():
        with explained(
            f"{method}(x) of model {type(model).__name__} fails on samples of shape {tuple(chunk.shape)}", model
        ):
            outputs = function(chunk.to(device_of(model)))
        yield outputs


def _rows(model: nn.Module, method: str, samples: Samples) -> Iterator[np.ndarray]:
    for rows in _outputs(model, method, samples):
        if not isinstance(rows, Tensor) or rows.ndim != 2:
            what = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ConfigError(
                f"{method}(x) of {type(model).__name__} must give a tensor (samples, embedding_dim), got {what}"
            )
        yield rows.float().cpu().numpy()


def _units(checkpoint: Checkpoint) -> Callable[[np.ndarray], np.ndarray]:
    """Predictions of a table in the units of its columns."""
    data = checkpoint.config.data
    if data.columns is None or data.scales is None or checkpoint.config.model.kind not in ("VAE", "SAE"):
        return lambda values: values
    back = standardise(data.scales, data.columns.numerical, back=True)
    return lambda values: back(values).astype(np.float32)


def _write_predictions(
    path: Path, model: nn.Module, samples: Samples, units: Callable[[np.ndarray], np.ndarray]
) -> Path:
    parts = _outputs(model, "predict", samples)
    first = next(parts)
    if isinstance(first, Tensor):
        every = (part.cpu().numpy() for part in _chain(first, parts))
        return write_npy(path, len(samples), map(units, every))
    named = [_named(part) for part in _chain(first, parts)]
    return write_npz(
        path.with_suffix(".npz"), {name: np.concatenate([part[name] for part in named]) for name in named[0]}
    )


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _named(outputs: Any) -> dict[str, np.ndarray]:
    """Several outputs by name; those of a tuple are output_0, output_1, ..."""
    if isinstance(outputs, tuple | list):
        outputs = {f"output_{i}": value for i, value in enumerate(outputs)}
    if not isinstance(outputs, Mapping) or not all(isinstance(value, Tensor) for value in outputs.values()):
        raise ConfigError(
            f"the model gives a {type(outputs).__name__}; predictions must be tensors, by name if there are several"
        )
    return {str(name): value.cpu().numpy() for name, value in outputs.items()}
