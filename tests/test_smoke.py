"""Every condition at smoke size: all stages in this process, and the notebooks of one condition of every folder in kernels."""

from __future__ import annotations

import time
from functools import lru_cache, partial
from pathlib import Path

import pytest
from helpers import tree
from original_files import write_cifar10, write_svhn

import minima_volume as mv
from minima_volume.config import load_config
from minima_volume.data import SOURCES
from minima_volume.data.mnist import FILES
from minima_volume.data.root import data_root
from minima_volume.layout import RUN_NOTEBOOKS, seeds_of
from minima_volume.runs.smoke import smoke, smoke_overrides

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
CONDITIONS = sorted(
    str(path.parent.relative_to(EXPERIMENTS))
    for path in EXPERIMENTS.rglob("config.yaml")
    if path.parent.name != "template" and seeds_of(path.parent) is None
)
# one of every folder; digits and swiss_roll are executed by test_notebooks.py
IN_KERNELS = [
    *("MNIST/batch_size", "FashionMNIST/low_data", "CIFAR10/poison", "SVHN/low_data", "modulo_arithmetic/grokking/p29"),
    *("sam/swiss_roll", "imbalanced_classes/MNIST", "shakespeare_char/low_data"),
]
SMALL_FILES = {"cifar10", "svhn"}
REAL_SETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(scope="module")
def kept():
    """Each real set is read and normalised once for all conditions and stages of this process, and not six times for each."""
    read = {name: lru_cache(maxsize=1)(partial(SOURCES[name], 0, 0)) for name in REAL_SETS}
    with pytest.MonkeyPatch.context() as patch:
        for name, source in read.items():
            patch.setitem(SOURCES, name, lambda seed, needed, source=source: source())
        yield


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


def run_smoke(name, root, tmp_path, monkeypatch, **options):
    """The copy's run folder after all stages, its results, and what they took."""
    monkeypatch.setenv("MINIMA_VOLUME_DATA", str(root))
    source = load_config(EXPERIMENTS / name / "config.yaml").data.source
    if source in REAL_SETS and not all((root / REAL_SETS[source] / "raw" / file).is_file() for file in FILES):
        pytest.skip(f"real {REAL_SETS[source]} is not under the data root; `make data` places it")
    overrides = {"data.options": {"checksums": False}} if source in SMALL_FILES else {}
    seconds = smoke(EXPERIMENTS / name, tmp_path, overrides, **options)
    (folder,) = tmp_path.glob("*/model_*_data_*")
    run = mv.open_run(folder)
    results = [
        mv.load_results(run.results_file(landscape, threshold))
        for landscape in run.config.data.levels
        for threshold in run.config.volume.loss_thresholds
    ]
    return run, results, seconds


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_runs_all_stages(name, root, kept, tmp_path, monkeypatch):
    """Complete, with a volume of at least one minimum, in seconds; figures of the first notebook are drawn."""
    before = tree(EXPERIMENTS / name) if not list((EXPERIMENTS / name).glob("model_*")) else None
    start = time.process_time()
    run, results, seconds = run_smoke(name, root, tmp_path, monkeypatch)
    assert time.process_time() - start < 40, seconds
    assert {stage: state.name for stage, state in mv.stage_states(run.folder).items()} == dict.fromkeys(
        seconds, "complete"
    )
    assert any(value is not None for result in results for value in result["log_volume_values"])
    trained = mv.load_models_and_data(run)
    mv.plots.samples(trained.dataset)
    mv.plots.training_curves(trained)
    mv.plots.predictions(trained, run.config.training.loss)
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


def test_there_is_a_condition_of_every_published_experiment():
    """Every folder has a template, at least one condition, and one that is executed in kernels."""
    folders = {name.split("/")[0] for name in CONDITIONS}
    assert folders == {path.parent.parent.name for path in EXPERIMENTS.glob("*/template/config.yaml")}
    assert folders == {name.split("/")[0] for name in IN_KERNELS} | {"digits", "swiss_roll"}
    assert set(IN_KERNELS) <= set(CONDITIONS) and len(CONDITIONS) == 32


@pytest.mark.notebooks
@pytest.mark.parametrize("name", IN_KERNELS)
def test_the_notebooks_of_every_experiment_folder(name, root, tmp_path, monkeypatch):
    """All five, each in a kernel of its own, with a figure in each of them."""
    run, results, _ = run_smoke(name, root, tmp_path, monkeypatch, notebooks=True)
    assert all(state.complete for state in mv.stage_states(run.folder).values())
    for notebook in RUN_NOTEBOOKS:
        assert "image/png" in (run.folder / notebook).read_text(encoding="utf-8"), notebook
    assert results


def test_smoke_from_the_command_line(cli, tmp_path):
    """Seconds of every stage; nothing is left in the condition; overrides are taken."""
    code, out, _ = cli("smoke", EXPERIMENTS / "swiss_roll" / "noise", "--set", "training.epochs=20")
    assert code == 0 and all(word in out for word in ("train ", "perturb ", "volume ", "cutoff ", "accuracy "))
    assert not list((EXPERIMENTS / "swiss_roll" / "noise").glob("model_*"))
    code, _, err = cli("smoke", tmp_path / "none")
    assert code == 1 and "does not exist" in err
