"""results.json, cutoffs.json and the numbers behind them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import edit_config, make_run, numbers, same_sweeps
from scipy.special import gammaln, logsumexp
from torch.nn import functional as F

import minima_volume as mv
from minima_volume.errors import ConfigError, StaleError
from minima_volume.files.atomic import read_json, read_npz, write_json
from minima_volume.stages.run import read_run

PRIMARY = {
    *("test_loss_values", "log_exp_r_n_values", "model_data_levels", "loss_landscape_data_param", "train_loss_values"),
    *("num_params", "dataset_type", "top_r_vals", "top_r_val_seeds"),
}
SECONDARY = {
    "loss_predicts_minimas",
    "loss_ordering_violations",
    "test_loss_ranks",
    "log_exp_r_n_ranks",
    "data_level_ranks",
}
BY_ACCURACY = {
    *("log_exp_r_n_acc_values", "accuracy_predicts_minimas", "accuracy_ordering_violations", "log_exp_r_n_acc_ranks"),
}


def all_results(run):
    return [
        (q, t, read_json(run.results_file(q, t)))
        for q in run.config.data.levels
        for t in run.config.volume.loss_thresholds
    ]


def test_files_of_notebook_3(digits_run):
    """loss_<t>/results.json, its radii and its figures, for every landscape and threshold."""
    found = {str(p.relative_to(digits_run.folder)) for p in digits_run.folder.glob("data_*/loss_*/*")}
    names = ("results.json", "radii.npz", "log_volume.png", "radius_histogram.png", "growth.png")
    files = {f"data_{q}/loss_{t}/{name}" for q in (0, 20, 40) for t in (0.5, 0.2) for name in names}
    alone = {f"data_40/loss_{t}/log_volume.png" for t in (0.5, 0.2)}  # one minimum, with nothing to be compared with
    assert found == files - alone


def test_results_have_the_documented_keys(digits_run):
    """All of them, with one value a minimum, in the order of the levels as numbers."""
    for landscape, threshold, results in all_results(digits_run):
        assert set(results) >= PRIMARY | SECONDARY | BY_ACCURACY | {
            "log_exp_r_n_notes",
            "log_volume_values",
            "provenance",
        }
        levels = [q for q in (0, 20, 40) if q >= landscape]
        assert results["model_data_levels"] == levels
        assert results["loss_landscape_data_param"] == landscape and results["loss_threshold"] == threshold
        for key in results:
            if key.endswith(("_values", "_ranks", "_notes", "_vals", "_seeds")) or key.startswith(
                ("verdict", "effective")
            ):
                assert len(results[key]) == len(levels), key
        assert all(len(row) == 5 for row in results["top_r_vals"] + results["top_r_val_seeds"])
        assert results["num_params"] == 1210 and results["dataset_type"] == "data"
        known = sum(value is not None for value in results["log_exp_r_n_values"])
        assert isinstance(results["loss_ordering_violations"], int if known > 1 else type(None))
        assert results["data_level_ranks"] == [float(len(levels) - i) for i in range(len(levels))]


def test_accuracy_keys_are_absent_without_paired_thresholds(copied):
    """accuracy_thresholds: null."""
    run = edit_config(copied.folder, {"volume.accuracy_thresholds": None})
    mv.estimate_volumes(run, progress=False)
    for _, _, results in all_results(run):
        assert not [
            key for key in results if "acc" in key.replace("test_accuracy", "").replace("accuracy_threshold", "")
        ]
        assert not set(results) & BY_ACCURACY and results["accuracy_threshold"] is None
    assert not [key for key in read_npz(run.radii_file(0, 0.5)) if key.startswith("acc_")]


def test_levels_are_sorted_as_numbers(tmp_path):
    """9 before 20 before 100, in every list and file."""
    options = {"data.levels": [100, 9, 20], "training.epochs": 25, "perturbation.num_directions": 3}
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb"))
    mv.estimate_volumes(run, landscapes=[9], progress=False)
    assert read_json(run.results_file(9, 0.5))["model_data_levels"] == [9, 20, 100]
    assert list(mv.cutoffs(run)) == ["Model_9", "Model_20", "Model_100"]
    assert mv.measure_test_accuracies(run)["additional_data"].tolist() == [9, 20, 100]
    with pytest.raises(ConfigError, match=r"landscapes \[5\] are not among data\.levels \[9, 20, 100\]"):
        mv.estimate_volumes(run, landscapes=[5], progress=False)


def test_radii_reproduce_the_volumes(digits_run):
    """log_exp_r_n = log mean r^n from radii.npz; log_volume adds log V_n and the log of the filter norms."""
    trained = mv.load_models_and_data(digits_run)
    for landscape, threshold, results in all_results(digits_run):
        radii = read_npz(digits_run.radii_file(landscape, threshold))
        assert radii["model_data_levels"].tolist() == results["model_data_levels"]
        assert radii["perturbation_seed"].tolist() == list(range(1, 13))
        n = results["num_params"]
        for i, level in enumerate(results["model_data_levels"]):
            for name, key in (("radius", "log_exp_r_n_values"), ("acc_radius", "log_exp_r_n_acc_values")):
                expected = logsumexp(n * np.log(radii[name][i])) - np.log(12)
                assert results[key][i] == pytest.approx(expected, rel=1e-12)
            log_f = 0.0
            for parameter in trained.models[level].parameters():
                if parameter.ndim > 1:
                    log_f += parameter.shape[1] * parameter.detach().double().norm(dim=1).log().sum().item()
            unit_ball = n / 2 * np.log(np.pi) - gammaln(n / 2 + 1)
            assert results["log_volume_values"][i] == pytest.approx(
                results["log_exp_r_n_values"][i] + unit_ball + log_f, abs=1e-3
            )
            shares = np.exp(n * np.log(radii["radius"][i]) - n * np.log(radii["radius"][i].max()))
            assert results["effective_sample_size"][i] == pytest.approx(shares.sum() ** 2 / (shares**2).sum(), rel=1e-9)


def test_top_radii_belong_to_their_seeds(digits_run):
    """The largest five, descending; one of them recomputed from its seed by bisection with a plain loop in float64."""
    results = read_json(digits_run.results_file(20, 0.5))
    radii = read_npz(digits_run.radii_file(20, 0.5))
    for i in range(2):
        order = np.argsort(-radii["radius"][i])[:5]
        assert results["top_r_vals"][i] == radii["radius"][i][order].tolist()
        assert results["top_r_val_seeds"][i] == radii["perturbation_seed"][order].tolist()
    trained = mv.load_models_and_data(digits_run)
    model = trained.models[40].double()
    x, y = trained.dataset.x_train[:40].double(), trained.dataset.y_train[:40]
    random = torch.Generator().manual_seed(results["top_r_val_seeds"][1][0])
    theta = {name: p.detach() for name, p in model.named_parameters()}
    xi = {name: torch.randn(p.shape, generator=random).double() for name, p in theta.items()}
    norm = sum(part.square().sum() for part in xi.values()).sqrt().item()

    def loss(c: float) -> float:
        state = {
            name: p + c * xi[name] * (p.norm(dim=1, keepdim=True) if p.ndim > 1 else 1.0) for name, p in theta.items()
        }
        with torch.no_grad():
            return F.cross_entropy(torch.func.functional_call(model, state, (x,)), y).item()

    grid = digits_run.config.perturbation.coefficients.values()
    first = next(k for k, c in enumerate(grid) if loss(c) > 0.5)
    low, high = grid[first - 1], grid[first]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if loss(middle) <= 0.5 else (low, middle)
    assert results["top_r_vals"][1][0] == pytest.approx(low * norm, rel=3e-5)


def test_smaller_thresholds_have_smaller_radii(digits_run):
    """Direction by direction."""
    for landscape in (0, 20, 40):
        wide, narrow = (read_npz(digits_run.radii_file(landscape, t))["radius"] for t in (0.5, 0.2))
        assert (narrow < wide).all()


def test_a_minimum_outside_its_landscape_is_null_with_a_reason(copied):
    """A threshold below the loss at the minimum itself: null, the reason, null ranks; strict JSON; others keep their numbers."""
    starts = read_json(copied.results_file(0, 0.5))["start_loss_values"]
    *inside, out = np.argsort(starts)
    threshold = float(f"{(starts[inside[-1]] + starts[out]) / 2:.6g}")
    run = edit_config(copied.folder, {"volume.loss_thresholds": [threshold], "volume.accuracy_thresholds": None})
    mv.estimate_volumes(run, progress=False)
    results = read_json(run.results_file(0, threshold))
    assert all(results["log_exp_r_n_values"][i] is not None for i in inside)
    assert results["log_exp_r_n_values"][out] is None and "outside" in results["log_exp_r_n_notes"][out]
    assert all(results["log_exp_r_n_notes"][i] is None for i in inside)
    assert results["log_exp_r_n_ranks"][out] is None and results["log_volume_values"][out] is None
    assert results["top_r_vals"][out] == results["top_r_val_seeds"][out] == [None] * 5
    assert results["verdicts"][out].startswith("undefined")
    assert results["log_exp_r_n_intervals"][out] is None and results["log_exp_r_n_growth"]["values"][out] is None
    level = (0, 20, 40)[out]
    undefined = [pair for pair in results["comparisons"] if level in pair["levels"]]
    assert len(undefined) == 2 and all(pair["log_volume_difference"] is None for pair in undefined)
    assert all(f"undefined: +{level}: the minimum itself is outside" in pair["verdict"] for pair in undefined)
    assert "undefined: 1" in results["overall_verdict"]
    assert np.isnan(read_npz(run.radii_file(0, threshold))["radius"][out]).all()


def test_censored_directions_are_lower_bounds(tmp_path):
    """A threshold that is not reached before max_coefficient: counted, kept as a lower bound, and said so."""
    options = {
        "perturbation.coefficients.max": 0.02,
        "perturbation.max_coefficient": 0.02,
        "volume.loss_thresholds": [30.0],
        "volume.accuracy_thresholds": None,
        "data.levels": [0],
    }
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb"))
    (file,) = mv.estimate_volumes(run, progress=False)
    results, radii = mv.load_results(file), read_npz(run.radii_file(0, 30.0))
    assert file.parent.name == "loss_30" and results["num_censored"] == [12] and radii["censored"].all()
    norms = mv.read_sweep(run.sweep_file(0, 0)).perturbation_norm
    np.testing.assert_allclose(radii["radius"][0], 0.02 * norms, rtol=1e-6)
    assert results["verdicts"][0].startswith("cannot be trusted: 12 of 12 directions never crossed")


def test_changing_a_threshold_makes_nothing_older_stale(digits_run, copied):
    """A new threshold adds its own folder; the sweep's numbers and the older results stay, byte for byte."""
    old = copied.results_file(0, 0.2).read_bytes()
    run = edit_config(copied.folder, {"volume.loss_thresholds": [0.3, 0.2], "volume.accuracy_thresholds": [0.8, 0.9]})
    assert mv.stage_states(run.folder)["volume"].name == "partial"
    mv.estimate_volumes(run, progress=False)
    assert mv.stage_states(run.folder)["volume"].reason == "figures of 3 of 6 results.json to draw"
    assert run.results_file(0, 0.2).read_bytes() == old and copied.results_file(0, 0.5).is_file()
    between = [read_npz(run.radii_file(0, t))["radius"] for t in (0.2, 0.3, 0.5)]
    assert (between[0] < between[1]).all() and (between[1] < between[2]).all()
    same_sweeps(digits_run, run)


def test_a_threshold_above_the_ceiling_continues_the_curves(copied, tmp_path):
    """Ceiling 2.5, threshold 6: the stored curves are continued, and radii agree with a sweep that had a high ceiling."""
    pairs = [(pair.landscape, pair.minimum) for pair in copied.pairs()]
    before = {pair: mv.read_sweep(copied.sweep_file(*pair)).loss for pair in pairs}
    change = {"volume.loss_thresholds": [6.0], "volume.accuracy_thresholds": None}
    run = edit_config(copied.folder, change)
    mv.estimate_volumes(run, progress=False)
    longer = 0
    for pair, loss in before.items():
        after = mv.read_sweep(run.sweep_file(*pair))
        known = ~np.isnan(loss)
        assert (after.loss[known] == loss[known]).all()
        longer += int((~np.isnan(after.loss)).sum() - known.sum())
        assert "continued" not in after.metadata
    assert longer > 0
    fresh = make_run(
        tmp_path / "fresh" / "model_0_data_10", {**change, "perturbation.loss_ceiling": 100.0}, ("train", "perturb")
    )
    mv.estimate_volumes(fresh, progress=False)
    for landscape in (0, 20, 40):
        a, b = (read_npz(r.radii_file(landscape, 6.0)) for r in (run, fresh))
        np.testing.assert_allclose(a["radius"], b["radius"], rtol=2e-5)
        assert (a["censored"] == b["censored"]).all()
    states = mv.stage_states(run.folder)
    assert states["perturb"].complete and states["volume"].reason == "figures of 3 of 3 results.json to draw"


def test_a_run_repeated_from_its_config_has_the_same_numbers(digits_run, tmp_path):
    """config.yaml is the whole truth: another folder, the resolved file alone, and results.json agrees in every number."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "config.yaml").write_bytes((digits_run.folder / "config.yaml").read_bytes())
    run = read_run(folder)
    mv.train_models(run, progress=False)
    mv.sweep(run, progress=False)
    mv.estimate_volumes(run, progress=False)
    mv.cutoffs(run)
    for landscape in (0, 20, 40):
        for threshold in (0.5, 0.2):
            assert numbers(run.results_file(landscape, threshold)) == numbers(
                digits_run.results_file(landscape, threshold)
            )
    assert read_json(run.cutoffs_file) == read_json(digits_run.cutoffs_file)


def test_workers_and_shards_do_not_change_results(digits_run, copied):
    """Two worker processes: every number of results.json."""
    run = edit_config(copied.folder, {"perturbation.workers": 2, "perturbation.shard_size": 4})
    for path in run.folder.rglob("results.json"):
        path.unlink()
    mv.estimate_volumes(run, progress=False)
    for landscape in (0, 20, 40):
        found, expected = (numbers(r.results_file(landscape, 0.5)) for r in (run, digits_run))
        assert {k: v for k, v in found.items() if k != "settings"} == {
            k: v for k, v in expected.items() if k != "settings"
        }


def test_results_that_are_current_are_left_alone(copied):
    """Nothing is computed or written twice; settings that decide numbers ask for it."""
    times = {p: p.stat().st_mtime_ns for p in copied.folder.rglob("results.json")}
    mv.estimate_volumes(copied, progress=False)
    assert {p: p.stat().st_mtime_ns for p in copied.folder.rglob("results.json")} == times
    run = edit_config(copied.folder, {"volume.top_k": 4})
    assert mv.stage_states(run.folder)["volume"].name == "missing"
    mv.estimate_volumes(run, progress=False)
    assert len(read_json(run.results_file(0, 0.5))["top_r_vals"][0]) == 4


def test_accuracy_thresholds_need_classes(tmp_path):
    """With mean squared error on class labels as numbers there is no accuracy: the message says to set them to null."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "model_0_data_10" / "line.py").write_text(
        "import torch\nfrom minima_volume.data import Pool\n"
        "def make(seed, needed):\n"
        "    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(seed))\n"
        "    return Pool(x, x.sum(1, keepdim=True), x[:9], x[:9].sum(1, keepdim=True), 1)\n",
        encoding="utf-8",
    )
    options = {"data.source": "line:make", "training.loss": "mse", "training.epochs": 200}
    run = make_run(tmp_path / "model_0_data_10", options, ("train", "perturb"))
    with pytest.raises(
        ConfigError, match=r"accuracy_thresholds \[0\.8, 0\.9\]: accuracy is undefined for loss 'mse'.*null"
    ):
        mv.estimate_volumes(run, progress=False)
    run = edit_config(run.folder, {"volume.accuracy_thresholds": None})
    results = mv.load_results(mv.estimate_volumes(run, progress=False)[0])
    assert results["log_exp_r_n_values"][0] is not None and results["test_accuracy_values"] == [None] * 3


def test_results_of_an_earlier_version_say_what_to_do(copied):
    """Without the newer keys they are named and the way out is given; the stage is not complete, and running it makes them again."""
    path = copied.results_file(0, 0.5)
    new = read_json(path)
    old = {key: value for key, value in new.items() if key != "log_exp_r_n_intervals"}
    write_json(path, old | {"fingerprint": "of an earlier version"})
    with pytest.raises(
        StaleError, match=r"results\.json lacks log_exp_r_n_intervals: it is of an earlier version.*--stage volume"
    ):
        mv.load_results(path)
    assert mv.stage_states(copied.folder)["volume"].name == "partial"
    mv.estimate_volumes(copied, progress=False)
    assert {k: v for k, v in read_json(path).items() if k != "provenance"} == {
        k: v for k, v in new.items() if k != "provenance"
    }
    path.write_text(json.dumps({"model_data_levels": [0]}), encoding="utf-8")
    with pytest.raises(
        StaleError,
        match=r"lacks loss_landscape_data_param, .*, settings, weights_hashes, log_exp_r_n_values, log_exp_r_n_intervals, ",
    ):
        mv.load_results(path)


def test_published_numbers_come_with_their_trust(digits_run):
    """1,210 dimensions, 12 directions: lower limits log 40 below, no upper ones, no probabilities, growth, comparisons, words."""
    for landscape, _, results in all_results(digits_run):
        levels = results["model_data_levels"]
        for suffix in ("", "_acc"):
            values, intervals = results[f"log_exp_r_n{suffix}_values"], results[f"log_exp_r_n{suffix}_intervals"]
            for value, interval, volume, shifted in zip(
                values,
                intervals,
                results[f"log_volume{suffix}_values"],
                results[f"log_volume{suffix}_intervals"],
                strict=True,
            ):
                assert interval == [pytest.approx(value - np.log(40)), None]
                assert shifted == [pytest.approx(volume - np.log(40)), None]
            assert results[f"effective_sample_size_needed{suffix}"] == [None] * len(
                levels
            )  # 12 directions show no tail
            growth = results[f"log_exp_r_n{suffix}_growth"]
            assert growth["num_directions"] == [1, 2, 4, 8, 12]
            for value, row in zip(values, growth["values"], strict=True):
                assert row[-1] == pytest.approx(value, rel=1e-12) and row[0] < row[-1]
            pairs = results[f"comparisons{suffix}"]
            assert [pair["levels"] for pair in pairs] == {
                0: [[0, 20], [0, 40], [20, 40]],
                20: [[20, 40]],
                40: [],
            }[landscape]
            for pair in pairs:
                i, j = (levels.index(level) for level in pair["levels"])
                assert pair["log_exp_r_n_difference"] == values[i] - values[j]
                assert pair["log_exp_r_n_interval"] == pair["log_volume_interval"] == [None, None]
                assert pair["log_volume_probability"] is None and pair["told_apart"] is False
                assert pair["verdict"] == "these two minima cannot be told apart: neither is an estimate"
            assert results[f"overall_verdict{suffix}"].startswith(
                f"0 of {len(levels)} volumes are estimates; no estimates: {len(levels)}"
            )
        assert results["loss_spearman_interval"] is None
        assert results["loss_spearman_note"].startswith(
            "3 minima: below 5" if landscape == 0 else ("2 minima", "undefined")
        )


# ---- cutoffs


def test_cutoffs_have_the_documented_keys_and_are_the_plain_means(digits_run):
    """Mean loss over the first m samples, for every m from the base size to all; where it first passes each threshold."""
    stored = read_json(digits_run.cutoffs_file)
    assert list(stored) == ["Model_0", "Model_20", "Model_40"]
    assert (digits_run.folder / "loss_curves.png").is_file()
    trained = mv.load_models_and_data(digits_run)
    data = trained.dataset
    for level, model in trained.models.items():
        entry = stored[f"Model_{level}"]
        assert set(entry) >= {"additional_data", "base_train_size", "indices", "loss_curve"}
        assert (entry["additional_data"], entry["base_train_size"]) == (level, 20)
        assert entry["indices"] == list(range(20, 61))
        with torch.no_grad():
            for m, value in zip(entry["indices"], entry["loss_curve"], strict=True):
                assert value == pytest.approx(
                    F.cross_entropy(model(data.x_train[:m]).double(), data.y_train[:m]).item(), rel=1e-4
                )
        for threshold in (0.5, 0.2):
            above = [m for m, value in zip(entry["indices"], entry["loss_curve"], strict=True) if value > threshold]
            assert entry["cutoffs"][f"{threshold:g}"] == (above[0] if above else None)
    assert stored["Model_0"]["cutoffs"]["0.2"] is not None and stored["Model_40"]["cutoffs"]["0.5"] is None
