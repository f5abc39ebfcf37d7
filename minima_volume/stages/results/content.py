"""results.json: what one landscape says at one threshold, with the keys that `experiments/README.md` lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json, write_json, write_npz
from minima_volume.files.content import interpreted
from minima_volume.perturbation.names import still_note
from minima_volume.stages.provenance import provenance
from minima_volume.stages.results.format import FORMAT, upgraded
from minima_volume.stages.results.star_keys import (
    comparison_keys,
    growth_keys,
    none_if_nan,
    order_keys,
    top_radii,
    volume_keys,
)
from minima_volume.stages.run import Run
from minima_volume.stages.thresholds import threshold_keys
from minima_volume.volume.ordering import ranks
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.volume import StarVolume, star_volume

REQUIRED = ("model_data_levels", "log_exp_r_n_values", "log_exp_r_n_intervals", "settings", "weights_hashes")
PER_MINIMUM = ("log_exp_r_n_values", "log_exp_r_n_intervals", "weights_hashes")


@dataclass(frozen=True)
class Minimum:
    """One minimum of a landscape, as measured at one threshold.

    Attributes:
        level: its value of the run's variation: as a rule the additional samples it was trained with.
        radii, accuracy_radii: at the loss threshold, and at the accuracy threshold paired with it.
        num_params, num_zero_params: n, and the entries left out because their scaling is 0.
        log_det: sum_j log F_j.
        test_loss, test_accuracy, train_loss: of the trained model; train_loss on its own training samples.
        start_loss: its loss in this landscape.
        left_out, num_left_out: parameters that were not perturbed, and their entries.
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
    num_left_out: int = 0

    @property
    def still(self) -> str | None:
        """Which entries directions do not move, in words."""
        return still_note(self.left_out, self.num_left_out, self.num_params, self.num_zero_params)

    def volume(self, radii: Radii) -> StarVolume:
        """What some of its radii say."""
        return replace(star_volume(radii, self.num_params, self.log_det), still=self.still)


def write_results(
    run: Run, landscape: int, threshold: float, minima: Sequence[Minimum], targets: Tensor, fingerprint: str
) -> Path:
    """Write radii.npz, then results.json, which marks the pair as whole; targets are those of the landscape."""
    write_npz(run.radii_file(landscape, threshold), radii_arrays(minima))
    content = results_content(run, landscape, threshold, minima, targets) | {"fingerprint": fingerprint}
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


def results_content(
    run: Run, landscape: int, threshold: float, minima: Sequence[Minimum], targets: Tensor
) -> dict[str, Any]:
    """All keys of results.json; per-minimum lists follow `model_data_levels`."""
    config = run.config
    levels = [m.level for m in minima]
    native = landscape if config.variation == "level" else None
    test_losses = [m.test_loss for m in minima]
    content: dict[str, Any] = {
        "format": FORMAT,
        "model_data_levels": levels,
        "variation": config.variation,
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
        "num_left_out_params": minima[0].num_left_out,
        "test_loss_values": test_losses,
        "test_accuracy_values": [none_if_nan(m.test_accuracy) for m in minima],
        "train_loss_values": [m.train_loss for m in minima],
        "start_loss_values": [none_if_nan(m.start_loss) for m in minima],
        "test_loss_ranks": ranks(test_losses),
        "data_level_ranks": ranks([float(level) for level in levels]),
    }
    content |= threshold_keys(run, threshold, targets, levels, content["start_loss_values"])
    volumes = [m.volume(m.radii) for m in minima]
    content |= star_keys("loss", native, levels, volumes, test_losses, config.variation)
    content |= top_radii([m.radii for m in minima], config.volume.top_k)
    if minima[0].accuracy_radii is not None:
        by_accuracy = [m.volume(m.accuracy_radii) for m in minima if m.accuracy_radii is not None]
        content |= star_keys("accuracy", native, levels, by_accuracy, test_losses, config.variation)
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


def star_keys(
    kind: str,
    native: int | None,
    levels: Sequence[int],
    volumes: Sequence[StarVolume],
    test_losses: Sequence[float],
    variation: str = "level",
) -> dict[str, Any]:
    """Everything about the star regions at one threshold of a kind, "loss" or "accuracy": numbers, trust, comparisons, order."""
    suffix = "" if kind == "loss" else "_acc"
    return (
        volume_keys(suffix, volumes)
        | growth_keys(suffix, volumes)
        | comparison_keys(suffix, native, levels, volumes, variation)
        | order_keys(kind, native, levels, [v.log_exp_r_n for v in volumes], test_losses)
    )


def load_results(path: str | Path) -> dict[str, Any]:
    """Read one results.json; one of an older format reads as today's does, see `result_format.upgraded`.

    Raises:
        MissingStageError: notebook 3 has not been run.
        DamagedFileError: it is not strict JSON.
        StaleError: it lacks keys, as one of an earlier version does.
    """
    content = read_json(Path(path))
    if missing := [key for key in REQUIRED if key not in content]:
        raise StaleError(
            f"{path} lacks {', '.join(missing)}: it is of an earlier version, or not a results.json; run "
            "'Volume Estimation Pipeline.ipynb' (`minima-volume run --stage volume`), which makes it again"
        )
    with interpreted(Path(path)):
        count = len(content["model_data_levels"])
        for key in PER_MINIMUM:
            if len(content[key]) != count:
                raise ValueError(f"{key} has {len(content[key])} entries for {count} minima")
        return upgraded(content)
