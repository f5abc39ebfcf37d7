"""views.json: other views of all minima of one landscape of a run, and the table that sets them beside the volumes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from minima_volume.curvature.hessian import TILE_BYTES, MeanLoss
from minima_volume.curvature.spectrum import lanczos_bytes
from minima_volume.curvature.views import OtherViews, ViewSettings, other_views, settings_record, sigma_at_threshold
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.execution.device import threads, usable_device
from minima_volume.files.atomic import finite_or_none, read_json, write_json
from minima_volume.files.lock import under_lock
from minima_volume.isolation import own_defaults
from minima_volume.numerals import duration
from minima_volume.perturbation.directions import Directions
from minima_volume.seeding import normals
from minima_volume.stages.freshness import views_settings
from minima_volume.stages.measured import on
from minima_volume.stages.provenance import provenance
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import Run, minimum_name, read_run
from minima_volume.stages.trained import Trained, load_models_and_data

if TYPE_CHECKING:
    import pandas as pd

LANCZOS_PRODUCTS = 100  # what five eigenvalues and the curvatures along the chains take, for the estimate of the time


@under_lock
@own_defaults()
def views_table(
    run: Run | str | Path,
    landscape: int | None = None,
    *,
    threshold: float | None = None,
    settings: ViewSettings | None = None,
    trained: Trained | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Other views of every minimum of a landscape, beside its volumes; writes data_<landscape>/views.json.

    A minimum that is there already, measured on the same weights, samples and settings, is kept; each new one is written at once.

    Args:
        run: the run, or its folder.
        landscape: level of the landscape; the smallest by default.
        threshold: the loss threshold whose results.json is set beside; the headline by default.
        settings: by default `ViewSettings` in the run's own scaling and parameters.
        trained: the run's models and samples; loaded when None.
        progress: show a progress bar.

    Returns:
        One row a minimum, ascending: `level` (in a series `epoch` or `batch_size`), `start_loss`, `trace`, `trace_standard_error`, `top_eigenvalue`,
        `sam_sharpness`, `asam_sharpness`, `learning_coefficient`, `learning_coefficient_low`, `_high` and `_verdict`,
        `sigma_at_threshold`, then from results.json `log_exp_r_n` and, where it is there, `log_mass` (one column a sigma), and
        `left_out`, what does not move, in words. What is undefined is NaN.

    Raises:
        MissingStageError: the run has no models.
        ConfigError: no such landscape or threshold, or a setting is not allowed.
    """
    import pandas as pd

    run = run if isinstance(run, Run) else read_run(run)
    trained = load_models_and_data(run) if trained is None else trained
    landscape, threshold = _chosen(run, landscape, threshold)
    settings = replace(default_settings(run) if settings is None else settings, density_vectors=0)
    records = _measure(run, trained, landscape, settings, progress)
    volumes = _volumes(run, trained, landscape, threshold)
    rows = []
    for level, record in records.items():
        low, high = record["learning_coefficient_interval"] or (None, None)
        rows.append(
            {
                run.config.variation: level,
                "start_loss": record["start_loss"],
                "trace": record["trace"],
                "trace_standard_error": record["trace_standard_error"],
                "top_eigenvalue": record["top_eigenvalues"][0] if record["top_eigenvalues"] else None,
                "sam_sharpness": record["sam_sharpness"],
                "asam_sharpness": record["asam_sharpness"],
                "learning_coefficient": record["learning_coefficient"],
                "learning_coefficient_low": low,
                "learning_coefficient_high": high,
                "learning_coefficient_verdict": record["learning_coefficient_verdict"],
                "sigma_at_threshold": sigma_at_threshold(record["start_loss"], record["trace"], threshold),
            }
            | volumes.get(level, {})
            | {"left_out": _directions(trained, level, settings).note}
        )
    table = pd.DataFrame(rows)
    words = (run.config.variation, "learning_coefficient_verdict", "left_out")
    return table.astype({name: float for name in table.columns if name not in words})


@own_defaults()
def estimate_views(
    run: Run, landscape: int | None = None, *, settings: ViewSettings | None = None, trained: Trained | None = None
) -> str:
    """Time a gradient and a Hessian-vector product of each model that is to be measured, and say what all will take."""
    trained = load_models_and_data(run) if trained is None else trained
    landscape, _ = _chosen(run, landscape, None)
    settings = default_settings(run) if settings is None else settings
    missing = [level for level in _levels(run, landscape) if level not in _stored(run, trained, landscape, settings)]
    gradients = settings.num_chains * (settings.num_burn_in + settings.num_draws) + 2 * settings.num_burn_in
    seconds = 0.0
    with threads(run.config.experiment.threads):
        x, y = _samples(run, trained, landscape)
        for level in missing:
            step, product = _timed(MeanLoss.of(on(x.device, trained.models[level]), x, y, run.loss))
            seconds += gradients * step + (settings.num_products + LANCZOS_PRODUCTS) * product
    return f"{len(missing)} minima to measure in landscape +{landscape}: about {duration(seconds)}"


def default_settings(run: Run) -> ViewSettings:
    """The run's own scaling and parameters, so that the views belong to the volumes."""
    scaling, names = run.config.perturbation.scaling, run.config.perturbation.names
    return ViewSettings(scaling=scaling, names=names, density_vectors=0)


def describe_views(table: pd.DataFrame, settings: ViewSettings) -> str:
    """The table and the verdicts as text, for a terminal."""
    verdicts = table["learning_coefficient_verdict"]
    plain = table.drop(columns=["learning_coefficient_verdict", "left_out"]).rename(
        columns=lambda name: name.replace("learning_coefficient", "lambda").replace("standard_error", "se")
    )
    variation = str(table.columns[0])
    notes = [
        f"{minimum_name(minimum, variation)}: learning coefficient: {verdict}"
        for minimum, verdict in zip(table[variation], verdicts, strict=True)
        if verdict
    ]
    notes = [*table["left_out"].dropna().unique(), *notes]
    head = (
        f"trace, eigenvalues and learning coefficient (lambda) in coordinates with scaling {settings.scaling}; "
        f"SAM within rho {settings.sam_rho:g}, ASAM within {settings.asam_rho:g}"
    )
    return "\n".join([head, plain.to_string(index=False, na_rep="-", float_format="{:.4g}".format), *notes])


def _chosen(run: Run, landscape: int | None, threshold: float | None) -> tuple[int, float]:
    levels, thresholds = run.config.data.levels, run.config.volume.loss_thresholds
    landscape = levels[0] if landscape is None else landscape
    threshold = run.config.volume.headline if threshold is None else threshold
    if landscape not in levels:
        raise ConfigError(f"landscape {landscape} is not among data.levels {levels}")
    if threshold not in thresholds:
        raise ConfigError(f"threshold {threshold:g} is not among volume.loss_thresholds {thresholds}")
    return landscape, threshold


def _levels(run: Run, landscape: int) -> list[int]:
    """The minima that are measured in a landscape."""
    return [pair.minimum for pair in run.pairs() if pair.landscape == landscape]


def _samples(run: Run, trained: Trained, landscape: int) -> tuple[torch.Tensor, torch.Tensor]:
    size, device = trained.dataset.base_size + landscape, usable_device(run.config)
    return trained.dataset.x_train[:size].to(device), trained.dataset.y_train[:size].to(device)


def _measure(
    run: Run, trained: Trained, landscape: int, settings: ViewSettings, progress: bool
) -> dict[int, dict[str, Any]]:
    """level -> record, measuring and writing those that are missing."""
    stored = _stored(run, trained, landscape, settings)
    levels = _levels(run, landscape)
    missing = [level for level in levels if level not in stored]
    x, y = _samples(run, trained, landscape)
    with (
        threads(run.config.experiment.threads),
        tqdm(total=len(missing) * settings.num_parts, unit="part", disable=not progress) as bar,
    ):
        for level in missing:
            bar.set_description(f"views of {minimum_name(level, run.config.variation)}")
            model = on(x.device, trained.models[level])
            _check_memory(run, trained, level, settings)
            views = other_views(model, x, y, run.loss, settings=settings, on_part=bar.update)
            own = {"level": level, "weights_hash": trained.records[level]["weights_hash"]}
            stored[level] = own | views_record(views)
            _write(run, trained, landscape, settings, {level: stored[level] for level in levels if level in stored})
    return {level: stored[level] for level in levels}


def _check_memory(run: Run, trained: Trained, level: int, settings: ViewSettings) -> None:
    """Refuse a Hessian whose eigenvectors do not fit beside one tile of samples."""
    n = sum(tensor.numel() for tensor in _directions(trained, level, settings).minimum)
    needed, room = lanczos_bytes(n, settings.num_eigenvalues) + TILE_BYTES, run.config.execution.memory_gib * 2**30
    if needed > max(room, 2 * TILE_BYTES):
        raise ConfigError(
            f"{settings.num_eigenvalues} eigenvalues of a Hessian of {n:,} entries take about {needed / 2**30:.2f} GiB, more than "
            f"execution.memory_gib {room / 2**30:g}; raise it, or set fewer names of parameters"
        )


def _timed(mean_loss: MeanLoss) -> tuple[float, float]:
    """Seconds for a step of a chain, and for a Hessian-vector product."""
    noise, zeros = torch.Generator("cpu").manual_seed(0), mean_loss.zeros()

    def step() -> None:
        mean_loss.gradient(normals(noise, len(zeros)).to(zeros))

    def product() -> None:
        with contextlib.suppress(ConfigError):  # no second derivative: the views say so
            mean_loss.hessian_product(zeros)

    seconds = []
    for work in (step, product):
        work()
        start = time.perf_counter()
        for _ in range(3):
            work()
        seconds.append((time.perf_counter() - start) / 3)
    return seconds[0], seconds[1]


def views_record(views: OtherViews) -> dict[str, Any]:
    """One minimum as views.json has it, its arrays without the chains' traces."""
    spectrum, trace, found = views.spectrum, views.trace, views.learning_coefficient
    record: dict[str, Any] = {
        "start_loss": views.start_loss,
        "num_params": views.num_params,
        "left_out_params": views.left_out,
        "trace": None if trace is None else trace.value,
        "trace_standard_error": None if trace is None else trace.standard_error,
        "trace_method": None if trace is None else trace.method,
        "top_eigenvalues": None if spectrum is None else spectrum.eigenvalues.tolist(),
        "top_eigenvalue_residuals": None if spectrum is None else spectrum.residuals.tolist(),
    }
    for name, sharpness in (("sam", views.sam), ("asam", views.asam)):
        record[f"{name}_sharpness"] = None if sharpness is None else sharpness.value
        record[f"{name}_one_step"] = None if sharpness is None else sharpness.one_step
        record[f"{name}_first_order"] = None if sharpness is None else sharpness.first_order
    record |= {
        "learning_coefficient": None if found is None else found.value,
        "learning_coefficient_interval": None if found is None else found.interval,
        "learning_coefficient_chains": None if found is None else found.chain_values.tolist(),
        "learning_coefficient_verdict": None if found is None else found.verdict,
        "r_hat": None if found is None else found.r_hat,
        "effective_sample_size": None if found is None else found.effective_sample_size,
        "step_size": None if found is None else found.step_size,
        "discretisation": None if found is None else found.discretisation,
        "notes": views.notes | _own_notes(views),
    }
    return {key: finite_or_none(value) for key, value in record.items()}


def _own_notes(views: OtherViews) -> dict[str, str]:
    measured = {"spectrum": views.spectrum, "sam": views.sam, "asam": views.asam}
    return {name: view.note for name, view in measured.items() if view is not None and view.note}


def _write(
    run: Run, trained: Trained, landscape: int, settings: ViewSettings, records: dict[int, dict[str, Any]]
) -> Path:
    content = {
        "loss_landscape_data_param": landscape,
        "variation": run.config.variation,
        "model_data_levels": list(records),
        "minima": list(records.values()),
        **views_settings(run.config, settings_record(settings)),
        "data_hash": trained.dataset.hash(landscape),
        "provenance": provenance(run.config),
    }
    return write_json(run.views_file(landscape), content)


def _stored(run: Run, trained: Trained, landscape: int, settings: ViewSettings) -> dict[int, dict[str, Any]]:
    """The records of views.json that are of the present weights, samples and settings."""
    try:
        content = read_json(run.views_file(landscape))
    except (MissingStageError, DamagedFileError):
        return {}
    wanted = views_settings(run.config, settings_record(settings))
    if any(content.get(key) != value for key, value in wanted.items()):
        return {}
    known = {trained.dataset.hash(landscape), *(record["data_hash"] for record in trained.records.values())}
    if content.get("data_hash") not in known:  # earlier versions wrote the hash of the largest level
        return {}
    return {
        record["level"]: record
        for record in content["minima"]
        if record["level"] in trained.records
        and record["weights_hash"] == trained.records[record["level"]]["weights_hash"]
        and record["num_params"] == _directions(trained, record["level"], settings).num_params
    }


def _directions(trained: Trained, level: int, settings: ViewSettings) -> Directions:
    return Directions.of(trained.models[level], settings.scaling, settings.names)


def _volumes(run: Run, trained: Trained, landscape: int, threshold: float) -> dict[int, dict[str, Any]]:
    """level -> what results.json says of it, where that is of the present weights."""
    try:
        content = load_results(run.results_file(landscape, threshold))
    except MissingStageError:
        return {level: {"log_exp_r_n": None} for level in _levels(run, landscape)}
    masses: Sequence[Any] | None = content.get("log_mass_values")
    found = {}
    for i, level in enumerate(content["model_data_levels"]):
        same = level in trained.records and content["weights_hashes"][i] == trained.records[level]["weights_hash"]
        row = {"log_exp_r_n": content["log_exp_r_n_values"][i] if same else None}
        if masses is not None:
            cells = zip(content["sigmas"], masses[i], strict=True)
            row |= {f"log_mass({sigma:g})": mass if same else None for sigma, mass in cells}
        found[level] = row
    return found
