"""A run is what its seeds are: two folders of the same seeds are never counted as two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_results import fake_condition
from helpers import tiny, tree

import minima_volume as mv
from minima_volume.analysis import collect
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import write_yaml
from minima_volume.reports.analyze import analyze
from minima_volume.reports.html import write_report
from minima_volume.runs.create import new_folder
from minima_volume.runs.status import describe_status, status

TWIN = r"model_0_data_10 and model_00_data_010 are the same run \(model seed 0, data seed 10\); remove one of the two folders"


@pytest.fixture
def condition(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    write_yaml(folder / "config.yaml", tiny())
    return folder


def test_everything_that_takes_a_condition_refuses_twins(tmp_path: Path):
    """One message, whoever asks; with one of the folders removed all is well again."""
    condition = fake_condition(tmp_path / "base", seeds=2)
    shutil.copytree(condition / "model_0_data_10", condition / "model_00_data_010")
    doors: tuple[Callable[[Path], object], ...] = (
        *(collect, analyze, write_report, status, mv.find_runs, mv.status_table),
        lambda folder: mv.run_pipeline(folder, progress=False),
        lambda folder: mv.run_pipeline(folder, sorted(folder.glob("model_*")), progress=False),
        lambda folder: mv.new_runs(folder, [(5, 15)]),
        lambda folder: analyze(tmp_path / "other", compare_with={"twins": folder}),
    )
    fake_condition(tmp_path / "other", seeds=2)
    for door in doors:
        with pytest.raises(ConfigError, match="are the same run"):
            door(condition)
    with pytest.raises(ConfigError, match=TWIN):
        mv.find_runs(condition)
    shutil.rmtree(condition / "model_0_data_10")
    assert collect(condition).table["run"].nunique() == 2


def test_a_link_is_the_run_it_leads_to(tmp_path: Path):
    """Under whatever name: the seeds are those of the folder behind it."""
    condition = fake_condition(tmp_path / "base", seeds=2)
    (condition / "model_7_data_17").symlink_to(condition / "model_0_data_10", target_is_directory=True)
    with pytest.raises(ConfigError, match=r"model_0_data_10 and model_7_data_17 are the same run \(model seed 0"):
        collect(condition)


def test_seeds_that_only_config_says(tmp_path: Path):
    """A link to a folder of another name, whose config.yaml has the seeds of a run that is there."""
    condition = fake_condition(tmp_path / "base", seeds=2)
    shutil.copytree(condition / "model_1_data_11", tmp_path / "spare")
    text = (tmp_path / "spare" / "config.yaml").read_text(encoding="utf-8")
    (condition / "model_8_data_18").symlink_to(tmp_path / "spare", target_is_directory=True)
    assert "model: 1" in text and "data: 11" in text
    with pytest.raises(ConfigError, match=r"model_1_data_11 and model_8_data_18 are the same run \(model seed 1"):
        collect(condition)


def test_new_runs_find_what_is_there(condition: Path):
    """A run that is there under another spelling is that run; no second one is made, and a pair given twice is one run."""
    (there,) = mv.new_runs(condition, [(0, 10)])
    spelled = there.rename(condition / "model_00_data_010")
    before = tree(condition)
    assert mv.new_runs(condition, [(0, 10), (0, 10)]) == [spelled]
    assert tree(condition) == before
    assert [run.name for run in mv.new_runs(condition, [(0, 10), (1, 11)])] == ["model_00_data_010", "model_1_data_11"]


def test_a_folder_from_a_template_is_no_twin(condition: Path):
    """`new FOLDER --template` refuses a second folder of the same seeds and writes nothing."""
    mv.new_runs(condition, [(0, 10)])
    before = tree(condition.parent)
    with pytest.raises(ConfigError, match=TWIN):
        new_folder(condition / "model_00_data_010", condition)
    assert tree(condition.parent) == before


def test_status_calls_a_linked_run_by_the_name_in_its_folder(copied, tmp_path):
    """Not by its target's, which is in another folder; the run that is asked for alone keeps its own, however it is named."""
    condition = tmp_path / "linking"
    condition.mkdir()
    linked = condition / "model_7_data_17"
    linked.symlink_to(copied.folder)
    for asked in (condition, linked):
        assert {row.run for row in status(asked)} == {"model_7_data_17"}
        assert "model_7_data_17" in describe_status(status(asked))
    assert {row.run for row in status(copied.models / "..")} == {copied.folder.name}
