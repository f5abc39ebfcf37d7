"""results.json: what one landscape says at one threshold, assembled from radii and measured Gaussian local volumes.

This is the only place that writes the file; `experiments/README.md` lists its keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from minima_volume.errors import DamagedFileError, StaleError
from minima_volume.files.atomic import finite_or_none, jsonable, read_json, read_npz, write_json, write_npz
from minima_volume.files.content import content_hash
from minima_volume.perturbation.names import still_note
from minima_volume.stages.freshness import results_mark
from minima_volume.stages.mass_cells import Cell, current_masses
from minima_volume.stages.provenance import provenance
from minima_volume.stages.results.mass_keys import mass_keys
from minima_volume.stages.results.older_formats import FORMAT, load_results, upgraded
from minima_volume.stages.results.radii_file import radii_arrays
from minima_volume.stages.results.schema import check
from minima_volume.stages.results.star_keys import star_keys, top_radii
from minima_volume.stages.run import Run
from minima_volume.stages.thresholds import threshold_keys
from minima_volume.stages.trained import Trained
from minima_volume.volume.gaussian.mass import GaussianMass
from minima_volume.volume.ordering import ranks
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.volume import StarVolume, star_volume

CELLS = "log_mass_fingerprint"  # the key of the hash of the cells


@dataclass(frozen=True)
class Minimum:
    """One minimum of a landscape, as measured at one threshold.

    Attributes:
        level: its value of the run's variation, usually the additional samples that it was trained on.
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

    @property
    def all_radii(self) -> list[Radii]:
        """At the loss threshold, then at the accuracy threshold if there is one."""
        return [self.radii] if self.accuracy_radii is None else [self.radii, self.accuracy_radii]

    def volume(self, radii: Radii) -> StarVolume:
        """What some of its radii say."""
        return replace(star_volume(radii, self.num_params, self.log_det), still=self.still)


def write_results(
    run: Run,
    trained: Trained,
    landscape: int,
    threshold: float,
    minima: Sequence[Minimum] | None,
    sigmas: Collection[float] = (),
) -> Path:
    """Write radii.npz, then results.json, which marks the pair as whole; a file that says the same already is left alone.

    Args:
        run: the run.
        trained: its models and samples.
        landscape: its level.
        threshold: the loss threshold.
        minima: as their radii were just measured; None: the radii on disk are current.
        sigmas: whose cells are wanted, beside those of config.yaml and those on disk.
    """
    path = run.results_file(landscape, threshold)
    if minima is None:
        stored = read_json(path)
        check(stored, path)
        content = upgraded(stored)
    else:
        stored = None
        arrays = radii_arrays([m.level for m in minima], [m.all_radii for m in minima])
        write_npz(run.radii_file(landscape, threshold), arrays)
        targets = trained.dataset.y_train[: trained.dataset.base_size + landscape]
        mark = _present_mark(run, trained, landscape, threshold)
        content = star_content(run, landscape, threshold, minima, targets) | {"fingerprint": mark}
    content |= mass_content(run, trained, landscape, threshold, content, sigmas)
    if jsonable(content) != stored:  # what has not changed keeps its time, so that figures are not drawn again
        write_json(path, content)
    return path


def is_current(run: Run, trained: Trained, landscape: int, threshold: float) -> bool:
    """Whether results.json and radii.npz are there, undamaged, and of the present weights, data and settings."""
    path = run.results_file(landscape, threshold)
    if not (path.is_file() and run.radii_file(landscape, threshold).is_file()):
        return False
    try:
        read_npz(run.radii_file(landscape, threshold))
        return has_present_mark(run, trained, landscape, threshold, load_results(path))
    except (DamagedFileError, StaleError):
        return False


def has_present_mark(run: Run, trained: Trained, landscape: int, threshold: float, stored: Mapping[str, Any]) -> bool:
    """Whether the content of a results.json is of the present weights, data and settings."""
    return stored.get("fingerprint") == _present_mark(run, trained, landscape, threshold)


def is_whole(run: Run, trained: Trained, landscape: int, threshold: float, stored: Mapping[str, Any]) -> bool:
    """Whether the content of a current results.json says what the cells beside it say."""
    known = current_masses(run, trained, landscape, threshold)
    if not known or stored.get(CELLS) == _cells_mark(known):
        return True
    if CELLS in stored:
        return False
    content = upgraded(stored)  # of a version that kept no hash of the cells
    made = mass_content(run, trained, landscape, threshold, content)
    return jsonable(content | {key: made[key] for key in made if key != CELLS}) == content


def _cells_mark(masses: Mapping[Cell, GaussianMass]) -> str:
    """A hash of measured cells, by which a results.json is known to say what they say."""
    return content_hash(jsonable({str(cell): asdict(mass) for cell, mass in masses.items()}))


def _present_mark(run: Run, trained: Trained, landscape: int, threshold: float) -> str:
    """The mark of the results.json that the run's present minima make."""
    level_of = run.config.level_of
    weights = {m: record["weights_hash"] for m, record in trained.records.items() if level_of(m) >= landscape}
    return results_mark(run.config, threshold, weights, trained.dataset.hash())


def star_content(
    run: Run, landscape: int, threshold: float, minima: Sequence[Minimum], targets: Tensor
) -> dict[str, Any]:
    """The keys that do not speak of Gaussian local volumes; per-minimum lists follow `model_data_levels`."""
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
        "test_accuracy_values": [finite_or_none(m.test_accuracy) for m in minima],
        "train_loss_values": [m.train_loss for m in minima],
        "start_loss_values": [finite_or_none(m.start_loss) for m in minima],
        "test_loss_ranks": ranks(test_losses),
        "data_level_ranks": ranks([float(level) for level in levels]),
    }
    content |= threshold_keys(run, threshold, targets, levels, content["start_loss_values"])
    for kind, radii in zip(("loss", "accuracy"), zip(*(m.all_radii for m in minima), strict=True), strict=False):
        volumes = [m.volume(one) for m, one in zip(minima, radii, strict=True)]
        content |= star_keys(kind, native, levels, volumes, test_losses, config.variation)
        if kind == "loss":
            content |= top_radii(radii, config.volume.top_k)
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


def mass_content(
    run: Run,
    trained: Trained,
    landscape: int,
    threshold: float,
    content: Mapping[str, Any],
    sigmas: Collection[float] = (),
) -> dict[str, Any]:
    """The keys that speak of Gaussian local volumes, from all current cells; nothing if there are none."""
    known = current_masses(run, trained, landscape, threshold, sigmas)
    present = sorted({cell.sigma for cell in known})
    keys: dict[str, Any] = {CELLS: _cells_mark(known)} if known else {}
    for kind in ("loss", "accuracy"):
        masses = {(cell.minimum, cell.sigma): mass for cell, mass in known.items() if cell.condition.kind == kind}
        if masses:
            keys |= mass_keys(run, kind, content, present, masses)
    return keys
