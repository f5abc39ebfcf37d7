"""results.json: what one landscape says at one threshold, with the keys that `experiments/README.md` lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minima_volume.errors import DamagedFileError
from minima_volume.files import read_json, write_json, write_npz
from minima_volume.layout import Run
from minima_volume.provenance import provenance
from minima_volume.volume.crossings import Radii
from minima_volume.volume.ordering import (
    discordant_pairs,
    native_is_largest,
    order_holds,
    ordering_violations,
    ranks,
    spearman,
)
from minima_volume.volume.star import StarVolume, star_volume


@dataclass(frozen=True)
class Minimum:
    """One minimum of a landscape, as measured at one threshold.

    Attributes:
        level: additional samples it was trained with.
        radii, accuracy_radii: at the loss threshold, and at the accuracy threshold paired with it.
        num_params, num_zero_params: n, and the entries left out because their scaling is 0.
        log_det: sum_j log F_j.
        test_loss, test_accuracy, train_loss: of the trained model; train_loss on its own training samples.
        start_loss: its loss in this landscape.
        left_out: parameters that were not perturbed.
        weights_hash: of the model.
    """

    level: int
    radii: Radii
    accuracy_radii: Radii | None
    num_params: int
    num_zero_params: int
    log_det: float
    test_loss: float
    test_accuracy: float
    train_loss: float
    start_loss: float
    left_out: list[str]
    weights_hash: str


def write_results(run: Run, landscape: int, threshold: float, minima: Sequence[Minimum], fingerprint: str) -> Path:
    """Write radii.npz, then results.json, which marks the pair as whole."""
    write_npz(run.radii_file(landscape, threshold), radii_arrays(minima))
    content = results_content(run, landscape, threshold, minima) | {"fingerprint": fingerprint}
    return write_json(run.results_file(landscape, threshold), content)


def radii_arrays(minima: Sequence[Minimum]) -> dict[str, np.ndarray]:
    """Per direction (minima, D): radius, coefficient, censored, reentered; `acc_*` at the accuracy threshold."""
    arrays = {
        "model_data_levels": np.array([m.level for m in minima]),
        "perturbation_seed": minima[0].radii.seeds,
    }
    for name in ("radius", "coefficient", "censored", "reentered"):
        arrays[name] = np.stack([getattr(m.radii, name) for m in minima])
        if minima[0].accuracy_radii is not None:
            arrays[f"acc_{name}"] = np.stack([getattr(m.accuracy_radii, name) for m in minima])
    return arrays


def results_content(run: Run, landscape: int, threshold: float, minima: Sequence[Minimum]) -> dict[str, Any]:
    """All keys of results.json; per-minimum lists follow `model_data_levels`."""
    config = run.config
    levels = [m.level for m in minima]
    test_losses = [m.test_loss for m in minima]
    content: dict[str, Any] = {
        "model_data_levels": levels,
        "loss_landscape_data_param": landscape,
        "dataset_type": config.data.variant,
        "base_dataset_size": config.data.base_size,
        "loss_threshold": threshold,
        "accuracy_threshold": config.volume.accuracy_for(threshold),
        "num_params": minima[0].num_params
        if len({m.num_params for m in minima}) == 1
        else [m.num_params for m in minima],
        "num_zero_params": [m.num_zero_params for m in minima],
        "left_out_params": minima[0].left_out,
        "test_loss_values": test_losses,
        "test_accuracy_values": [none_if_nan(m.test_accuracy) for m in minima],
        "train_loss_values": [m.train_loss for m in minima],
        "start_loss_values": [none_if_nan(m.start_loss) for m in minima],
        "test_loss_ranks": ranks(test_losses),
        "data_level_ranks": ranks([float(level) for level in levels]),
    }
    volumes = [star_volume(m.radii, m.num_params, m.log_det) for m in minima]
    content |= volume_keys("log_exp_r_n", volumes)
    content |= top_radii(minima, config.volume.top_k)
    content |= order_keys("loss", landscape, levels, volumes, test_losses)
    if minima[0].accuracy_radii is not None:
        by_accuracy = [
            star_volume(m.accuracy_radii, m.num_params, m.log_det) for m in minima if m.accuracy_radii is not None
        ]
        content |= volume_keys("log_exp_r_n_acc", by_accuracy)
        content |= order_keys("accuracy", landscape, levels, by_accuracy, test_losses)
    content |= {
        "seeds": {
            "model": config.model_seed,
            "data": config.data_seed,
            "perturbation": config.seeds.perturbation,
        },
        "settings": config.model_dump(),
        "weights_hashes": [m.weights_hash for m in minima],
        "radius_tolerance": minima[0].radii.tolerance,
        "provenance": provenance(config),
    }
    return content


def volume_keys(prefix: str, volumes: Sequence[StarVolume]) -> dict[str, Any]:
    """`<prefix>_values`, `_ranks` and `_notes`, the log-volume, and how far to trust them."""
    suffix = prefix.removeprefix("log_exp_r_n")
    values = [v.log_exp_r_n for v in volumes]
    return {
        f"{prefix}_values": values,
        f"{prefix}_ranks": ranks(values),
        f"{prefix}_notes": [v.note for v in volumes],
        f"log_volume{suffix}_values": [v.log_volume for v in volumes],
        f"effective_sample_size{suffix}": [v.effective_sample_size for v in volumes],
        f"largest_share{suffix}": [v.largest_share for v in volumes],
        f"num_directions{suffix}": [v.num_directions for v in volumes],
        f"num_censored{suffix}": [v.num_censored for v in volumes],
        f"num_reentered{suffix}": [v.num_reentered for v in volumes],
        f"verdicts{suffix}": [v.verdict for v in volumes],
    }


def order_keys(
    prefix: str,
    landscape: int,
    levels: Sequence[int],
    volumes: Sequence[StarVolume],
    test_losses: Sequence[float],
) -> dict[str, Any]:
    """How the volumes order the minima; `<prefix>_predicts_minimas` and `<prefix>_ordering_violations` are the seeds' keys."""
    values = [v.log_exp_r_n for v in volumes]
    comparable = sum(value is not None for value in values) > 1
    return {
        f"{prefix}_predicts_minimas": order_holds(levels, values),
        f"{prefix}_native_is_largest": native_is_largest(landscape, levels, values),
        f"{prefix}_ordering_violations": ordering_violations(values, test_losses) if comparable else None,
        f"{prefix}_discordant_pairs": discordant_pairs(values, test_losses) if comparable else None,
        f"{prefix}_spearman": spearman(values, test_losses),
    }


def top_radii(minima: Sequence[Minimum], top_k: int) -> dict[str, Any]:
    """The largest radii of each minimum, descending, each with the seed of its direction; null where it is outside."""
    values, seeds = [], []
    for m in minima:
        count = min(top_k, len(m.radii.radius))
        if m.radii.outside:
            values.append([None] * count)
            seeds.append([None] * count)
            continue
        order = np.argsort(-m.radii.radius, kind="stable")[:count]
        values.append(m.radii.radius[order].tolist())
        seeds.append(m.radii.seeds[order].tolist())
    return {"top_r_vals": values, "top_r_val_seeds": seeds}


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN or Infinity."""
    return value if np.isfinite(value) else None


def load_results(path: str | Path) -> dict[str, Any]:
    """Read one results.json.

    Raises:
        MissingStageError: notebook 3 has not been run.
        DamagedFileError: it is not strict JSON, or lacks the keys.
    """
    content = read_json(Path(path))
    if missing := [
        key for key in ("model_data_levels", "log_exp_r_n_values", "settings", "weights_hashes") if key not in content
    ]:
        raise DamagedFileError(
            f"{path} lacks {', '.join(missing)}; delete it and run 'Volume Estimation Pipeline.ipynb' again"
        )
    return content
