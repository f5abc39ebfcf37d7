"""Many run folders at once: making pairs, copying a file to all, cleaning by kind."""

from __future__ import annotations

import json
import shutil

import nbformat
import pytest
from helpers import make_run, tiny, tree

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.files.lock import LOCK_NAME
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.clean import KINDS, clean_all, files_of
from minima_volume.runs.create import notebook_source
from minima_volume.runs.origin import ORIGINS
from minima_volume.runs.propagate import all_runs, plan_propagation, propagate
from minima_volume.stages.run import PERTURB, RUN_NOTEBOOKS


@pytest.fixture
def experiment(tmp_path):
    """Two conditions of two runs each; beside them a link to a run elsewhere."""
    for condition in ("low", "high"):
        write_yaml(tmp_path / "experiment" / condition / "config.yaml", tiny())
        mv.new_runs(tmp_path / "experiment" / condition, mv.seed_pairs(2))
    make_run(tmp_path / "elsewhere" / "model_9_data_19")
    (tmp_path / "experiment" / "low" / "model_9_data_19").symlink_to(tmp_path / "elsewhere" / "model_9_data_19")
    return tmp_path / "experiment"


def executed(notebook, text):
    """Give a notebook's code cells an output, and a cell that papermill injects."""
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text=text)], 1
    injected = nbformat.v4.new_code_cell('run_folder = "."', metadata={"tags": ["injected-parameters"]})
    content.cells.insert(2, injected)
    content.metadata["papermill"] = {"duration": 3.0}
    nbformat.write(content, notebook)


# ---- making


def test_pairs_or_the_full_cross(tmp_path):
    """A condition that fixes the data seed has one for all."""
    assert mv.seed_pairs(3) == [(0, 10), (1, 11), (2, 12)]
    assert mv.seed_pairs(2, cross=True) == [(0, 10), (0, 11), (1, 10), (1, 11)]
    write_yaml(tmp_path / "config.yaml", tiny({"seeds.data": 5}))
    assert mv.seed_pairs(2, tmp_path, cross=True) == mv.seed_pairs(2, tmp_path) == [(0, 5), (1, 5)]


def test_overwriting_is_asked_for_and_never_of_what_was_computed(experiment):
    """Config and notebooks anew in a run that has made nothing, edited ones by force; with a model in one of two nothing changes."""
    condition = experiment / "high"
    runs = mv.find_runs(condition)
    write_yaml(condition / "config.yaml", tiny({"training.epochs": 77}))
    (runs[0] / PERTURB).write_text("mine", encoding="utf-8")
    before = tree(condition)
    mv.new_runs(condition, mv.seed_pairs(2))
    assert tree(condition) == before
    (runs[1] / "models_and_data").mkdir()
    (runs[1] / "models_and_data" / "model_additional_0.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model_1_data_11 has computed something \(model_additional_0.pt"):
        mv.new_runs(condition, mv.seed_pairs(2), overwrite=True)
    assert (runs[0] / PERTURB).read_text(encoding="utf-8") == "mine"
    with pytest.raises(ConfigError, match=r"model_0_data_10/Random Perturbs.ipynb: edited since .* --force"):
        mv.new_runs(condition, mv.seed_pairs(1), overwrite=True)
    assert (runs[0] / PERTURB).read_text(encoding="utf-8") == "mine"
    mv.new_runs(condition, mv.seed_pairs(1), overwrite=True, force=True)
    assert (runs[0] / PERTURB).read_text(encoding="utf-8") == notebook_source(PERTURB)
    assert mv.open_run(runs[0]).config.training.epochs == 77
    with pytest.raises(ConfigError, match="is a link"):
        mv.new_runs(experiment / "low", [(9, 19)], overwrite=True)


# ---- copying a file


def test_run_folders_are_found_below_an_experiment_and_not_through_links(experiment):
    """Ordered by condition and seeds."""
    names = [str(run.relative_to(experiment.resolve())) for run in all_runs(experiment)]
    assert names == [f"{c}/model_{i}_data_1{i}" for c in ("high", "low") for i in (0, 1)]


def test_propagating_shows_what_differs_then_copies(experiment):
    """A changed notebook: one run has an older one with outputs, one lacks it, one is a link, one is the same."""
    runs = all_runs(experiment)
    source = experiment / PERTURB
    content = nbformat.reads(notebook_source(PERTURB), as_version=4)
    content.cells[-2].source += "\nprint(run)"
    nbformat.write(content, source)
    executed(runs[0] / PERTURB, "walked")
    (runs[1] / PERTURB).unlink()
    (runs[2] / PERTURB).unlink()
    (runs[2] / PERTURB).symlink_to(experiment.parent / "elsewhere" / "victim")
    shutil.copy(source, runs[3] / PERTURB)
    before = tree(experiment.parent)
    plan = propagate(source, experiment)
    assert [copy.state for copy in plan] == ["differs", "new", "refused", "same"]
    assert plan[0].difference[-1] == "+print(run)" and len(plan[0].difference) <= 3
    assert tree(experiment.parent) == before
    assert [copy.state for copy in propagate(source, experiment, dry_run=False)] == [c.state for c in plan]
    after = tree(experiment.parent)
    changed = {name for name in after if after[name] != before.get(name)}
    runs_changed = {f"experiment/high/model_{i}_data_1{i}/{PERTURB}" for i in (0, 1)}
    assert changed == runs_changed | {f"experiment/high/{ORIGINS}"}
    kept = nbformat.read(runs[0] / PERTURB, as_version=4)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [bool(cell.outputs) for cell in code] == [cell.source in notebook_source_cells() for cell in code]
    assert [copy.state for copy in propagate(source, experiment)] == ["same", "same", "refused", "same"]
    assert propagate(source, experiment, keep_outputs=False)[0].state == "differs"


def notebook_source_cells():
    return ["".join(cell["source"]) for cell in json.loads(notebook_source(PERTURB))["cells"]]


def test_what_is_not_propagated(experiment, tmp_path):
    """config.yaml, a file that is not there, a folder without runs."""
    with pytest.raises(ConfigError, match="is each run's own"):
        plan_propagation(experiment / "low" / "config.yaml", experiment)
    with pytest.raises(ConfigError, match="is not a file"):
        plan_propagation(experiment / "nothing.py", experiment)
    (tmp_path / "own.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no run folders"):
        plan_propagation(tmp_path / "own.py", tmp_path / "empty")


def test_propagate_from_the_command_line(experiment, cli):
    """Nothing is written without --yes."""
    own = experiment / "own.py"
    own.write_text("x = 1\n", encoding="utf-8")
    code, out, _ = cli("propagate", own, experiment)
    assert (
        code == 0
        and out.splitlines()[-1] == "4 of 4 files would be written"
        and not list(experiment.rglob("m*/own.py"))
    )
    code, out, _ = cli("propagate", own, experiment, "--yes")
    assert code == 0 and out.splitlines()[-1] == "4 of 4 files were written"
    assert [run / "own.py" for run in all_runs(experiment)] == sorted(experiment.resolve().rglob("m*/own.py"))


# ---- cleaning


def test_every_kind_says_what_it_takes_to_have_it_again():
    """Six kinds."""
    assert list(KINDS) == ["results", "sweeps", "models", "datasets", "outputs", "plots"]
    assert all("again" in text for text in KINDS.values())


def test_datasets_plots_and_outputs(copied):
    """Each kind by itself; the notebooks stay, as they were before they were executed."""
    for name in RUN_NOTEBOOKS:
        (copied.folder / name).write_text(notebook_source(name), encoding="utf-8")
    executed(copied.folder / PERTURB, "walked")
    found = {kind: {str(p.relative_to(copied.folder)) for p in files_of(copied.folder, kind)} for kind in KINDS}
    assert found["datasets"] == {"models_and_data/dataset.pt"}
    assert found["outputs"] == {PERTURB}
    assert "loss_curves.png" in found["plots"] and all(name.endswith(".png") for name in found["plots"])
    assert found["plots"] < found["results"] < found["sweeps"] < found["models"] and found["datasets"] < found["models"]
    before = set(tree(copied.folder))
    for kind in ("plots", "datasets", "outputs"):
        removed = clean_all(copied.folder.parent, kind, dry_run=False)
        assert list(removed) == [copied.folder]
    assert before - set(tree(copied.folder)) == found["plots"] | found["datasets"]
    assert (copied.folder / PERTURB).read_text(encoding="utf-8") == notebook_source(PERTURB)


@pytest.mark.parametrize("name", ["models_and_data", "data_0/loss_0.5", "cutoffs", ".sweep_shards"])
def test_nothing_is_removed_through_a_link(name, copied, tmp_path):
    """A folder of the run that is a link: what it points to stays."""
    (copied.folder / name).mkdir(exist_ok=True)
    shutil.move(copied.folder / name, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "more.png").write_bytes(b"x")
    (copied.folder / name).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    before = tree(tmp_path / "elsewhere")
    for kind in KINDS:
        clean_all(copied.folder, kind, dry_run=False)
    assert tree(tmp_path / "elsewhere") == before and len(before) >= 1


def test_what_a_run_wrote_elsewhere_is_left_alone(copied, tmp_path):
    """experiment.output_dir outside of the run folder: nothing of it is listed."""
    text = (copied.folder / "config.yaml").read_text(encoding="utf-8")
    shutil.copytree(copied.folder / "models_and_data", tmp_path / "out" / "models_and_data")
    (copied.folder / "config.yaml").write_text(
        text.replace(
            "name: tiny digits", f"name: tiny digits\n  output_dir: {tmp_path / 'out'}\n  allow_outside: true"
        ),
        encoding="utf-8",
    )
    assert mv.open_run(copied.folder).models == tmp_path / "out" / "models_and_data"
    assert all(files_of(copied.folder, kind) == [] for kind in ("models", "sweeps", "datasets"))


def test_clean_of_a_whole_condition(copied, cli):
    """A line for each run, the sizes, what it takes; a lock left behind is in nobody's way."""
    condition = copied.folder.parent
    write_yaml(condition / "config.yaml", tiny())
    mv.new_runs(condition, [(3, 13)])
    before = tree(condition)
    code, out, _ = cli("clean", condition, "--what", "sweeps")
    assert code == 0 and tree(condition) == before
    lines = out.splitlines()
    assert lines[1].endswith("model_3_data_13: 0 files, 0.0 MB") and "to the last bit on the same machine" in lines[2]
    code, out, _ = cli("clean", condition, "--what", "sweeps", "--yes")
    assert code == 0 and not list(condition.rglob("*.npz")) and not list(condition.rglob(LOCK_NAME))
