"""The sweep: its files, resuming, sharding, extending, and what makes it stale."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import edit_config, make_run, same_sweeps, tree
from torch.nn import functional as F

import minima_volume as mv
from minima_volume.errors import DamagedFileError, MissingStageError, StaleError
from minima_volume.files.atomic import read_npz, write_npz
from minima_volume.stages import sweep_files
from minima_volume.stages.run import Run, read_run

RESULT_KEYS = {"loss", "coefficients", "accs", "perturbation_seed", "perturbation_norm"}
META_KEYS = {
    *("additional_data", "model_trained_data", "dataset_type", "base_dataset_size", "test_loss", "test_accs"),
    *("num_params", "state_dict"),
}


def models_only(run: Run, folder: Path) -> Run:
    """A copy of a run with its models, without anything later."""
    target = folder / run.folder.name
    target.mkdir(parents=True)
    shutil.copytree(run.models, target / "models_and_data")
    shutil.copy(run.folder / "config.yaml", target)
    return read_run(target)


def test_names_of_files_and_the_pairs_they_are_for(digits_run):
    """data_<landscape>/data_<level>.npz for every level >= landscape, and no unfinished work left."""
    found = {str(p.relative_to(digits_run.folder)) for p in digits_run.folder.glob("data_*/*.npz")}
    pairs = [(0, 0), (0, 20), (0, 40), (20, 20), (20, 40), (40, 40)]
    assert found == {f"data_{landscape}/data_{level}.npz" for landscape, level in pairs}
    assert not digits_run.shards.exists()


def test_the_dataset_type_is_the_prefix(tmp_path):
    """poison_<landscape>/poison_<level>.npz."""
    options = {"data.variant": "poison", "data.levels": [0, 20], "training.epochs": 2, "perturbation.num_directions": 2}
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb"))
    assert {str(p.relative_to(run.folder)) for p in run.folder.glob("*_*/*.npz")} == {
        "poison_0/poison_0.npz",
        "poison_0/poison_20.npz",
        "poison_20/poison_20.npz",
    }


def test_wiggle_results_have_the_documented_keys(digits_run):
    """A list of dictionaries, one a direction, and the metadata with a state_dict that fits the model."""
    results, metadata = mv.load_wiggle_results(digits_run.sweep_file(20, 40))
    assert isinstance(results, list) and len(results) == 12
    for i, result in enumerate(results):
        assert set(result) == RESULT_KEYS
        assert result["loss"].shape == result["accs"].shape == result["coefficients"].shape == (12,)
        assert result["perturbation_seed"] == 1 + i
        assert result["coefficients"][0] == 0
    assert set(metadata) >= META_KEYS | {"weights_hash", "data_hash", "settings", "provenance"}
    expected = {"additional_data": 20, "model_trained_data": 40, "base_dataset_size": 20, "dataset_type": "data"}
    assert {key: metadata[key] for key in expected} == expected
    assert metadata["num_params"] == 64 * 16 + 16 + 16 * 10 + 10
    trained = mv.load_models_and_data(digits_run)
    state = trained.models[40].state_dict()
    assert set(metadata["state_dict"]) == set(state)
    assert all(torch.equal(metadata["state_dict"][name], tensor) for name, tensor in state.items())
    assert metadata["test_loss"] == trained.records[40]["test_loss"][-1]


def test_stored_curves_are_the_plain_loops(digits_run):
    """Loss and accuracy at every stored coefficient, recomputed from the npz alone: seed, weights and dataset.pt."""
    results, metadata = mv.load_wiggle_results(digits_run.sweep_file(20, 40))
    trained = mv.load_models_and_data(digits_run)
    model, data = trained.models[40], trained.dataset
    x, y = data.x_train[:40], data.y_train[:40]
    for result in results[::5]:
        random = torch.Generator().manual_seed(result["perturbation_seed"])
        xi = {name: torch.randn(p.shape, generator=random) for name, p in model.named_parameters()}
        norm = sum(tensor.double().square().sum() for tensor in xi.values()).sqrt().item()
        assert result["perturbation_norm"] == pytest.approx(norm, rel=1e-6)
        stored = ~np.isnan(result["loss"])
        assert stored[: stored.sum()].all() and stored.sum() >= 3
        for k in np.flatnonzero(stored):
            state = {}
            for name, theta in metadata["state_dict"].items():
                factor = theta.norm(dim=1, keepdim=True) if theta.ndim > 1 else torch.ones_like(theta)
                state[name] = theta + result["coefficients"][k] * xi[name] * factor
            with torch.no_grad():
                outputs = torch.func.functional_call(model, state, (x,))
            assert result["loss"][k] == pytest.approx(F.cross_entropy(outputs, y).item(), rel=1e-4, abs=1e-6)
            assert result["accs"][k] == pytest.approx((outputs.argmax(1) == y).double().mean().item(), abs=1e-9)


def test_curves_are_complete_past_the_ceiling(digits_run):
    """A direction is followed in all landscapes of its model until all are above the ceiling; after that it is NaN."""
    ceiling = digits_run.config.loss_ceiling
    for level in (0, 20, 40):
        landscapes = [q for q in (0, 20, 40) if q <= level]
        loss = np.stack([mv.read_sweep(digits_run.sweep_file(q, level)).loss for q in landscapes])
        for i in range(loss.shape[1]):
            known = ~np.isnan(loss[:, i])
            assert (known == known[0]).all()
            last = np.flatnonzero(known[0])[-1]
            assert (loss[:, i, : last + 1].max(1) > ceiling).all() or last == loss.shape[2] - 1
            assert not (loss[:, i, :last].max(1, initial=0) > ceiling).all()


@pytest.mark.parametrize(
    "options", [{"perturbation.shard_size": 2}, {"perturbation.shard_size": 50}, {"perturbation.workers": 2}]
)
def test_sharding_and_workers_do_not_change_a_bit(options, digits_run, tmp_path):
    """Other shard sizes, and two worker processes: the same npz numbers."""
    other = models_only(digits_run, tmp_path)
    edit_config(other.folder, options)
    other = read_run(other.folder)
    mv.sweep(other, progress=False)
    same_sweeps(digits_run, other)


def test_a_finished_sweep_is_left_alone(copied):
    """Nothing is written a second time."""
    before = {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.npz")}
    mv.sweep(copied, progress=False)
    assert {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.npz")} == before


@pytest.mark.parametrize(
    "lost", [[(0, 20)], [(20, 40), (0, 0)], [(0, 0), (0, 20), (0, 40), (20, 20), (20, 40), (40, 40)]]
)
def test_removed_files_are_made_again_bit_for_bit(lost, digits_run, copied):
    """One file of a model, files of two models, all."""
    for landscape, level in lost:
        copied.sweep_file(landscape, level).unlink()
    mv.sweep(copied, progress=False)
    same_sweeps(digits_run, copied)


@pytest.mark.parametrize("damage", ["missing", "truncated", "other weights"])
def test_unfinished_shards_are_used_and_bad_ones_are_not(damage, digits_run, tmp_path, monkeypatch):
    """A sweep that stopped after some shards, one of which is gone, cut off, or of another model."""
    module = importlib.import_module("minima_volume.stages.sweep")
    run = models_only(digits_run, tmp_path)
    done = []

    def stop_after_seven(work, todo, workers):
        for task in todo:
            if len(done) == 7:
                raise KeyboardInterrupt
            done.append(task)
            yield task, work(task)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_tasks", stop_after_seven)
        with pytest.raises(KeyboardInterrupt):
            mv.sweep(run, progress=False)
    # levels 0 and 20 have three shards each and are whole, level 40 has one
    assert run.sweep_file(20, 20).is_file() and not run.sweep_file(0, 40).is_file()
    assert mv.stage_states(run.folder)["perturb"].name == "partial"
    (shard,) = (run.shards / "level_40").glob("*.npz")
    walked = len(read_npz(shard)["seeds"])
    assert mv.estimate_sweep(run).directions == 12 - walked
    if damage == "missing":
        shard.unlink()
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:100])
    else:
        content = read_npz(shard)
        write_npz(shard, content | {"loss": content["loss"] + 1, "key": "of something else"})
    assert mv.estimate_sweep(run).directions == 12
    mv.sweep(run, progress=False)
    same_sweeps(digits_run, run)
    assert not run.shards.exists()


def test_more_directions_extend_the_sweep(digits_run, tmp_path):
    """7 directions, then 12: the old ones are kept, and all numbers are those of a fresh run with 12."""
    run = models_only(digits_run, tmp_path)
    edit_config(run.folder, {"perturbation.num_directions": 7})
    mv.sweep(read_run(run.folder), progress=False)
    first = mv.read_sweep(run.sweep_file(0, 0))
    assert first.perturbation_seed.tolist() == list(range(1, 8))
    edit_config(run.folder, {"perturbation.num_directions": 12})
    run = read_run(run.folder)
    estimate = mv.estimate_sweep(run)
    assert estimate.directions == 3 * 5 and "15 directions" in str(estimate)
    mv.sweep(run, progress=False)
    same_sweeps(digits_run, run)


def test_fewer_directions_use_the_first_of_the_stored(digits_run, copied):
    """num_directions lowered after the sweep: the radii of the first 5 seeds, and nothing is walked."""
    run = edit_config(copied.folder, {"perturbation.num_directions": 5})
    files = mv.estimate_volumes(run, progress=False)
    assert mv.load_results(files[0])["num_directions"] == [5, 5, 5]
    few, all_ = (read_npz(r.radii_file(0, 0.5)) for r in (run, digits_run))
    np.testing.assert_allclose(few["radius"], all_["radius"][:, :5], rtol=2e-5)


def test_kill_9_in_the_middle_then_resume(digits_run, tmp_path):
    """A sweep killed at any moment and started again has the numbers of one that was never stopped."""
    run = models_only(digits_run, tmp_path)
    script = (
        "import importlib, sys, time, torch\ntorch.set_num_threads(1)\n"
        "import minima_volume as mv\n"
        "module = importlib.import_module('minima_volume.stages.sweep')\n"
        "write = module._write_shard\n"
        "module._write_shard = lambda *args: (write(*args), time.sleep(0.3))\n"
        "mv.sweep(mv.open_run(sys.argv[1]), progress=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(run.folder)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        deadline = time.monotonic() + 120
        while not list(run.shards.glob("level_20/*.npz")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run.sweep_file(0, 0).is_file() and not run.sweep_file(0, 40).is_file()
    mv.sweep(run, progress=False)
    same_sweeps(digits_run, run)


# ---- stale and damaged


def test_a_sweep_older_than_its_retrained_model_is_stale(copied, cli):
    """Retraining with other settings: the sweep, the volumes, the status and the command line all say so."""
    for path in copied.models.iterdir():
        path.unlink()
    run = edit_config(copied.folder, {"training.epochs": 29})
    mv.train_models(run, progress=False)
    for call in (mv.sweep, mv.estimate_volumes):
        with pytest.raises(StaleError) as failure:
            call(run, progress=False)
        message = str(failure.value)
        assert "data_0.npz was measured on other weights" in message and "older than its retrained model" in message
        assert "clean RUN --what sweeps" in message and "notebook 2 again" in message
    states = mv.stage_states(run.folder)
    assert states["train"].complete and states["perturb"].name == "stale"
    assert not states["volume"].complete and not states["accuracy"].complete and not states["cutoff"].complete
    code, out, _ = cli("status", run.folder)
    assert code == 1 and "stale" in out and "older than its retrained model" in out
    code, _, err = cli("run", run.folder, "--stage", "volume", "--quiet")
    assert code == 1 and "older than its retrained model" in err


def test_a_sweep_on_other_samples_is_stale(copied):
    """The weights are the same, the samples are not."""
    path = copied.sweep_file(0, 20)
    write_npz(path, read_npz(path) | {"data_hash": "f" * 16})
    with pytest.raises(StaleError, match=r"data_20\.npz was measured on other samples than dataset\.pt holds"):
        mv.sweep(copied, progress=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"perturbation.scaling": "none"}, ["perturbation.scaling = 'filter'", "says 'none'"]),
        ({"perturbation.coefficients.count": 13}, ["perturbation.coefficients.count = 12", "says 13"]),
        ({"perturbation.names": "all"}, ["perturbation.names = 'weight_bias'", "says 'all'"]),
    ],
)
def test_a_sweep_of_other_settings_is_refused(change, words, copied):
    """The setting, its two values and the way out; nothing is written."""
    run = edit_config(copied.folder, change)
    before = tree(copied.folder)
    with pytest.raises(StaleError) as failure:
        mv.sweep(run, progress=False)
    assert all(word in str(failure.value) for word in (*words, "clean RUN --what sweeps")), failure.value
    assert tree(copied.folder) == before


def test_settings_that_do_not_decide_numbers_make_nothing_stale(copied):
    """Workers, memory, shards, the ceiling, thresholds."""
    run = edit_config(
        copied.folder,
        {
            "perturbation.workers": 2,
            "perturbation.memory_gib": 1.0,
            "perturbation.shard_size": 3,
            "perturbation.loss_ceiling": 9.0,
            "volume.loss_thresholds": [0.3, 0.2],
            "experiment.name": "another name",
        },
    )
    assert mv.stage_states(run.folder)["perturb"].complete


def test_a_foreign_npz_is_named(copied):
    """A .npz that this package did not write."""
    path = copied.sweep_file(0, 20)
    np.savez(path, loss=np.zeros(3))
    with pytest.raises(DamagedFileError, match=r"data_20\.npz lacks coefficients, accs.*not written by this package"):
        mv.estimate_volumes(copied, progress=False)


@pytest.mark.parametrize(
    ("key", "value"), [("left_out", 0.0), ("settings", "x"), ("weights_hash", 3.0), ("state_dict/layers.1.bias", "x")]
)
def test_a_sweep_with_a_value_of_another_kind_is_named(copied, cli, key, value):
    """Its checksums are right; the stages that read it say so in one line."""
    path = copied.sweep_file(0, 20)
    arrays = read_npz(path)
    assert key in arrays
    write_npz(path, arrays | {key: np.array(value)})
    code, _, err = cli("run", copied.folder, "--stage", "volume", "--quiet")
    assert code == 1 and "data_20.npz" in err and err.count("\n") == 1
    if not key.startswith("state_dict"):  # which notebook 2 does not read
        code, _, err = cli("run", copied.folder, "--stage", "perturb", "--quiet")
        assert code == 1 and "data_20.npz does not hold what this package writes" in err and err.count("\n") == 1


def test_notebook_2_needs_notebook_1(tmp_path, cli):
    """The file that is missing, the notebook and the command that make it; nothing but the seeds is written."""
    run = make_run(tmp_path / "model_0_data_10")
    code, _, err = cli("run", run.folder, "--stage", "perturb", "--quiet")
    assert code == 1 and "dataset.pt does not exist" in err
    assert "'Train Low Test Models.ipynb'" in err and "--stage train" in err
    assert set(tree(run.folder)) == {"config.yaml"}


def test_notebook_3_needs_notebook_2(digits_run, tmp_path):
    """Also when some directions are missing."""
    run = models_only(digits_run, tmp_path)
    with pytest.raises(
        MissingStageError, match=r"data_0\.npz does not exist: run 'Random Perturbs\.ipynb' .*--stage perturb"
    ):
        mv.estimate_volumes(run, progress=False)
    mv.sweep(run, progress=False)
    run = edit_config(run.folder, {"perturbation.num_directions": 20})
    with pytest.raises(
        MissingStageError, match=r"data_0\.npz has 12 of the 20 directions that perturbation\.num_directions asks"
    ):
        mv.estimate_volumes(run, progress=False)


def test_dead_filters_are_counted_and_left_out(tmp_path):
    """A row of zeros: its entries are out of num_params, and the count is stored."""
    run = make_run(tmp_path / "model_0_data_10", {"data.levels": [0]}, ("train",))
    from minima_volume.files.atomic import hash_arrays, read_pt, write_pt

    content = read_pt(run.model_file(0))
    content["state_dict"]["layers.1.weight"][3] = 0.0
    write_pt(run.model_file(0), content | {"weights_hash": hash_arrays(content["state_dict"])})
    mv.sweep(run, progress=False)
    metadata = sweep_files.read_sweep(run.sweep_file(0, 0)).metadata
    assert (metadata["num_params"], metadata["num_zero_params"]) == (1210 - 64, 64)
