"""Several trainings that differ in one number: their table is what each directory says by itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from directory_cases import content, samples

from minima_volume.directories.directory import Directory
from minima_volume.directories.series import series_of, tabulate_series, train_series
from minima_volume.directories.volume import Landscape, Measured, measure_directory
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import write_yaml
from minima_volume.plots.series import series_figure
from minima_volume.volume.context import Context
from minima_volume.volume.gaussian.estimate import LocalVolume
from minima_volume.volume.gaussian.settings import Gaussian

SAE = {
    "model": {"class": "SAE", "params": {"hidden_dim": 8, "activation": "topk", "k": 1}},
    "train.loss": {"class": "SAELoss"},
    "train.epochs": 20,
    "checkpoint.save_strategy": "best",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples(rows=80, width=6))


def test_a_curve_of_sparsities(cli):
    """One command: a directory per value, a table and a figure; again with one value more, only that one is trained."""
    write_yaml(Path("sae.yaml"), content(SAE))
    command = ["series", "sae.yaml", "model.params.k"]
    code, out, _ = cli(*command, "4", "1", "--quiet")
    assert code == 0 and "runs/a_k.csv" in out and Path("runs/a_k.png").is_file()
    first = Directory(Path("runs/a_k_1"))
    before = first.checkpoint("best").read_bytes()
    code, _, text = cli(*command, "1", "4", "2")
    assert code == 0 and text.count("is finished; nothing to do") == 2
    assert first.checkpoint("best").read_bytes() == before
    table = pd.read_csv("runs/a_k.csv")
    assert table["model.params.k"].tolist() == [1, 2, 4]
    for k, row in table.set_index("model.params.k").iterrows():
        history = Directory(Path(f"runs/a_k_{k:g}")).history()
        assert row["loss"] == pytest.approx(history["val_loss"][int(row["epoch"])], rel=1e-5)
        assert row["l0"] <= k + 1e-9


def test_volumes_along_a_series(cli):
    """The table's log mass is that of `volume DIRECTORY`; the figure has it at its place."""
    write_yaml(Path("vae.yaml"), content({"checkpoint.save_strategy": "best"}))
    arguments = [
        "series",
        "vae.yaml",
        "train.loss.params.beta",
        "0.5",
        "2",
        "--sigma",
        "0.02",
        "--rise",
        "0.5",
        "--samples",
        "20",
    ]
    assert cli(*arguments, "--quiet")[0] == 0
    table = pd.read_csv("runs/a_beta.csv")
    alone = measure_directory(Path("runs/a_beta_2"), Gaussian(sigma=0.02), Landscape(20, rise=0.5), progress=False)
    assert table["log_mass"].iloc[1] == pytest.approx(alone.volume.log_mass, abs=1e-6)
    assert table["threshold"].iloc[1] == pytest.approx(alone.threshold)
    points = [line for line in series_figure(table).axes[1].lines if len(line.get_xdata()) == 1]
    assert any(
        line.get_xdata()[0] == 2 and math.isclose(line.get_ydata()[0], table["log_mass"].iloc[1]) for line in points
    )


def test_a_volume_that_is_only_bounded_has_no_number(monkeypatch):
    """Its cell is empty, and its lower limit stays."""
    series = series_of(content({"train.epochs": 1}), "train.loss.params.beta", [0.5, 2])
    train_series(series, say=lambda line: None)

    def bounded(*arguments, **options) -> Measured:
        context = Context(1.0, "loss", "own", 20, "", {"scaling": "filter"})
        return Measured(0.5, 1.0, LocalVolume(-9.62, (-13.3, None), "splitting", sigma=0.1, context=context))

    monkeypatch.setattr("minima_volume.directories.series.measure_directory", bounded)
    table = tabulate_series(series, how=Gaussian(sigma=0.1), progress=False)
    assert table["log_mass"].isna().all() and table["log_mass_low"].tolist() == [-13.3, -13.3]


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("model.params.k", [1], "needs two values"),
        ("model.params.k", [1, 1, 2], "each once"),
        ("model.params.kk", [1, 2], "did you mean k"),
        ("model.params.k", [1, 2.5], "model.params.k"),
        ("model.params.k", [1, 9], "larger than hidden_dim"),
    ],
)
def test_values_that_cannot_be_trained(key, values, words):
    """Nothing is trained: all configs are read first."""
    with pytest.raises(ConfigError, match=words):
        series_of(content(SAE), key, values)
    assert not Path("runs").exists()
