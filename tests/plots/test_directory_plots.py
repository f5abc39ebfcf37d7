"""Figures of an experiment directory show the numbers of its log and its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from directory_cases import samples, trained

from minima_volume.plots.directories import draw_directory, latent_pairs, latent_plane, loss_curves

IMAGES = {
    "train.data_path": "i.npy",
    "train.loader_class": "ImageDataLoader",
    "val": {"data_path": "i.npy", "loader_class": "ImageDataLoader"},
    "model.params.channels": [3],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    np.save("i.npy", np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8))


def test_curves_are_those_of_the_log():
    """Training and validation loss in one panel, each further metric in its own."""
    history = trained().history()
    figure = loss_curves(history, best=2)
    assert len(figure.axes) == len(history) - 1
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(lines["train loss"]) == list(history["train_loss"].values())
    assert list(lines["val loss"]) == list(history["val_loss"].values())


def test_the_latent_plane_has_the_variables_that_carry_most():
    """By their KL terms, largest first."""
    mean = np.arange(12.0).reshape(4, 3)
    axis = latent_plane(mean, np.array([0.1, 3.0, 2.0])).axes[0]
    assert axis.lines[0].get_xdata().tolist() == mean[:, 1].tolist()
    assert axis.lines[0].get_ydata().tolist() == mean[:, 2].tolist()
    assert "variable 1 (3.00 nats)" in axis.get_xlabel()


def test_pairs_of_the_latent_variables_that_carry_most():
    """The four largest of five: a distribution of each, a panel per pair."""
    mean = np.arange(30.0).reshape(6, 5)
    figure = latent_pairs(mean, np.array([0.5, 4.0, 3.0, 0.1, 2.0]))
    assert len(figure.axes) == 4 + 6
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert [title.split(":")[0] for title in titles] == [f"variable {i}" for i in (1, 2, 4, 0)]
    pair = next(axis for axis in figure.axes if (axis.get_xlabel(), axis.get_ylabel()) == ("variable 1", "variable 0"))
    assert pair.lines[0].get_xdata().tolist() == mean[:, 1].tolist()
    assert pair.lines[0].get_ydata().tolist() == mean[:, 0].tolist()


def test_what_there_is_is_drawn(cli):
    """Into figures/; an SAE of embeddings has its curves alone; without a log there are no curves."""
    trained({**IMAGES, "experiment.name": "i"})
    code, out, _ = cli("draw", "runs/i")
    assert code == 0 and [Path(line).name for line in out.split()] == [
        "loss_curves.png",
        "reconstructions.png",
        "latent_plane.png",
    ]
    sparse = trained({"model": {"class": "SAE", "params": {"hidden_dim": 5}}, "train.loss": {"class": "SAELoss"}})
    assert [path.name for path in draw_directory(sparse.folder)] == ["loss_curves.png"]
    sparse.log_file.unlink()
    assert draw_directory(sparse.folder) == []
    assert "is no experiment directory" in cli("draw", "elsewhere")[2]
