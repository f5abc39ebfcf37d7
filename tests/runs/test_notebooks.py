"""The notebooks: one source, thin, without outputs; executed for real in kernels of their own at tiny size."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from helpers import ROOT, SWISS, tiny, tree

import minima_volume as mv
from minima_volume.files.yaml import write_yaml
from minima_volume.runs.create import BATCH_NOTEBOOKS, notebook_source, sync_notebooks
from minima_volume.runs.execute import kernel_manager
from minima_volume.runs.pipeline import PipelineError, outcome_table, raise_failures, run_pipeline
from minima_volume.stages.run import RUN_NOTEBOOKS, STAGES, seeds_of

EXPERIMENTS = ROOT / "experiments"
ALL = (*RUN_NOTEBOOKS, *BATCH_NOTEBOOKS)


def cells(name: str) -> list[dict]:
    return json.loads(notebook_source(name))["cells"]


def code_of(name: str) -> str:
    lines = [
        line for cell in cells(name) if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()
    ]
    return "\n".join(line for line in lines if not line.startswith("%"))


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_is_stored_clean(name):
    """Valid, no outputs, no execution counts, cells with ids."""
    notebook = nbformat.reads(notebook_source(name), as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_has_one_parameters_cell(name):
    """Tagged `parameters`: run_folder and overrides in the five, condition first in the batch notebooks."""
    tagged = [cell for cell in cells(name) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse("".join(tagged[0]["source"])).body
    }
    if name in RUN_NOTEBOOKS:
        assert assigned == {"run_folder": ".", "overrides": {}}
    else:
        assert next(iter(assigned.items())) == ("condition", None)


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_only_calls_the_library(name):
    """No function, lambda or class, and every `mv.` name exists."""
    module = ast.parse(code_of(name))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    assert not [node for node in ast.walk(module) if isinstance(node, kinds)]
    used = [
        n
        for n in ast.walk(module)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "mv"
    ]
    assert used and all(hasattr(mv, node.attr) for node in used)


def test_the_notebooks_at_hand_are_those_of_the_package():
    """Every template has the five and the experiment folder above it the batch notebooks, byte for byte; no other stray copies."""
    templates = sorted(EXPERIMENTS.glob("*/template"))
    assert len(templates) >= 6
    expected = {template / name for template in templates for name in RUN_NOTEBOOKS}
    expected |= {template.parent / name for template in templates for name in BATCH_NOTEBOOKS}
    found = {path for path in EXPERIMENTS.rglob("*.ipynb") if seeds_of(path.parent) is None}
    expected.add(study := EXPERIMENTS / "weight_noise" / "Weight Noise Robustness.ipynb")
    assert {path for path in found if ".ipynb_checkpoints" not in path.parts} == expected
    for path in expected - {study}:
        assert path.read_bytes() == notebook_source(path.name).encode(), path


def test_sync_changes_nothing_that_is_in_order(tmp_path):
    """A copy of the experiments: nothing to write."""
    shutil.copytree(EXPERIMENTS, tmp_path, ignore=shutil.ignore_patterns("model_*", "analysis"), dirs_exist_ok=True)
    before = tree(tmp_path)
    assert len(before) >= 6 * 4
    assert sync_notebooks(tmp_path) == []
    assert tree(tmp_path) == before


# ---- executed for real

FEW = {"data.levels": [0, 20], "perturbation.num_directions": 6, "perturbation.shard_size": 4, "volume.top_k": 3}
DIGITS = {**FEW, "volume.loss_thresholds": [0.5], "volume.accuracy_thresholds": [0.8]}


@pytest.fixture(scope="module")
def digits_condition(tmp_path_factory):
    """The only condition of an experiment: made and run by the batch notebooks there, in kernels; its first run has a broken config."""
    experiment = tmp_path_factory.mktemp("experiments") / "digits"
    condition = experiment / "low_data" / "base"
    for folder in (experiment / "template", condition):
        write_yaml(folder / "config.yaml", tiny(DIGITS))
    sync_notebooks(experiment.parent)
    mv.new_runs(condition, [(0, 10)])
    broken = condition / "model_0_data_10" / "config.yaml"
    broken.write_text(broken.read_text(encoding="utf-8").replace("epochs: 30", "epochs: thirty"), encoding="utf-8")
    execute(experiment, "make_dataset_notebooks.ipynb", num_seeds=2)
    with pytest.raises(papermill.PapermillExecutionError, match=r"1 of 2 runs failed: model_0_data_10"):
        execute(experiment, "full_pipeline.ipynb")
    return condition


def execute(folder: Path, name: str, kernels: type | None = None, **parameters) -> None:
    """In an ordinary kernel, or in one of the pipeline's, which costs no imports."""
    papermill.execute_notebook(
        str(folder / name),
        str(folder / name),
        parameters=parameters,
        cwd=str(folder),
        progress_bar=False,
        log_output=False,
        **({} if kernels is None else {"kernel_manager_class": kernels}),
    )


def outputs(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    return json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])


@pytest.mark.notebooks
def test_the_good_run_is_complete_though_the_other_failed(digits_condition):
    """All five stages, executed notebooks with outputs and figures as the record, and no temporary file."""
    run = digits_condition / "model_1_data_11"
    assert {stage: state.name for stage, state in mv.stage_states(run).items()} == dict.fromkeys(STAGES, "complete")
    for name in RUN_NOTEBOOKS:
        notebook = nbformat.read(run / name, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), name
        assert "image/png" in outputs(run / name), name
        assert '"output_type": "error"' not in outputs(run / name)
    assert not list(digits_condition.rglob("*.executing.ipynb")) and not list(digits_condition.rglob("*.tmp"))
    assert mv.open_run(run).config.model_seed == 1


@pytest.mark.notebooks
def test_the_failed_run_keeps_its_traceback(digits_condition):
    """In its own first notebook; later notebooks were not started; config.yaml is as the user left it."""
    run = digits_condition / "model_0_data_10"
    assert "training.epochs: 'thirty' is not allowed" in outputs(run / RUN_NOTEBOOKS[0])
    for name in RUN_NOTEBOOKS[1:]:
        assert (run / name).read_text(encoding="utf-8") == notebook_source(name)
    assert {p.name for p in run.iterdir()} == {"config.yaml", *RUN_NOTEBOOKS}


@pytest.mark.notebooks
def test_the_pipeline_from_the_command_line(digits_condition, cli):
    """Complete stages are skipped without a kernel, the failure is in the table and on standard error, exit code 1."""
    record = (digits_condition / "model_1_data_11" / RUN_NOTEBOOKS[0]).read_bytes()
    code, out, err = cli("pipeline", digits_condition, "--quiet")
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("model_")}
    assert code == 1
    assert rows["model_1_data_11"].split()[1:] == ["skipped"] * 5
    assert "failed" in rows["model_0_data_10"] and rows["model_0_data_10"].count("not reached") == 4
    assert "1 of 2 runs failed: model_0_data_10, 'Train Low Test Models.ipynb': ConfigError:" in err
    assert "training.epochs" in err and "Traceback" not in err
    assert (digits_condition / "model_1_data_11" / RUN_NOTEBOOKS[0]).read_bytes() == record


@pytest.mark.notebooks
def test_the_analysis_notebook(digits_condition):
    """Figures and tables in the condition's analysis/, nothing beside the notebook; the run without results is named."""
    experiment = digits_condition.parents[1]
    execute(experiment, "analyze_experiments_data.ipynb", kernel_manager({}))
    assert "not analyzed: model_0_data_10" in outputs(experiment / "analyze_experiments_data.ipynb")
    assert {p.name for p in experiment.iterdir()} == {"template", "low_data", *BATCH_NOTEBOOKS}
    names = {p.name for p in (digits_condition / "analysis").iterdir()}
    tables = ("all_minima", "aggregates", "comparisons", "cutoffs", "orders", "summary")
    assert {f"{name}.csv" for name in tables} | {"summary.txt"} < names
    assert "differences.csv" not in names  # no volume here is an estimate
    figures = {Path(name).stem for name in names if name.endswith(".svg")}
    assert {"log_volume_against_data", "test_loss_against_log_volume", "test_accuracy_against_data"} < figures
    assert all({f"{name}.png", f"{name}.csv"} < names for name in figures)


@pytest.mark.notebooks
def test_batch_notebooks_where_there_are_several_conditions(digits_condition, tmp_path):
    """Without a name an error lists them and nothing is written; with one, that condition; a copy in a condition folder means that folder."""
    experiment, forked = tmp_path / "digits", kernel_manager({})
    base, poison = experiment / "low_data" / "base", experiment / "poison"
    shutil.copytree(digits_condition.parents[1] / "template", experiment / "template")
    for condition in (base, poison):
        shutil.copytree(digits_condition, condition, ignore=shutil.ignore_patterns("analysis"))
    sync_notebooks(tmp_path)
    before = tree(base), tree(poison)
    with pytest.raises(papermill.PapermillExecutionError, match="set condition to one of: 'low_data/base', 'poison'"):
        execute(experiment, "full_pipeline.ipynb", forked)
    assert (tree(base), tree(poison)) == before
    execute(
        experiment,
        "analyze_experiments_data.ipynb",
        forked,
        condition="low_data/base",
        compare_with={"poisoned": "poison"},
    )
    assert (base / "analysis" / "conditions.png").is_file() and tree(poison) == before[1]
    shutil.copy(experiment / "Run Volume Parallel.ipynb", poison)
    with pytest.raises(papermill.PapermillExecutionError, match="1 of 2 runs failed: model_0_data_10"):
        execute(poison, "Run Volume Parallel.ipynb", forked)
    assert "skipped" in outputs(poison / "Run Volume Parallel.ipynb")


@pytest.mark.notebooks
def test_the_five_notebooks_on_the_swiss_roll(tmp_path):
    """One after another as a user opens them (the first two in kernels of their own), with overrides in the first, and a figure in each."""
    folder = tmp_path / "model_0_data_10"
    write_yaml(folder / "config.yaml", tiny({**SWISS, **FEW}))
    for name in RUN_NOTEBOOKS:
        (folder / name).write_text(notebook_source(name), encoding="utf-8")
    for i, name in enumerate(RUN_NOTEBOOKS):
        overrides = {"overrides": {"training.epochs": 50}} if i == 0 else {}
        execute(folder, name, kernel_manager({}) if i > 1 else None, **overrides)
        assert "image/png" in outputs(folder / name), name
    assert all(state.complete for state in mv.stage_states(folder).values())
    assert mv.open_run(folder).config.training.epochs == 50
    assert len(mv.load_models_and_data(mv.open_run(folder)).records[0]["train_loss"]) == 50


# ---- the pipeline without kernels


@pytest.fixture
def fake_papermill(monkeypatch):
    """Execute a notebook by running its stage in this process."""
    from minima_volume.runs.states import run_stage

    def run_notebook(source, target, **options):
        stage = next(key for key, name in STAGES.items() if name == Path(source).name)
        shutil.copy(source, target)
        if "model_1" in source and stage == "perturb":
            raise RuntimeError("no kernel\nsecond line")
        if "model_2" not in source:
            run_stage(mv.open_run(Path(source).parent, stage), stage, progress=False)

    monkeypatch.setattr(papermill, "execute_notebook", run_notebook)


def test_outcomes_of_runs_that_fail_in_different_ways(tmp_path, fake_papermill):
    """Done; an exception; a notebook that ran but wrote nothing; a missing notebook. The others go on, all are named."""
    few = {
        "data.levels": [0],
        "perturbation.num_directions": 2,
        "volume.loss_thresholds": [0.5],
        "volume.accuracy_thresholds": None,
    }
    write_yaml(tmp_path / "config.yaml", tiny({**few, "training.epochs": 20}))
    runs = mv.new_runs(tmp_path, mv.seed_pairs(4))
    (runs[3] / RUN_NOTEBOOKS[0]).unlink()
    outcomes = run_pipeline(tmp_path, progress=False)
    found = {run.name: [o.outcome for o in outcomes if o.run == run.name] for run in runs}
    assert found == {
        "model_0_data_10": ["done"] * 5,
        "model_1_data_11": ["done", "failed", *["not reached"] * 3],
        "model_2_data_12": ["failed", *["not reached"] * 4],
        "model_3_data_13": ["failed", *["not reached"] * 4],
    }
    with pytest.raises(PipelineError) as failure:
        raise_failures(outcomes)
    message = str(failure.value)
    assert message.startswith("3 of 4 runs failed: ")
    assert "model_1_data_11, 'Random Perturbs.ipynb': RuntimeError: no kernel;" in message
    assert "model_2_data_12, 'Train Low Test Models.ipynb': the notebook ran, but its files are missing" in message
    assert (
        "model_3_data_13, 'Train Low Test Models.ipynb': Train Low Test Models.ipynb is not in the run folder"
        in message
    )
    assert not list(tmp_path.rglob(".*"))
    table = outcome_table(outcomes)
    assert list(table.columns) == list(STAGES) and list(table.index) == [run.name for run in runs]
    assert table.loc["model_1_data_11", "cutoff"] == "not reached"
    again = run_pipeline(tmp_path, runs[:1], progress=False)
    assert [o.outcome for o in again] == ["skipped"] * 5
    raise_failures(again)


def test_a_run_whose_files_cannot_even_be_looked_at_does_not_stop_the_others(tmp_path, fake_papermill):
    """A trained run whose own model file raises something unforeseen on import."""
    few = {
        "data.levels": [0],
        "perturbation.num_directions": 2,
        "volume.loss_thresholds": [0.5],
        "volume.accuracy_thresholds": None,
    }
    write_yaml(
        tmp_path / "config.yaml", tiny({**few, "training.epochs": 20, "model.name": "own:build", "model.options": {}})
    )
    runs = mv.new_runs(tmp_path, [(3, 13), (0, 10)])
    own = (
        "from minima_volume.models.mlp import MLP\ndef build(shape, outputs):\n    {}return MLP(shape, outputs, [4])\n"
    )
    for run in runs:
        (run / "own.py").write_text(own.format(""), encoding="utf-8")
    mv.train_models(mv.open_run(runs[0], "train"), progress=False)
    (runs[0] / "own.py").write_text(own.format("raise KeyError(3); "), encoding="utf-8")
    outcomes = run_pipeline(tmp_path, runs, progress=False)
    assert [o.outcome for o in outcomes] == ["failed", *["not reached"] * 4, *["done"] * 5]
    assert "KeyError" in outcomes[0].error
