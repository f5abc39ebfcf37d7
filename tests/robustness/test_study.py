"""A whole study: files, merging, resuming, refusing."""

from __future__ import annotations

import csv
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from robustness_cases import tiny_study

from minima_volume.config.noise import parse_noise_config
from minima_volume.errors import DamagedFileError, StaleError
from minima_volume.files.atomic import read_json, read_pt, write_json
from minima_volume.files.yaml import read_yaml
from minima_volume.robustness.images import load_images
from minima_volume.robustness.run import run_study
from minima_volume.robustness.study import Network, Study
from minima_volume.robustness.tables import SUMMARY, SUMMARY_KEY, SWEEP, merged
from minima_volume.robustness.train import train_network, trained_model
from minima_volume.robustness.words import describe_results, describe_status

FOLDER = ROOT / "experiments/weight_noise"
DIGITS = ["data.source=digits", "training.epochs=1"]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Study:
    """Both architectures in one batch."""
    torch.set_num_threads(1)
    study = tiny_study(tmp_path_factory.mktemp("study"))
    run_study(study, say=lambda text: None)
    return study


def content(study: Study) -> dict:
    return {key: value for key, value in read_json(study.results_file).items() if key != "provenance"}


def test_files_as_the_study_names_them(done: Study):
    """Published columns first; a line per network and per network and alpha."""
    for name, columns, lines in (("summary", SUMMARY, 8), ("sweep", SWEEP, 24)):
        with (done.results / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0])[: len(columns)] == columns and len(rows) == lines
        assert {"dataset", "alpha_train", "draws", "recalibrated"} <= set(rows[0])
    assert sorted(path.name for path in done.checkpoints.glob("*.pt"))[0] == "cnn_clean_seed0.pt"
    results = content(done)
    assert tuple(results)[:2] == ("summary", "sweep") and len(results["verdicts"]) == 2
    hit = [row["tensor"] for row in results["tensors"]["mlp_clean_seed0"] if row["hit"]]
    assert hit == ["layers.1.weight", "layers.3.weight"]
    assert results["noise"] == {"scaling": "sample_std", "names": "weights", "seed": 1}


def test_rows_say_what_the_networks_do(done: Study):
    """acc_0 is the checkpoint's accuracy on the test images, and the drop is the difference."""
    images = load_images(done.config.data)
    for row in content(done)["summary"]:
        network = Network(row["architecture"], row["regime"], row["seed"])
        with torch.no_grad():
            right = trained_model(done, network, images)(images.x_test).argmax(1) == images.y_test
        assert row["acc_0"] == pytest.approx(float(right.double().mean()))
        assert row["drop_at_01"] == pytest.approx(row["acc_0"] - row["acc_01"])
        assert row["alpha_train"] == (0.2 if row["regime"] == "noisy" else 0.0)


def test_clean_and_noisy_networks_begin_alike_and_end_apart(done: Study):
    """One seed: the same initial weights and batches, so only the noise tells them apart."""
    images = load_images(done.config.data)
    first, second = (Network("mlp", regime, 0) for regime in ("clean", "noisy"))
    a, b = (done.build(network, images).state_dict() for network in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)
    a, b = (read_pt(done.checkpoint(network))["state_dict"] for network in (first, second))
    assert not torch.equal(a["layers.1.weight"], b["layers.1.weight"])


def test_noise_of_0_is_clean_training(tmp_path: Path):
    """To the bit."""
    study = tiny_study(tmp_path, {"noise.alpha_train": 0})
    images = load_images(study.config.data)
    for network in study.networks(["mlp"])[::2]:
        train_network(study, network, images)
    a, b = (read_pt(study.checkpoint(Network("mlp", regime, 0)))["state_dict"] for regime in ("clean", "noisy"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "batches",
    [
        [(["cnn"], [0, 1]), (["mlp"], [0, 1])],
        [(["mlp", "cnn"], [1]), (["mlp", "cnn"], [0])],
    ],
    ids=["architectures", "seeds"],
)
def test_two_batches_are_one(done: Study, tmp_path: Path, batches):
    """In any order, by architecture or by seed: the same tables and verdicts, and a line reports that rows were merged."""
    said: list[str] = []
    for architectures, seeds in batches:
        study = tiny_study(tmp_path, {"seeds.training": seeds})
        run_study(study, architectures, say=said.append)
    assert content(study) == content(done)
    for name in ("summary.csv", "sweep.csv"):
        assert (study.results / name).read_bytes() == (done.results / name).read_bytes()
    assert [line for line in said if line.startswith("merged with 4 networks of earlier runs")]


def test_again_nothing_is_done(done: Study):
    """No file changes but the tables, which say the same."""
    before = content(done)
    times = {path: path.stat().st_mtime_ns for path in done.checkpoints.rglob("*.pt")}
    said: list[str] = []
    run_study(done, ["mlp"], say=said.append)
    assert [line for line in said if "done before" in line] == said[:4]
    assert content(done) == before and times == {path: path.stat().st_mtime_ns for path in times}


def test_other_settings_are_refused(done: Study, tmp_path: Path):
    """Tables first, then checkpoints: keys, both values, the way out; --fresh overwrites tables, never checkpoints."""
    folder = tmp_path / "copy"
    shutil.copytree(done.results.parent, folder)
    other = tiny_study(folder, {"training.epochs": 3})
    with pytest.raises(StaleError, match=r"results.json was made with .*training.epochs 2, now 3.*--fresh"):
        run_study(other, ["mlp"], say=lambda text: None)
    with pytest.raises(StaleError, match=r"mlp_clean_seed0.pt was made with .*training.epochs 2, now 3.*--output"):
        run_study(other, ["mlp"], fresh=True, say=lambda text: None)
    wide = tiny_study(folder, {"architectures.mlp": {"hidden": [8]}})
    with pytest.raises(StaleError, match=r"architectures.mlp.hidden \[16\], now \[8\]"):
        run_study(wide, ["mlp"], say=lambda text: None)
    shutil.rmtree(other.checkpoints)
    results = run_study(other, ["mlp"], fresh=True, say=lambda text: None)
    assert {row["architecture"] for row in results["summary"]} == {"mlp"}


def test_more_draws_measure_again_and_train_nothing(done: Study, tmp_path: Path):
    """The checkpoints stay; a network's rows are replaced."""
    folder = tmp_path / "copy"
    shutil.copytree(done.results.parent, folder)
    said: list[str] = []
    results = run_study(tiny_study(folder, {"noise.draws": 6}), ["mlp"], say=said.append)
    assert said[0] == "mlp_clean_seed0: measured"
    assert {(row["architecture"], row["draws"]) for row in results["summary"]} == {("mlp", 6), ("cnn", 3)}


def test_noise_beyond_all_numbers(tmp_path: Path):
    """Outputs that are no numbers have no loss: null in results.json, an empty cell in the table."""
    study = tiny_study(tmp_path, {"noise.alpha_test": [0, 0.1, 1e38]})
    found = run_study(study, ["mlp"], say=lambda line: None)
    rows = [row for row in found["sweep"] if row["alpha_test"] == 1e38]
    assert rows and all(row["loss"] is None and row["acc"] < 0.5 for row in rows)
    assert all(row["loss"] > 0 for row in found["sweep"] if row["alpha_test"] < 1)
    assert read_json(study.results_file)["sweep"] == found["sweep"]
    with (study.results / "sweep.csv").open() as file:
        assert [row["loss"] for row in csv.DictReader(file) if row["alpha_test"] == "1e+38"] == [""] * len(rows)


def test_batch_normalisation_and_attention(tmp_path: Path):
    """resnet18 has its accuracies with recalibrated statistics, a second mean drop and a verdict; vit has none of the former."""
    sizes = {
        "data.train_size": 130,
        "data.test_size": 60,
        "training.epochs": 1,
        "seeds.training": [0],
        "noise.draws": 2,
    }
    study = tiny_study(tmp_path, {**sizes, "noise.alpha_test": [0, 0.1], "noise.recalibration_size": 50})
    architectures = {"resnet18": {}, "vit": {"num_layers": 1, "hidden_dim": 16, "mlp_dim": 16, "num_heads": 2}}
    study = replace(study, config=study.config.model_copy(update={"architectures": architectures}))
    results = run_study(study, say=lambda text: None)
    rows = {(row["architecture"], row["regime"]): row for row in results["summary"]}
    resnet, vit = rows["resnet18", "clean"], rows["vit", "clean"]
    assert resnet["recalibrated"] and not vit["recalibrated"]
    difference = resnet["acc_0_recalibrated"] - resnet["acc_01_recalibrated"]
    assert resnet["drop_at_01_recalibrated"] == pytest.approx(difference)
    assert vit["acc_0_recalibrated"] is None
    means = {(row["architecture"], row["regime"]): row for row in results["mean_drops"]}
    assert means["resnet18", "noisy"]["drop_recalibrated"]["mean"] == pytest.approx(
        rows["resnet18", "noisy"]["drop_at_01_recalibrated"]
    )
    assert means["vit", "noisy"]["drop_recalibrated"] is None and len(results["verdicts"]) == 2


def test_keys_are_typed():
    """A seed read as text is the same seed: no row twice. A row without its key is refused."""
    old = [{"architecture": "mlp", "regime": "clean", "seed": "0", "acc_0": 1.0}]
    assert len(merged(old, [{"architecture": "mlp", "regime": "clean", "seed": 0}], SUMMARY_KEY, "old")) == 1
    with pytest.raises(DamagedFileError, match="old: a row has no usable architecture, regime, seed"):
        merged([{"architecture": "mlp", "regime": "clean", "seed": None}], [], SUMMARY_KEY, "old")


def test_text_for_a_terminal(done: Study):
    """The published header, a verdict per architecture, and what is trained."""
    text = describe_results(read_json(done.results_file))
    assert text.splitlines()[0].split() == ["Architecture", "Regime", "Seed", "Acc(0)", "Acc(0.1)", "Drop"]
    assert text.count("drop at alpha 0.1, noisy minus clean") == 2
    assert describe_status(done).count("yes") == 16
    assert "with other settings" in describe_status(tiny_study(done.results.parent, {"training.epochs": 9}))


def test_an_interrupted_training_goes_on_to_the_bit(tmp_path: Path):
    """Stopped by an exception after the first of three epochs, in another process's place."""
    whole, cut = (tiny_study(tmp_path / name, {"training.epochs": 3}) for name in ("whole", "cut"))
    network = Network("cnn", "noisy", 1)
    images = load_images(whole.config.data)
    train_network(whole, network, images)

    def stop(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_network(cut, network, images, stop)
    assert "epoch 1 of 3" in describe_status(cut, ["cnn"])
    train_network(cut, network, images)
    a, b = (read_pt(study.checkpoint(network)) for study in (whole, cut))
    assert a["train_loss"] == b["train_loss"]
    assert all(torch.equal(a["state_dict"][key], b["state_dict"][key]) for key in a["state_dict"])
    assert not cut.unfinished(network).exists()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_killed_and_run_again(tmp_path: Path, cli):
    """kill -9 in the middle of the first training; the same command then ends with the results of one that was never killed."""
    arguments = [
        *("mlp", "--set", "data.source=digits", "--set", "execution.workers=1", "--set", "seeds.training=[0]"),
        *("--set", "training.epochs=40", "--set", "architectures.mlp.hidden=[16]"),
    ]
    command = [sys.executable, str(FOLDER / "run_experiments.py"), *arguments, "--output", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    unfinished = tmp_path / "killed/checkpoints/unfinished/mlp_clean_seed0.pt"
    deadline = time.monotonic() + 120
    while not unfinished.is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/results/results.json").exists()
    for name in ("killed", "whole"):
        code, _, err = cli("noise", "run", *arguments, "--folder", FOLDER, "--output", tmp_path / name)
        assert code == 0, err
    found = [read_json(tmp_path / name / "results/results.json") for name in ("killed", "whole")]
    assert found[0]["summary"] == found[1]["summary"] and found[0]["sweep"] == found[1]["sweep"]


def test_a_damaged_results_file(done: Study, tmp_path: Path):
    """Is named; nothing is trained."""
    study = tiny_study(tmp_path)
    study.results.mkdir(parents=True)
    study.results_file.write_text("{")
    with pytest.raises(DamagedFileError, match=r"results.json is not valid JSON"):
        run_study(study, ["mlp"], say=lambda text: None)
    write_json(study.results_file, content(done) | {"settings": {}})
    with pytest.raises(StaleError, match="training.epochs None, now 2"):
        run_study(study, ["mlp"], say=lambda text: None)
    assert not study.checkpoints.exists()


def test_an_architecture_that_does_not_exist(cli, tmp_path: Path):
    """One line, exit code 1, nothing written."""
    code, _, err = cli("noise", "run", "mlpp", "--folder", FOLDER, "--output", tmp_path / "out")
    assert (code, err) == (1, "error: architecture 'mlpp' is not known; allowed: mlp, cnn, resnet18, vit\n")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The study's folder as a user has it, on digits."""
    copy = tmp_path_factory.mktemp("weight_noise") / "weight_noise"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("checkpoints", "results", "__pycache__"))
    return copy


@pytest.fixture
def script(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a script of the folder as `python NAME ARGUMENTS` does, in this process: (exit code, what it printed, its error)."""

    def run(name: str, *arguments: str) -> tuple[object, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code: object = 0
        try:
            runpy.run_path(name, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_scripts_by_their_own_command_lines(script):
    """From that folder, in the order of the study's readme; each prints what the readme says."""
    sets = [word for setting in DIGITS for word in ("--set", setting)]
    assert script("data.py", *DIGITS)[1].startswith("Train batch: x.shape=torch.Size([128, 3, 8, 8]), ")
    models = script("models.py", "architectures.vit.num_layers=1")[1]
    assert [line.split(",")[0] for line in models.splitlines()] == [
        f"{n}: ok" for n in ("mlp", "cnn", "resnet18", "vit")
    ]
    assert script("noise.py")[1].splitlines()[-1] == "noise.py: apply/remove ok"
    assert script("evaluate.py", *DIGITS)[1].startswith("no MLP checkpoints yet")
    assert script("train.py", *DIGITS)[1].count("saved") == 2
    code, text, _ = script("sanity_check.py", *sets)
    assert code == int("Sanity OK: noisy-trained has smaller or similar drop." not in text)
    assert "clean: acc@0" in text and "noisy: acc@0" in text
    found = script("evaluate.py", *DIGITS)[1]
    assert found.count("acc@0 ") == 2 and "checkpoints/sanity/mlp_clean_seed0.pt: " in found
    assert script("train.py", "training.epochs=0")[0] == (
        "error: config.yaml: training.epochs: 0 is not allowed: it should be greater than or equal to 1"
    )


def test_sanity_networks_never_meet_those_of_a_run(script, folder: Path):
    """A run of more epochs after the sanity check trains its own."""
    sets = [
        "--set",
        "data.source=digits",
        "--set",
        "training.epochs=2",
        "--set",
        "seeds.training=[0]",
        "--set",
        "execution.workers=1",
    ]
    script("sanity_check.py", "--set", "data.source=digits")
    code, text, _ = script("run_experiments.py", "mlp", *sets)
    assert code == 0 and "mlp_clean_seed0: trained and measured" in text
    assert (folder / "results/summary.csv").is_file()


def test_settings_as_published():
    """config.yaml says what was published."""
    config = parse_noise_config(read_yaml(FOLDER / "config.yaml"))
    assert config.noise.alpha_test == [0, 0.01, 0.02, 0.05, 0.1, 0.2] and config.noise.draws == 5
    assert len(Study.of(config, FOLDER).networks()) == 24
    assert (config.training.epochs, config.training.batch_size, config.training.weight_decay) == (10, 128, 0)
