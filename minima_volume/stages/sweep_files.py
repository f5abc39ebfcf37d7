"""The .npz of a sweep: one model in one landscape, as plain arrays, and the dictionaries of the original notebooks back from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minima_volume.arguments import as_path
from minima_volume.errors import DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_npz, write_npz
from minima_volume.files.content import interpreted, settings_of
from minima_volume.perturbation.curves import Curves

STATE_DICT = "state_dict/"
MARKS = ("weights_hash", "data_hash", "settings", "left_out")  # by which it is known whether a sweep is current


@dataclass(frozen=True)
class Sweep:
    """One model's losses along random directions in one landscape.

    Attributes:
        coefficients: (C,), increasing from 0.
        loss, accs: (D, C); NaN where a direction was stopped early, an infinite loss where the model computed NaN.
        perturbation_seed, perturbation_norm: (D,).
        metadata: `additional_data`, `model_trained_data`, `dataset_type`, `base_dataset_size`, `test_loss`, `test_accs`,
            `num_params`, `num_zero_params`, `log_det`, `left_out`, `weights_hash`, `data_hash`, `settings`, `provenance`.
        state_dict: the model's weights.
    """

    coefficients: np.ndarray
    loss: np.ndarray
    accs: np.ndarray
    perturbation_seed: np.ndarray
    perturbation_norm: np.ndarray
    metadata: dict[str, Any]
    state_dict: dict[str, Tensor]

    def curves(self) -> Curves:
        """The curves with a leading landscape dimension of 1."""
        return Curves(
            self.coefficients,
            self.loss[None],
            self.accs[None],
            self.perturbation_seed,
            self.perturbation_norm,
        )


ARRAYS = ("coefficients", "loss", "accs", "perturbation_seed", "perturbation_norm")


def write_sweep(path: Path, sweep: Sweep) -> Path:
    """Write one sweep; dictionaries among the metadata are stored as JSON text."""
    arrays: dict[str, Any] = {name: getattr(sweep, name) for name in ARRAYS}
    for key, value in sweep.metadata.items():
        arrays[key] = json.dumps(value) if isinstance(value, Mapping | list) else value
    for name, tensor in sweep.state_dict.items():
        arrays[STATE_DICT + name] = tensor.detach().cpu().numpy()
    return write_npz(path, arrays)


def read_marks(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The seeds of a sweep's directions, and what it was made from; its curves are not read, nor is their checksum compared.

    Raises:
        DamagedFileError: truncated, or not a sweep of this package.
    """
    content = read_npz(path, ("perturbation_seed", *MARKS), listed=ARRAYS)
    with interpreted(path):
        return content.pop("perturbation_seed"), _with_marks({key: _value(array) for key, array in content.items()})


def _with_marks(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata whose marks are of their kinds."""
    settings_of(metadata)
    for key in ("weights_hash", "data_hash"):
        if not isinstance(metadata[key], str):
            raise TypeError(f"{key} is {metadata[key]!r:.40}, not text")
    names = metadata["left_out"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"left_out is {names!r:.40}, not a list of names")
    return metadata


def _value(array: np.ndarray) -> Any:
    """A metadatum; what was a dictionary or a list is stored as JSON text."""
    value = array.item()
    return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value


def read_sweep(path: str | Path, *, with_state_dict: bool = True) -> Sweep:
    """Read one sweep.

    Raises:
        MissingStageError: notebook 2 has not been run.
        DamagedFileError: truncated, or not a sweep of this package.
    """
    path = as_path(path)
    if not path.is_file():
        raise MissingStageError(
            f"{path} does not exist: run 'Random Perturbs.ipynb' (`minima-volume run --stage perturb`) first"
        )
    content = read_npz(path)
    if missing := [name for name in (*ARRAYS, "weights_hash", "settings") if name not in content]:
        raise DamagedFileError(f"{path} lacks {', '.join(missing)}: it was not written by this package")
    metadata: dict[str, Any] = {}
    with interpreted(path):
        for key, array in content.items():
            if key not in ARRAYS and not key.startswith(STATE_DICT):
                metadata[key] = _value(array)
        shape = (*content["perturbation_seed"].shape, *content["coefficients"].shape)
        if len(shape) != 2 or any(content[name].shape != shape for name in ("loss", "accs")):
            raise ValueError(f"losses of shape {content['loss'].shape} for {shape} directions and coefficients")
        if content["perturbation_norm"].shape != shape[:1] or content["perturbation_seed"].dtype.kind not in "iu":
            raise ValueError("the directions have no seeds or no norms")
        if any(content[name].dtype.kind != "f" for name in ("loss", "accs", "coefficients", "perturbation_norm")):
            raise TypeError("losses, coefficients and norms must be floating-point numbers")
        _with_marks(metadata)
        state_dict = {
            key.removeprefix(STATE_DICT): torch.from_numpy(array)
            for key, array in content.items()
            if with_state_dict and key.startswith(STATE_DICT)
        }
    return Sweep(**{name: content[name] for name in ARRAYS}, metadata=metadata, state_dict=state_dict)


def load_wiggle_results(path: str | Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One dictionary a direction, and the metadata with the `state_dict`, as `experiments/README.md` lists them.

    Args:
        path: a sweep's .npz.

    Returns:
        The list of dictionaries (`loss`, `coefficients`, `accs`, `perturbation_seed`, `perturbation_norm`), and the metadata.
    """
    sweep = read_sweep(as_path(path))
    results = [
        {
            "loss": sweep.loss[i],
            "coefficients": sweep.coefficients,
            "accs": sweep.accs[i],
            "perturbation_seed": int(sweep.perturbation_seed[i]),
            "perturbation_norm": float(sweep.perturbation_norm[i]),
        }
        for i in range(len(sweep.loss))
    ]
    return results, {**sweep.metadata, "state_dict": sweep.state_dict}
