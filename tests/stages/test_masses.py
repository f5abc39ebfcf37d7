"""Gaussian local volumes of run folders: cell by cell, resumed, kept, and written into results.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import agree, edit_config, make_run, numbers, tree

import minima_volume as mv
from minima_volume.errors import ConfigError, MissingStageError
from minima_volume.files.atomic import read_json
from minima_volume.perturbation.particles import Particles
from minima_volume.runs.states import run_stage
from minima_volume.stages import masses
from minima_volume.stages.mass_cells import Cell, mass_settings, read_mass
from minima_volume.stages.measured import make_engine
from minima_volume.stages.run import Run, read_run
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.mass import plain_estimate
from minima_volume.volume.gaussian.plan import gaussian_mass

SIGMA = 0.2  # +40 is then rare enough for splitting
GAUSSIAN: dict[str, Any] = {"sigma": SIGMA, "num_particles": 30, "num_repeats": 4, "num_moves": 3, "precision": 5.0}
LOSS_KEYS = {
    f"log_mass_{name}" for name in ("values", "intervals", "standard_errors", "methods", "verdicts", "notes")
} | {
    *("log_mass_num_stages", "log_mass_num_forward", "log_mass_ranks", "log_mass_comparisons", "log_mass_settings"),
    *("log_mass_scaling", "log_mass_predicts_minimas", "log_mass_ordering_violations", "sigma", "sigmas"),
}


def with_masses(run: Run, **gaussian: Any) -> Run:
    """The run with Gaussian local volumes in its config."""
    return edit_config(run.folder, {"volume.gaussian": GAUSSIAN | gaussian})


@pytest.fixture
def run(copied: Run) -> Run:
    return with_masses(copied)


@pytest.fixture(scope="module")
def measured(digits_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with its Gaussian local volumes; never written to."""
    import shutil

    folder = tmp_path_factory.mktemp("masses") / digits_run.folder.name
    shutil.copytree(digits_run.folder, folder)
    found = with_masses(read_run(folder))
    run_stage(found, "volume", progress=False)
    return found


def results(run: Run, landscape: int = 0, threshold: float = 0.5) -> dict[str, Any]:
    return read_json(run.results_file(landscape, threshold))


def cell_files(run: Run) -> dict[str, bytes]:
    return {name: content for name, content in tree(run.folder).items() if "/log_mass/" in name}


def test_the_stage_measures_the_smallest_landscape_at_the_headline(measured: Run) -> None:
    """One cell for each minimum and condition, the keys in results.json, two figures; the other landscapes have none."""
    names = [f"data_{level}_sigma_0.2{suffix}.json" for level in (0, 20, 40) for suffix in ("", "_acc")]
    assert sorted(cell_files(measured)) == sorted(f"data_0/loss_0.5/log_mass/{name}" for name in names)
    content = results(measured)
    assert set(content) >= LOSS_KEYS | {f"log_mass_acc_{key}" for key in ("values", "intervals", "verdicts", "ranks")}
    assert content["sigmas"] == [SIGMA] and content["sigma"] == SIGMA and content["log_mass_scaling"] == "filter"
    for key in (
        key for key in content if key.startswith("log_mass") and key.endswith(("values", "intervals", "methods"))
    ):
        assert len(content[key]) == 3 and all(len(row) == 1 for row in content[key]), key
    assert not [key for key in results(measured, 20) if key.startswith("log_mass")]
    figures = {path.name for path in measured.threshold(0, 0.5).glob("*.png")}
    assert "log_mass.png" in figures and "volume_profiles.png" not in figures
    assert mv.stage_states(measured.folder)["volume"].complete


def test_values_are_those_of_the_estimator(measured: Run) -> None:
    """Each number is `gaussian_mass` of the saved model and samples; the share of inside models, counted by hand, may be its mass."""
    trained = mv.load_models_and_data(measured)
    content = results(measured)
    for i, level in enumerate((0, 20, 40)):
        engine = make_engine(measured, trained, level)
        for kind, threshold, suffix in (("loss", 0.5, ""), ("accuracy", 0.8, "_acc")):
            target = Target(Particles(engine, SIGMA, [20]), Condition(kind, threshold))
            expected = gaussian_mass(target, engine.directions.seed_of(1), mass_settings(measured))
            values = target.particles.evaluate(target.empty(40_000).normal_(generator=target.generator(99)))
            inside = values.loss[0] <= 0.5 if kind == "loss" else values.accuracy[0] >= 0.8 - 1e-9
            agree(expected, plain_estimate(int(inside.sum()), len(inside)))
            assert content[f"log_mass{suffix}_values"][i] == [expected.estimate]
            assert content[f"log_mass{suffix}_intervals"][i] == [list(expected.interval)]
            assert content[f"log_mass{suffix}_verdicts"][i] == [expected.verdict]


def test_ranks_comparisons_and_verdicts(measured: Run) -> None:
    """Largest first; each pair's difference is that of the values, and the words follow from it."""
    content = results(measured)
    values = [row[0] for row in content["log_mass_values"]]  # null where repeats disagree
    order = sorted((value for value in values if value is not None), reverse=True)
    assert content["log_mass_ranks"] == [None if value is None else float(order.index(value) + 1) for value in values]
    pairs = [pair["levels"] for pair in content["log_mass_comparisons"]]
    assert pairs == [[0, 20], [20, 40], [0, 40]] or sorted(pairs) == [[0, 20], [0, 40], [20, 40]]
    for pair in content["log_mass_comparisons"]:
        i, j = ([0, 20, 40].index(level) for level in pair["levels"])
        if values[i] is None or values[j] is None:
            assert pair["difference"] is None and "cannot be compared" in pair["verdict"]
            continue
        assert pair["difference"] == pytest.approx(values[i] - values[j])
        low, high = pair["interval"]
        assert low < pair["difference"] < high
        assert ("is larger than" in pair["verdict"]) == (pair["p_adjusted"] <= 0.05) == pair["told_apart"]


def test_nothing_is_measured_or_written_twice(measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call leaves every file as it is, its time too."""
    before = {path: path.stat().st_mtime_ns for path in measured.folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(masses, "do_job", None)
    assert run_stage(measured, "volume", progress=False) == []
    assert {path: path.stat().st_mtime_ns for path in measured.folder.rglob("*") if path.is_file()} == before


def test_strict_json_and_round_trip(measured: Run) -> None:
    """No NaN; what is read back equals what was measured, repeats and stages too."""
    trained = mv.load_models_and_data(measured)
    for content in (*cell_files(measured).values(), measured.results_file(0, 0.5).read_bytes()):
        json.loads(content, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    cell = Cell(0, 40, 20, 0.5, Condition("loss", 0.5), SIGMA)
    mass = read_mass(cell.path(measured), cell.mark(measured, trained))
    engine = make_engine(measured, trained, 40)
    target = Target(Particles(engine, SIGMA, [20]), cell.condition)
    assert mass == gaussian_mass(target, engine.directions.seed_of(1), mass_settings(measured))


def test_a_killed_run_resumes_at_the_cell(run: Run, measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the third cell is written: two are kept and not measured again, and the numbers end up the same."""
    real, count = masses.write_mass, []

    def killed(*args: Any) -> Path:
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(masses, "write_mass", killed)
    with pytest.raises(KeyboardInterrupt):
        mv.measure_masses(run, progress=False)
    kept = cell_files(run)
    assert len(kept) == 2 and "log_mass_values" not in results(run)
    state = mv.stage_states(run.folder)["volume"]
    assert (state.name, state.reason) == ("partial", "4 Gaussian local volumes to measure")
    assert "4 to measure" in mv.estimate_masses(run)
    monkeypatch.setattr(masses, "write_mass", real)
    mv.measure_masses(run, progress=False)
    assert cell_files(run) == cell_files(measured)
    assert numbers(run.results_file(0, 0.5)) | {"settings": 0} == numbers(measured.results_file(0, 0.5)) | {
        "settings": 0
    }
    assert mv.stage_states(run.folder)["volume"].reason == "figures of 1 of 6 results.json to draw"
    run_stage(run, "volume", progress=False)
    assert (
        mv.stage_states(run.folder)["volume"].complete and run.results_file(0, 0.5).with_name("log_mass.png").is_file()
    )


def test_worker_processes_give_the_same_numbers(run: Run, measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, each repeat a task of its own: bit for bit."""
    monkeypatch.setattr(masses, "usable_workers", lambda config, seconds: 2)
    mv.measure_masses(run, progress=False)
    assert cell_files(run) == cell_files(measured)


def test_a_killed_run_that_measured_all_still_writes_the_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All cells are there but results.json has none of them, or has those of other settings: the stage is not complete."""
    mv.measure_masses(run, progress=False)
    old = results(run)
    changed = with_masses(run, num_particles=40)
    monkeypatch.setattr(masses, "write_results", lambda *args: None)
    mv.measure_masses(changed, progress=False)
    monkeypatch.undo()
    assert results(changed) == old
    state = mv.stage_states(changed.folder)["volume"]
    assert (
        state.name == "partial" and "1 of 6 results.json lack Gaussian local volumes that are measured" in state.reason
    )
    monkeypatch.setattr(masses, "do_job", None)
    mv.measure_masses(changed, progress=False)
    assert results(changed)["log_mass_values"] != old["log_mass_values"]
    mv.plots.save_volume_figures(changed, [changed.results_file(0, 0.5)])
    assert mv.stage_states(changed.folder)["volume"].complete


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        ({"volume.gaussian": GAUSSIAN | {"num_moves": 4}}, 6),
        ({"volume.gaussian": GAUSSIAN | {"sigma": 0.25}}, 6),
        ({"volume.gaussian": GAUSSIAN | {"profile": [0.1]}}, 6),
        ({"volume.gaussian": GAUSSIAN | {"landscapes": [0, 20]}}, 4),
        ({"volume.accuracy_thresholds": [0.7, 0.9]}, 3),
        ({"volume.headline_threshold": 0.2}, 6),
        ({"volume.gaussian": GAUSSIAN, "perturbation.memory_gib": 1.0}, 0),
        ({"volume.gaussian": GAUSSIAN, "volume.top_k": 3}, 0),
        ({"volume.gaussian": GAUSSIAN | {"estimator": "auto"}}, 0),
        ({"volume.gaussian": GAUSSIAN | {"estimator": "monte_carlo"}}, 6),
    ],
)
def test_cells_are_stale_exactly_when_what_decides_them_changes(
    measured: Run, copied: Run, change: dict[str, Any], cells: int
) -> None:
    """How many of the run's cells have to be measured again."""
    for name, content in tree(measured.folder).items():
        (copied.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (copied.folder / name).write_bytes(content)
    changed = edit_config(copied.folder, change)
    text = mv.estimate_masses(changed)
    if cells:
        assert text.startswith(f"Gaussian local volumes: {cells} to measure, about ")
    else:
        assert text == "Gaussian local volumes: 6 of 6 are there"


def test_the_estimator_is_the_one_of_config_yaml(run: Run) -> None:
    """Splitting, also where plain samples would do."""
    mv.measure_masses(run, progress=False)
    before = cell_files(run)
    changed = edit_config(run.folder, {"volume.gaussian": GAUSSIAN | {"estimator": "splitting", "num_repeats": 2}})
    mv.measure_masses(changed, progress=False)
    found = results(changed)
    assert {method for row in found["log_mass_methods"] for method in row} == {"splitting"}
    assert found["log_mass_settings"]["method"] == "splitting" and cell_files(changed) != before


def test_cells_of_other_weights_are_stale(measured: Run, tmp_path: Path) -> None:
    """The same files beside models that were trained longer."""
    other = make_run(tmp_path / "model_0_data_10", {"training.epochs": 31}, ("train", "perturb", "volume"))
    for name, content in cell_files(measured).items():
        (other.folder / name).parent.mkdir(exist_ok=True)
        (other.folder / name).write_bytes(content)
    other = with_masses(other)
    assert "6 to measure" in mv.estimate_masses(other)
    mv.measure_masses(other, progress=False)
    assert results(other)["log_mass_values"] != results(measured)["log_mass_values"]


def test_a_damaged_cell_is_measured_again(run: Run, measured: Run) -> None:
    """Cut off, no JSON, another file's content."""
    mv.measure_masses(run, progress=False)
    folder = run.threshold(0, 0.5) / "log_mass"
    (folder / "data_0_sigma_0.2.json").write_text('{"log_mass": ')
    (folder / "data_20_sigma_0.2.json").write_text("[1]")
    content = read_json(folder / "data_40_sigma_0.2.json")
    del content["repeats"]
    (folder / "data_40_sigma_0.2.json").write_text(json.dumps(content))
    assert "3 to measure" in mv.estimate_masses(run)
    mv.measure_masses(run, progress=False)
    assert cell_files(run) == cell_files(measured)


def test_profile_other_landscapes_and_thresholds_on_request(run: Run) -> None:
    """They come beside what config.yaml asks for, in the results.json of their landscape and threshold."""
    mv.measure_masses(run, progress=False)
    files = mv.measure_masses(run, landscapes=[20], thresholds=[0.2], sigmas=[0.1, 0.05], progress=False)
    assert files == [run.results_file(20, 0.2)]
    content = results(run, 20, 0.2)
    assert content["sigmas"] == [0.05, 0.1] and content["sigma"] == 0.05  # the headline is not among them
    assert np.shape(content["log_mass_values"]) == (2, 2) and np.shape(content["log_mass_acc_intervals"]) == (2, 2, 2)
    assert results(run)["sigmas"] == [SIGMA]
    mv.measure_masses(run, sigmas=np.array([0.1]), progress=False)
    content = results(run)
    assert content["sigmas"] == [0.1, SIGMA] and content["sigma"] == SIGMA
    assert all(row[0] > row[1] for row in content["log_mass_values"] if None not in row)
    assert content["log_mass_ranks"] == results(run)["log_mass_ranks"]
    run_stage(run, "volume", progress=False)
    assert run.threshold(0, 0.5).joinpath("volume_profiles.png").is_file()
    assert results(run) == content


def test_a_remade_results_file_gets_its_masses_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of directions: what was measured on request comes back too, in every landscape, without work."""
    mv.measure_masses(run, progress=False)
    mv.measure_masses(run, landscapes=[20], sigmas=[0.1], progress=False)
    mv.measure_masses(run, sigmas=[0.1], progress=False)
    before = {landscape: results(run, landscape) for landscape in (0, 20)}
    fewer = edit_config(run.folder, {"perturbation.num_directions": 8})
    monkeypatch.setattr(masses, "do_job", None)
    mv.estimate_volumes(fewer, progress=False)
    run_stage(fewer, "volume", progress=False)
    for landscape, old in before.items():
        new = results(fewer, landscape)
        assert {k: v for k, v in new.items() if k.startswith(("log_mass", "sigma"))} == {
            k: v for k, v in old.items() if k.startswith(("log_mass", "sigma"))
        }
    assert mv.stage_states(fewer.folder)["volume"].complete


def test_sigmas_of_the_two_conditions_agree(run: Run) -> None:
    """A sigma whose accuracy cell is gone: both tables have the same columns, with null where nothing is known."""
    mv.measure_masses(run, sigmas=[0.1], progress=False)
    for level in (0, 20, 40):
        (run.threshold(0, 0.5) / "log_mass" / f"data_{level}_sigma_0.1_acc.json").unlink()
    mv.measure_masses(run, progress=False)
    content = results(run)
    assert content["sigmas"] == [0.1, SIGMA]
    assert [row[0] for row in content["log_mass_acc_values"]] == [None] * 3
    assert all(row[0] is not None for row in content["log_mass_values"])
    assert content["log_mass_acc_intervals"][0][0] is None and content["log_mass_acc_verdicts"][0][0] is None


def test_minima_outside_and_far_ones(copied: Run) -> None:
    """A threshold below the start loss is null with its reason; a sigma that keeps nothing is a limit; both are compared in words."""
    starts = sorted(results(copied)["start_loss_values"])
    threshold = float(f"{(starts[-2] + starts[-1]) / 2:.6g}")
    run = edit_config(
        copied.folder,
        {"volume.loss_thresholds": [threshold, 0.5], "volume.accuracy_thresholds": None, "volume.gaussian": GAUSSIAN},
    )
    mv.estimate_volumes(run, progress=False)
    mv.measure_masses(run, progress=False)
    mv.measure_masses(run, thresholds=[0.5], sigmas=[1e30], progress=False)
    content = results(run, 0, threshold)
    notes = [row[0] for row in content["log_mass_notes"]]
    outside = [
        i for i, note in enumerate(notes) if note is not None and note.startswith("the minimum itself is outside")
    ]
    assert outside and all(content["log_mass_values"][i] == [None] for i in outside)
    assert all(content["log_mass_ranks"][i] is None for i in outside)
    assert any("cannot be compared" in pair["verdict"] for pair in content["log_mass_comparisons"])
    assert not [key for key in content if "log_mass_acc" in key]
    far = results(run, 0, 0.5)
    column = far["sigmas"].index(1e30)
    assert all(row[column] is None or row[column] < -5 for row in far["log_mass_values"])


def test_no_sigma_measures_nothing(copied: Run) -> None:
    assert mv.measure_masses(copied, progress=False) == []
    assert mv.estimate_masses(copied) == "Gaussian local volumes: 0 of 0 are there"
    assert not cell_files(copied)


def test_what_cannot_be_asked_for(run: Run, tmp_path: Path) -> None:
    """The message names what was asked for and what there is."""
    for options, message in (
        ({"landscapes": [5]}, r"landscapes \[5\] are not among data.levels \[0, 20, 40\]"),
        ({"thresholds": [0.3]}, r"thresholds \[0.3\] are not among volume.loss_thresholds \[0.5, 0.2\]"),
        ({"sigmas": [0.1, -1.0]}, "sigma -1.0 is not allowed: it must be a positive number"),
        ({"sigmas": [float("nan")]}, "sigma nan is not allowed"),
        ({"sigmas": [0.1, 0.10000000001]}, "must differ from each other in their first 6 digits"),
    ):
        with pytest.raises(ConfigError, match=message):
            mv.measure_masses(run, **options, progress=False)  # type: ignore[arg-type]
    run.results_file(0, 0.5).unlink()
    with pytest.raises(
        MissingStageError, match="results.json does not exist, and the Gaussian local volumes go into it"
    ):
        mv.measure_masses(run, progress=False)
    tight = edit_config(run.folder, {"perturbation.memory_gib": 1e-6, "volume.gaussian": GAUSSIAN | {"sigma": 3.0}})
    run_stage(tight, "perturb", progress=False)
    with pytest.raises(ConfigError, match="num_particles 30: one repeat needs [0-9.]+ MiB .* raise memory_gib"):
        run_stage(tight, "volume", progress=False)


def test_series_of_epochs(tmp_path: Path) -> None:
    """Minima of one data set: files and verdicts are called by epoch, and no minimum is native."""
    options = {"data.levels": [0], "training.checkpoints": [20, 30], "volume.gaussian": GAUSSIAN}
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb", "volume"))
    content = results(run)
    assert content["model_data_levels"] == [20, 30] and np.shape(content["log_mass_values"]) == (2, 1)
    assert {Path(name).name for name in cell_files(run)} >= {"epoch_20_sigma_0.2.json", "epoch_30_sigma_0.2.json"}
    assert "epoch 20" in content["log_mass_comparisons"][0]["verdict"]


def test_clean_removes_the_cells(run: Run, cli: Callable[..., tuple[int, str, str]]) -> None:
    """`clean --what results` leaves neither a cell nor its empty folder."""
    mv.measure_masses(run, progress=False)
    code, out, _ = cli("clean", run.folder, "--what", "results")
    assert code == 0 and "data_40_sigma_0.2_acc.json" in out
    assert cli("clean", run.folder, "--what", "results", "--yes")[0] == 0
    assert not cell_files(run) and not run.threshold(0, 0.5).exists()


def test_cli_stage(run: Run, measured: Run, cli: Callable[..., tuple[int, str, str]]) -> None:
    """`minima-volume run --stage volume` measures them, `status` says so."""
    assert "partial" in cli("status", run.folder)[1]
    code, _, error = cli("run", run.folder, "--stage", "volume")
    assert code == 0, error
    assert cell_files(run) == cell_files(measured)
    assert cli("status", run.folder)[1].split().count("complete") == 5
