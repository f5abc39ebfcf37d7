"""Every condition at smoke size: its five stages; one condition of each kind through its notebooks, in kernels."""

from __future__ import annotations

import pytest
from helpers import ROOT, tree
from original_files import write_cifar10, write_svhn

import minima_volume as mv
from minima_volume.config.run import load_config
from minima_volume.data.mnist import FILES
from minima_volume.data.root import data_root
from minima_volume.runs.conditions import is_condition
from minima_volume.runs.smoke import smoke, smoke_overrides
from minima_volume.stages.run import RUN_NOTEBOOKS, STAGES

EXPERIMENTS = ROOT / "experiments"
CONDITIONS = sorted(
    str(path.parent.relative_to(EXPERIMENTS)) for path in EXPERIMENTS.rglob("config.yaml") if is_condition(path.parent)
)
SMALL_FILES = {"cifar10", "svhn"}
# conditions differ only in config.yaml, so what their notebooks show depends on these kinds; test_notebooks.py has two
# more: grey images with additional data (digits), and points in the plane with two classes (the swiss roll)
KINDS = {
    "imbalanced_classes/CIFAR10": "images in colour, unequal classes",
    "modulo_arithmetic/grokking/p29": "a series of epochs, mean squared error",
    "MNIST/batch_size": "a series of batch sizes",
    "shakespeare_char/low_data": "text, a transformer",
}
REAL_SETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with small CIFAR-10 and SVHN files, a text, and the real MNIST sets where they are at hand."""
    folder = tmp_path_factory.mktemp("data")
    write_cifar10(folder)
    write_svhn(folder)
    line = "It was the best of times, it was the worst of times, it was the age of wisdom.\n"
    (folder / "shakespeare_char.txt").write_text(line * 20, encoding="utf-8")
    for name in REAL_SETS.values():
        if (data_root() / name).is_dir():
            (folder / name).symlink_to((data_root() / name).resolve())
    return folder


@pytest.mark.notebooks
@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition(name, root, tmp_path, monkeypatch):
    """Complete, with a volume of at least one minimum; of each kind a figure in each notebook; the condition itself is not written to."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(root))
    source = load_config(EXPERIMENTS / name / "config.yaml").data.source
    if source in REAL_SETS and not all((root / REAL_SETS[source] / "raw" / file).is_file() for file in FILES):
        pytest.skip(f"real {REAL_SETS[source]} is not under the data root; `make data` places it")
    before = tree(EXPERIMENTS / name) if not list((EXPERIMENTS / name).glob("model_*")) else None
    overrides = {"data.options": {"checksums": False}} if source in SMALL_FILES else {}
    smoke(EXPERIMENTS / name, tmp_path, overrides, notebooks=name in KINDS)
    (folder,) = tmp_path.glob("*/model_*_data_*")
    run = mv.open_run(folder)
    assert {stage: state.name for stage, state in mv.stage_states(folder).items()} == dict.fromkeys(STAGES, "complete")
    for stage, notebook in zip(STAGES, RUN_NOTEBOOKS, strict=True) if name in KINDS else ():
        drawn = "image/png" in (folder / notebook).read_text(encoding="utf-8")
        assert drawn == (stage != "cutoff" or len(run.config.data.levels) > 1), notebook
    results = [
        mv.load_results(run.results_file(landscape, threshold))
        for landscape in run.config.data.levels
        for threshold in run.config.volume.loss_thresholds
    ]
    assert any(value is not None for result in results for value in result["log_volume_values"])
    assert before is None or tree(EXPERIMENTS / name) == before


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_smoke_size_keeps_what_sets_a_condition_apart(name):
    """Variant, imbalance, SAM, kind of series, depth."""
    full = load_config(EXPERIMENTS / name / "config.yaml")
    changed = set(smoke_overrides(full))
    for key in ("data.source", "data.variant", "data.imbalance", "model.name", "training.sam", "training.optimizer"):
        assert key not in changed
    small = smoke_overrides(full)
    assert ("training.checkpoints" in small) == (full.variation == "epoch")
    assert ("training.batch_sizes" in small) == (full.variation == "batch_size")
    assert (len(small["data.levels"]) > 1) == (len(full.data.levels) > 1)
    for key, value in full.model.options.items():
        if isinstance(value, list):
            assert len(small["model.options"][key]) == len(value)


def test_the_kinds_are_conditions():
    """None of those that run in kernels was renamed or removed."""
    assert set(KINDS) <= set(CONDITIONS)


def test_there_is_a_condition_of_every_published_experiment():
    """Every folder has a template and at least one condition."""
    folders = {name.split("/")[0] for name in CONDITIONS}
    assert folders == {path.parent.parent.name for path in EXPERIMENTS.glob("*/template/config.yaml")}


def test_smoke_from_the_command_line(cli, tmp_path):
    """Seconds of every stage; nothing is left in the condition; overrides are taken."""
    code, out, _ = cli("smoke", EXPERIMENTS / "swiss_roll" / "noise", "--set", "training.epochs=20")
    assert code == 0 and all(word in out for word in ("train ", "perturb ", "volume ", "cutoff ", "accuracy "))
    assert not list((EXPERIMENTS / "swiss_roll" / "noise").glob("model_*"))
    code, _, err = cli("smoke", tmp_path / "none")
    assert code == 1 and "does not exist" in err
