"""Values of another kind in what a run holds, under checksums that are right: one line that names the file."""

from __future__ import annotations

import pytest
import torch

from minima_volume.files.atomic import read_json, read_pt, write_json, write_pt


@pytest.mark.parametrize(
    ("key", "value"), [("num_params", None), ("model_data_levels", 3), ("left_out_params", 3), ("settings", 3)]
)
def test_results_with_a_value_of_another_kind_are_named(copied, cli, key, value):
    """Under a hash that is right: the stage and the analysis name the file in one line, or write it anew."""
    path = copied.results_file(0, 0.5)
    write_json(path, read_json(path) | {key: value})
    code, _, err = cli("run", copied.folder, "--stage", "volume", "--quiet")
    assert code in (0, 1) and (code == 0 or ("results.json" in err and err.count("\n") == 1))
    write_json(path, read_json(path) | {key: value})
    code, _, err = cli("analyze", copied.folder.parent)
    assert code == 1 and "results.json" in err and "Traceback" not in err


def test_a_data_set_with_settings_of_another_kind_is_named(copied, cli):
    write_pt(copied.dataset_file, read_pt(copied.dataset_file) | {"settings": torch.zeros(3)})
    for stage in ("train", "perturb"):
        code, _, err = cli("run", copied.folder, "--stage", stage, "--quiet")
        assert code == 1 and "dataset.pt" in err and err.count("\n") == 1


@pytest.mark.parametrize(("key", "value"), [("additional_data", "x"), ("settings", torch.zeros(3))])
def test_a_model_with_a_value_of_another_kind_is_named(copied, cli, key, value):
    path = copied.model_file(0)
    write_pt(path, read_pt(path) | {key: value})
    for stage in ("train", "perturb", "volume"):
        code, _, err = cli("run", copied.folder, "--stage", stage, "--quiet")
        assert code == 1 and "model_additional_0.pt" in err and err.count("\n") == 1
