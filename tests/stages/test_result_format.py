"""results.json of an older format: its order keys are counted again when it is read, and nothing is measured again."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import edit_config, make_run

import minima_volume as mv
from minima_volume.errors import StaleError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.runs import states
from minima_volume.stages import masses
from minima_volume.stages import radii as radii_stage
from minima_volume.stages.results.older_formats import FORMAT, upgraded
from minima_volume.stages.run import Run

PREFIXES = {
    "loss": "log_exp_r_n_values",
    "accuracy": "log_exp_r_n_acc_values",
    "log_mass": "log_mass_values",
    "log_mass_acc": "log_mass_acc_values",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run with both kinds of volume, by loss and by accuracy, in every landscape."""
    gaussian = {"sigma": 0.1, "profile": [0.05], "num_repeats": 2, "num_particles": 50}
    options = {"volume.loss_thresholds": [1.5, 1.0], "volume.gaussian": gaussian | {"precision": 3.0}}
    folder = tmp_path_factory.mktemp("condition") / "model_0_data_10"
    return make_run(folder, options, ("train", "perturb", "volume"))


def files_of(run: Run) -> Iterator[Path]:
    return (run.results_file(q, t) for q in run.config.data.levels for t in run.config.volume.loss_thresholds)


def volumes_of(results: dict[str, Any], prefix: str) -> list[float | None]:
    values = results[PREFIXES[prefix]]
    return [row[results["sigmas"].index(results["sigma"])] for row in values] if "mass" in prefix else values


def counts(results: dict[str, Any], prefix: str, sign: int) -> tuple[int | None, int | None]:
    """Neighbours, and pairs, in which the test loss changes in one direction as the volume falls: -1 falls too, 1 rises."""
    known = [
        (v, t) for v, t in zip(volumes_of(results, prefix), results["test_loss_values"], strict=True) if v is not None
    ]
    losses = [loss for _, loss in sorted(known, reverse=True)]
    if len(known) < 2:
        return None, None
    pairs = [list(itertools.pairwise(losses)), list(itertools.combinations(losses, 2))]
    return tuple(sum(sign * (b - a) > 0 for a, b in some) for some in pairs)  # type: ignore[return-value]


def set_counts(results: dict[str, Any], sign: int) -> dict[str, Any]:
    found = {}
    for prefix in PREFIXES:
        if f"{prefix}_ordering_violations" in results:
            found[f"{prefix}_ordering_violations"], found[f"{prefix}_discordant_pairs"] = counts(results, prefix, sign)
    return results | found


def make_old(run: Run) -> dict[Path, dict[str, Any]]:
    """Turn a run's files into format 2, which had no number and counted agreement; what they were is returned."""
    before = {}
    for path in files_of(run):
        before[path] = read_json(path)
        old = set_counts({key: value for key, value in before[path].items() if key != "format"}, -1)
        write_json(path, old)
    return before


def test_order_keys_of_new_results(measured):
    """Against a plain count, all four kinds."""
    found = [read_json(path) for path in files_of(measured)]
    assert {results["format"] for results in found} == {FORMAT}
    assert all(results == set_counts(results, 1) for results in found)
    kinds = {prefix for results in found for prefix in PREFIXES if f"{prefix}_ordering_violations" in results}
    assert kinds == set(PREFIXES)


@pytest.mark.parametrize(
    ("volumes", "expected"), [([3.0, 2.0, 1.0], (0, 0)), ([1.0, 2.0, 3.0], (2, 3)), ([None, 2.0, None], (None, None))]
)
def test_counts_of_a_stored_order(volumes: list[float | None], expected: tuple[int | None, int | None]):
    """Three minima whose test loss falls: agreement is 0 of each, reversal all of each; log mass by the headline sigma."""
    keys = [f"{prefix}_{key}" for prefix in PREFIXES for key in ("ordering_violations", "discordant_pairs")]
    old = dict.fromkeys(keys, 77) | {"test_loss_values": [0.9, 0.5, 0.1], "sigmas": [0.05, 0.1], "sigma": 0.1}
    old |= {"log_exp_r_n_values": volumes, "log_exp_r_n_acc_values": volumes}
    old |= {f"log_mass{suffix}_values": [[0.0, volume] for volume in volumes] for suffix in ("", "_acc")}
    assert upgraded(old) == old | dict(zip(keys, expected * 4, strict=True)) | {"format": FORMAT}
    assert upgraded(old | {"format": FORMAT}) == old | {"format": FORMAT}


@pytest.fixture
def old(measured, tmp_path) -> tuple[Run, dict[Path, dict[str, Any]]]:
    folder = tmp_path / "condition" / measured.folder.name
    shutil.copytree(measured.folder, folder)
    run = edit_config(folder, {})
    return run, make_old(run)


def test_older_files_are_read_as_new_ones(old):
    """Through load_results, without a change to the file; reading twice changes nothing more."""
    _, before = old
    changed = 0
    for path, content in before.items():
        text = path.read_bytes()
        assert mv.load_results(path) == content and upgraded(content) == content
        assert path.read_bytes() == text
        stored = read_json(path)
        changed += stored | {"format": FORMAT} != content
    assert changed  # two or three minima have an odd number of pairs: half of them cannot agree


def test_older_files_are_current_and_written_anew_without_measuring(old, monkeypatch):
    """Stages complete; notebook 3 rewrites the files and takes no pass; then they are left alone."""
    run, before = old
    assert mv.stage_states(run.folder)["volume"].complete

    def measure(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(radii_stage, "_measure", measure)
    monkeypatch.setattr(masses, "_measure", measure)
    radii = {path: path.with_name("radii.npz").read_bytes() for path in before}
    states.run_stage(run, "volume", progress=False)
    assert {path: read_json(path) for path in before} == before
    assert {path: path.with_name("radii.npz").read_bytes() for path in before} == radii
    assert mv.stage_states(run.folder)["volume"].complete
    times = {path: path.stat().st_mtime_ns for path in before}
    states.run_stage(run, "volume", progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == times


def test_masses_alone_write_todays_format_too(old):
    """`measure_masses` reopens results.json: it must not bring the old counts back."""
    run, before = old
    mv.measure_masses(run, progress=False)
    path = run.results_file(0, 1.5)
    assert read_json(path) == before[path]


def test_analysis_of_older_files(old):
    """orders.csv is that of the new files."""
    run, before = old
    mv.analyze(run.folder.parent, formats=["png"])
    orders = pd.read_csv(run.folder.parent / "analysis" / "orders.csv").set_index("quantity")
    results = before[run.results_file(0, 1.5)]
    found = counts(results, "log_mass", 1)
    assert (orders.loc["log_mass", "violations"], orders.loc["log_mass", "discordant_pairs"]) == found


def test_a_later_format_is_not_read_as_todays(measured: Run, tmp_path: Path) -> None:
    """What its keys mean is not known here: format 3 turned two of them round."""
    content = read_json(next(files_of(measured)))
    path = tmp_path / "results.json"
    write_json(path, {**content, "format": FORMAT + 1})
    with pytest.raises(StaleError, match=rf"has format {FORMAT + 1}: a later version .* knows formats up to {FORMAT}"):
        mv.load_results(path)
    write_json(path, content)
    assert mv.load_results(path) == content
