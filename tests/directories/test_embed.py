"""Embeddings and predictions: the model's own numbers, in the order of the samples, of the checkpoint that was asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from directories.test_directory_sources import table_config
from directory_cases import embedding, files, prediction, samples, trained

from minima_volume.directories.arrays import read_npy, write_npy
from minima_volume.directories.embed import embed_directory, predict_directory
from minima_volume.directories.load import load
from minima_volume.directories.metrics import NAMES
from minima_volume.errors import ConfigError, DamagedFileError, MissingStageError
from minima_volume.files.atomic import read_json

SOURCE = {"data_path": "x.npy", "loader_class": "EmbeddingDataLoader"}
OWN = """
import torch
from torch import nn

class Linear(nn.Module):
    def __init__(self, shape, size=2):
        super().__init__()
        self.down, self.up = nn.Linear(shape[0], size), nn.Linear(size, shape[0])

    def embed(self, x):
        return self.down(x)

    def forward(self, x):
        return {"code": self.down(x), "copy": self.up(self.down(x))}

def squared(outputs, x, weight=1.0):
    return weight * (outputs["copy"] - x).square().mean(-1)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


def silent(line: str) -> None:
    return None


@pytest.mark.parametrize("strategy", ["best", "last", "epoch_1"])
def test_embeddings_are_posterior_means_of_the_checkpoint(strategy):
    """Against the saved weights by hand; a split of a file in the file's order."""
    directory = trained({"train.epochs": 4, "model.params.hidden_dims": [16]})
    written = embed_directory(
        embedding(checkpoint={"load_strategy": strategy}, train=SOURCE, test={**SOURCE, "data_path": "x.npy:test"}),
        say=silent,
    )
    assert [str(path) for path in written] == [
        f"runs/a/embeddings/{split}_embeddings.npy" for split in ("train", "test")
    ]
    state = torch.load(directory.checkpoint(strategy), weights_only=True)["model_state_dict"]
    x = torch.from_numpy(samples())
    hidden = (x @ state["encoder.1.weight"].T + state["encoder.1.bias"]).relu()
    mean = (hidden @ state["encoder.3.weight"].T + state["encoder.3.bias"])[:, :2]
    np.testing.assert_allclose(np.load(written[0]), mean.numpy(), rtol=1e-5, atol=1e-6)
    every, part = map(np.load, written)
    distances = np.abs(every[None] - part[:, None]).max(-1)
    assert part.shape == (4, 2) and distances.min(1).max() < 1e-5 and (np.diff(distances.argmin(1)) > 0).all()


def test_an_sae_learns_embeddings_and_gives_codes():
    """From the directory of one model into that of another; its predictions have the shape of its inputs."""
    trained()
    embed_directory(embedding(train=SOURCE), say=silent)
    overrides = {
        "experiment.name": "s",
        "model": {"class": "SAE", "params": {"hidden_dim": 6, "activation": "topk", "k": 2}},
        "train.loss": {"class": "SAELoss"},
        "train.data_path": "runs/a/embeddings/train_embeddings.npy",
        "val": None,
    }
    sparse = trained(overrides)
    assert sparse.config().model.params.input_dim == 2
    source = {"data_path": "runs/a/embeddings/train_embeddings.npy", "loader_class": "EmbeddingDataLoader"}
    checkpoint = {"path": "runs/s"}
    codes = np.load(
        embed_directory(embedding(checkpoint=checkpoint, train={**source, "output": "codes.npy"}), say=silent)[0]
    )
    assert codes.shape == (40, 6) and (np.count_nonzero(codes, axis=1) <= 2).all()
    path = predict_directory(
        prediction(checkpoint=checkpoint, test={**source, "output": "elsewhere/p.npy"}), say=silent
    )
    assert str(path) == "elsewhere/p.npy" and np.load(path).shape == (40, 2)
    with pytest.raises(
        ConfigError, match=r"runs/s/checkpoints/best_model.pt is of a model that takes other samples .* shape \(4,\)"
    ):
        embed_directory(embedding(checkpoint=checkpoint, train=SOURCE), say=silent)
    with pytest.raises(ConfigError, match="model.class is 'VAE', but .* holds 'SAE'"):
        load(embedding(checkpoint=checkpoint, model={"class": "VAE"}, train=SOURCE))


def test_metrics_of_a_prediction_are_those_of_its_validation():
    """The same draws of the latent variables, so the same numbers; the importance-weighted bound is tighter."""
    directory = trained()
    test = {**SOURCE, "data_path": "x.npy:val", "metrics": {"compute": True, "importance_samples": 50}}
    path = predict_directory(prediction(checkpoint={"load_strategy": "last"}, test=test), say=silent)
    assert files(directory.folder)[-2:] == ["predictions/test_metrics.json", "predictions/test_predictions.npy"]
    found, history = read_json(path.with_name("test_metrics.json")), directory.history()
    assert set(found) == {f"test_{name}" for name in (*NAMES["VAE"], "kl_per_dimension", "nll")}
    for name in ("loss", "elbo", "kl"):
        assert found[f"test_{name}"] == pytest.approx(history[f"val_{name}"][3], rel=1e-5)
    assert sum(found["test_kl_per_dimension"]) == pytest.approx(found["test_kl"])
    np.save("x.npy", samples(4000))  # so that a draw per sample decides the bound to 0.03 nats
    test = {**SOURCE, "metrics": {"compute": True, "importance_samples": 50}}
    predict_directory(prediction(test=test), say=silent)
    found = read_json(path.with_name("test_metrics.json"))
    assert found["test_nll"] < -found["test_elbo"] - 0.1  # three times what the draws leave open


def test_predictions_of_a_table_are_in_its_units():
    """Numbers near the data, categories as codes."""
    directory = trained({**table_config(500), "train.epochs": 60})
    source = {"data_path": "t.csv", "loader_class": "TabularDataLoader"}
    values = np.load(predict_directory(prediction(test=source), say=silent))
    assert values.shape == (500, 4) and 0 < values[:, 0].mean() < 2405 and set(values[:, 2:].ravel()) <= {0, 1}
    data = {"columns": {"numerical": ["hour", "miles"], "categorical": ["to", "by"]}}
    with pytest.raises(
        ConfigError, match="data.columns: hour, miles, to, by; the model was trained on miles, hour, to, by"
    ):
        predict_directory(prediction(data=data, test=source), say=silent)
    assert directory.finished


def test_a_model_and_a_loss_of_ones_own():
    """Found beside the config; several outputs become a .npz with their names, without a pickle."""
    Path("mine.py").write_text(OWN)
    overrides = {
        "model": {"class": "mine:Linear", "params": {"size": 3}},
        "train.loss": {"class": "mine:squared", "params": {"weight": 2.0}},
    }
    directory = trained({**overrides, "train.epochs": 10})
    losses = directory.history()["val_loss"]
    assert losses[10] < losses[1] and set(directory.history()) == {"train_loss", "val_loss"}
    places = [Path.cwd()]
    assert np.load(embed_directory(embedding(val=SOURCE), places, silent)[0]).shape == (40, 3)
    path = predict_directory(prediction(test=SOURCE), places, silent)
    assert path.name == "test_predictions.npz"
    with np.load(path, allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"code": (40, 3), "copy": (40, 4)}
    with pytest.raises(ConfigError, match=r"model.params \{'width': 3\} do not fit model 'mine:Linear'"):
        trained({**overrides, "model": {"class": "mine:Linear", "params": {"width": 3}}})


def test_a_missing_checkpoint_names_what_there_is_and_what_to_check():
    """Log, strategy and disk."""
    trained({"checkpoint.save_strategy": "last"})
    with pytest.raises(MissingStageError) as failure:
        embed_directory(embedding(train=SOURCE), say=silent)
    for words in (
        "best_model.pt does not exist",
        "has last_model.pt",
        "logs/training.log",
        "save_strategy (last here)",
        "disk",
    ):
        assert words in str(failure.value)
    with pytest.raises(MissingStageError, match="There is no directory elsewhere; paths are relative to"):
        load(embedding(checkpoint={"path": "elsewhere"}, train=SOURCE))
    Path("runs/a/checkpoints/best_model.pt").write_bytes(b"half")
    with pytest.raises(DamagedFileError):
        load(embedding(train=SOURCE))
    for path in ("runs/a/checkpoints", "runs/a", "runs/a/checkpoints/last_model.pt"):
        wanted = {"path": path, "load_strategy": "last"}
        assert load(embedding(checkpoint=wanted, train=SOURCE)).path.name == "last_model.pt"


def test_arrays_are_written_in_chunks_and_whole_or_not_at_all():
    """60,000 rows with the memory of one chunk; a failure leaves the old file."""
    tracemalloc.start()
    path = write_npy(Path("a.npy"), 60_000, (np.full((1000, 100), i, dtype="f4") for i in range(60)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6 and read_npy(path).shape == (60_000, 100) and float(read_npy(path)[-1, 0]) == 59
    with pytest.raises(ValueError, match="1000 rows were computed, 5 expected"):
        write_npy(path, 5, iter([np.zeros((1000, 2))]))
    assert read_npy(path).shape == (60_000, 100)
