"""results.json of another making: what stands where something else belongs is named; unknown keys are ignored."""

from __future__ import annotations

import pytest
from helpers import make_run

import minima_volume as mv
from minima_volume.analysis.results import Results
from minima_volume.errors import DamagedFileError, StaleError
from minima_volume.files.atomic import read_json, write_json
from minima_volume.reports.run import run_table
from minima_volume.stages.results.schema import PER_MINIMUM

COMPARED = "comparisons"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """With an accuracy threshold and Gaussian local volumes."""
    gaussian = {"sigma": 0.05, "profile": [0.1], "num_repeats": 2, "num_particles": 50, "precision": 3.0}
    folder = tmp_path_factory.mktemp("condition") / "model_0_data_10"
    run = make_run(folder, {"volume.gaussian": gaussian}, ("train", "perturb", "volume"))
    content = read_json(run.results_file(0, run.config.volume.headline))
    assert {"log_mass_values", "log_mass_acc_values", "verdicts_acc"} <= set(content)
    return content


@pytest.fixture
def refusal(tmp_path):
    def of(content: dict, kind: type[Exception] = DamagedFileError) -> str:
        path = tmp_path / "results.json"
        write_json(path, content)
        with pytest.raises(kind) as caught:
            mv.load_results(path)
        text = str(caught.value)
        assert text.startswith(str(path)) and "\n" not in text
        return text

    return of


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("log_volume_values", ["x", 1.0, 2.0], "log_volume_values[0] is 'x'"),
        ("log_volume_acc_values", [1.0, True, 2.0], "log_volume_acc_values[1] is True"),
        ("log_mass_values", [[1.0], [[1.0]], [None]], "log_mass_values[1][0] is [1.0]"),
        ("log_exp_r_n_intervals", [[1.0], None, None], "log_exp_r_n_intervals[0] is [1.0]"),
        ("num_params", "x", "num_params is 'x'"),
        ("num_params", [1, 2.5, 3], "num_params[1] is 2.5"),
        ("loss_threshold", None, "loss_threshold is None"),
        ("settings", {"data": 3}, "settings.data is 3"),
        ("provenance", {"versions": {"torch": 2}}, "provenance.versions.torch is 2"),
        ("log_mass_comparisons", [{"levels": [0, 20, 40]}], "log_mass_comparisons[0].levels is [0, 20, 40]"),
        ("comparisons", [3], "comparisons[0] is 3"),
        ("test_loss_values", [0.5], "test_loss_values has 1 entries for 3 minima"),
        ("sigma", 0.987, "sigma 0.987 is none of sigmas"),
        ("sigmas", [0.1, 0.2, 0.3, 0.4], "entries for 4 sigmas"),
    ],
)
def test_values_of_another_kind_are_named(whole, refusal, key, value, named):
    """With their place and themselves, and what to do."""
    text = refusal(whole | {key: value})
    assert named in text and "Delete it and run its stage again" in text


def test_a_comparison_without_its_verdict_is_named(whole, refusal):
    pairs = [{key: value for key, value in pair.items() if key != "verdict"} for pair in whole[COMPARED]]
    assert "comparisons[0] is {" in refusal(whole | {COMPARED: pairs})


def test_a_growth_of_other_subsets_is_named(whole, refusal):
    growth = whole["log_exp_r_n_growth"]
    text = refusal(whole | {"log_exp_r_n_growth": growth | {"num_directions": [1]}})
    assert "entries for 1 numbers of directions" in text


def test_lists_with_another_number_of_minima_are_named(whole, refusal):
    """Each list of one entry a minimum, and of one row a minimum."""
    keys = {name.format(suffix) for name in PER_MINIMUM for suffix in ("", "_acc")} & set(whole)
    keys |= {key for key in whole if key.startswith("log_mass") and key.endswith(("values", "intervals", "notes"))}
    assert len(keys) > 25
    for key in sorted(keys):
        assert f"{key} has 2 entries for 3 minima" in refusal(whole | {key: whole[key][:2]})


def test_a_file_without_a_key_is_of_an_earlier_version(whole, refusal):
    """What a threshold or a sigma brings with it is needed where there is one, and only there."""
    for key in ("log_volume_values", "verdicts_acc", "log_mass_acc_intervals", "sigmas"):
        without = {name: value for name, value in whole.items() if name != key}
        text = refusal(without, StaleError)
        assert f"lacks {key}: it is of an earlier version" in text and "--stage volume" in text


@pytest.mark.parametrize("older", [False, True])
def test_without_any_one_key_a_file_is_refused_or_can_be_read(whole, tmp_path, older):
    """Nothing that reads a file that was not refused looks for a key in vain; also one of format 2, which had no number."""
    path, read = tmp_path / "results.json", 0
    for key in whole:
        write_json(
            path, {name: value for name, value in whole.items() if name != key and not (older and name == "format")}
        )
        try:
            results = Results(mv.load_results(path))
        except StaleError:
            continue
        read += 1
        assert "20 samples" in results.title and results.growth and results.overall_verdict(), key
        assert run_table(results).shape[0] == len(results.minima) and mv.describe_order(results.content), key
        for by in ("loss", "accuracy"):
            assert len(results.mass_comparisons(by)) in (0, 3) and len(results.masses(by)) in (0, 3), key
            assert not results.has(by) or (results.stars(by) and results.comparisons(by)), key
        assert {results.left_out(i) for i in range(3)} == {None} and results.all_minima == [0, 20, 40], key
    assert 20 < read < len(whole) - 40


def test_a_file_of_loss_alone_is_whole(whole, tmp_path):
    path = tmp_path / "results.json"
    others = ("log_mass", "sigma", "accuracy_")
    content = {key: value for key, value in whole.items() if "_acc_" not in f"{key}_" and not key.startswith(others)}
    content |= {"a key of tomorrow": {"a": [1, "x"]}}
    write_json(path, content)
    assert mv.load_results(path) == content


def test_notebook_3_makes_a_file_of_another_making_again(copied):
    """Numbers come out as they were."""
    path = copied.results_file(0, 0.5)
    before = read_json(path)
    write_json(path, before | {"log_volume_values": "x"})
    assert mv.stage_states(copied.folder)["volume"].name == "damaged"
    mv.estimate_volumes(copied, progress=False)
    after = read_json(path)
    assert {k: v for k, v in after.items() if k != "provenance"} == {
        k: v for k, v in before.items() if k != "provenance"
    }
