"""Settings at their old places: read as before, refused if the new place contradicts, replaced by overrides and updates."""

from __future__ import annotations

import pytest
from helpers import edit_config, make_run, tiny

import minima_volume as mv
from minima_volume.config.moved import MOVED
from minima_volume.config.run import parse_config
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import read_yaml, write_yaml
from minima_volume.stages.run import CONFIG_NAME


@pytest.mark.parametrize(("key", "value"), [("workers", 3), ("memory_gib", 0.5)])
def test_the_old_place_is_the_new_one(key, value):
    """Alone, beside null, and beside the same value; the section it came from has no such key any more."""
    new = parse_config(tiny({"perturbation.workers": None, f"execution.{key}": value}))
    for more in ({}, {f"execution.{key}": value}, {f"execution.{key}": None} if key == "workers" else {}):
        old = parse_config(tiny({"perturbation.workers": None, f"perturbation.{key}": value} | more))
        assert old == new and getattr(old.execution, key) == value
        assert key not in old.perturbation.model_dump()
    assert parse_config(tiny({"perturbation.workers": None, "execution.workers": 4})).execution.workers == 4
    assert set(MOVED) == {"perturbation.workers", "perturbation.memory_gib"}


def test_two_values_for_one_setting_are_refused():
    """Both places, both values, and which to keep; a wrong value at the old place is refused as at the new one."""
    with pytest.raises(ConfigError, match=r"perturbation.workers 2 and execution.workers 3 .* keep execution.workers"):
        parse_config(tiny({"perturbation.workers": 2, "execution.workers": 3}))
    with pytest.raises(ConfigError, match="execution.workers: 0 is not allowed"):
        parse_config(tiny({"perturbation.workers": 0}))
    with pytest.raises(ConfigError, match="execution: 3"):
        parse_config({**tiny(), "execution": 3})


def test_an_override_takes_the_place_of_the_other(tmp_path):
    """At either name, in notebook 2 and on the command line; config.yaml then has one of them."""
    run = make_run(tmp_path / "model_0_data_10", {"perturbation.memory_gib": 1.0})
    for key, value, gone in (("execution.workers", 2, "perturbation"), ("perturbation.workers", 4, "execution")):
        assert mv.open_run(run.folder, "perturb", {key: value}).config.execution.workers == value
        assert "workers" not in read_yaml(run.folder / CONFIG_NAME)[gone]
    assert mv.open_run(run.folder, "perturb", {"execution.memory_gib": 3.0}).config.execution.memory_gib == 3.0


def test_a_condition_at_the_new_place_updates_runs_at_the_old(tmp_path):
    """The difference has the new name; the run's config.yaml loses the old one. `--key` knows both."""
    write_yaml(tmp_path / CONFIG_NAME, tiny({"perturbation.workers": 1}))
    (run,) = mv.new_runs(tmp_path, [(0, 10)])
    content = tiny({"execution.workers": 2})
    del content["perturbation"]["workers"]
    write_yaml(tmp_path / CONFIG_NAME, content)
    assert [(d.key, d.condition, d.own, d.where) for d in mv.differences(tmp_path)] == [
        ("execution.workers", 2, 1, "condition")
    ]
    (update,) = mv.update_runs(tmp_path, keys=["perturbation.workers"], dry_run=False)
    assert update.changes == {"execution.workers": 2} and not update.refused
    assert read_yaml(run / CONFIG_NAME)["execution"] == {"workers": 2}
    assert not mv.differences(tmp_path)


def test_a_run_made_with_the_old_places_stays_complete(copied):
    """Nothing is stale after its settings have moved, and the numbers are asked for with the same fingerprints."""
    before = mv.stage_states(copied.folder)
    assert all(state.complete for state in before.values())
    content = read_yaml(copied.folder / CONFIG_NAME)
    assert content["perturbation"].pop("workers") == 1
    write_yaml(copied.folder / CONFIG_NAME, content)
    edit_config(copied.folder, {"execution.workers": 2, "execution.memory_gib": 1.0})
    assert all(state.complete for state in mv.stage_states(copied.folder).values())
