"""Metrics of autoencoders against plain loops over samples in float64, and what has no value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from directory_cases import prediction, samples, trained
from torch.distributions import Categorical, Normal, kl_divergence

from minima_volume.config.directory import CheckpointOf, Data, PredictConfig, Source
from minima_volume.config.errors import parse
from minima_volume.directories.embed import predict_directory
from minima_volume.directories.load import Checkpoint, find, load_file
from minima_volume.directories.metrics import measure
from minima_volume.directories.sources import CHUNK, open_samples
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import read_json
from minima_volume.losses.generative import Bernoulli, Columns
from minima_volume.losses.generative import Gaussian as GaussianLikelihood
from minima_volume.models.sae import SAE as SparseAutoencoder
from minima_volume.models.vae import VAE
from minima_volume.seeding import generator, normals

SAE = {
    "model": {"class": "SAE", "params": {"hidden_dim": 6, "activation": "topk", "k": 2}},
    "train.loss": {"class": "SAELoss"},
    "train.epochs": 2,
}
SOURCE = {"data_path": "x.npy", "loader_class": "EmbeddingDataLoader"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())


def stored(values: np.ndarray):
    """Samples of a file, as a training reads them."""
    np.save("own.npy", values)
    return open_samples(parse(Source, {**SOURCE, "data_path": "own.npy"}, "test"), "test", Data())[0]


@pytest.mark.parametrize("activation", ["l1", "topk", "batch_topk"])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_a_sparse_autoencoder_by_a_plain_loop(activation, offset):
    """Sample by sample, atom by atom, over more than one chunk."""
    x = samples(CHUNK + 37) + np.float32(offset)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SparseAutoencoder(4, 7, activation, None if activation == "l1" else 2)
    with torch.no_grad():
        model.decoder.weight.mul_(3)  # atoms have norm 1 whatever this is
        model.decoder.bias.copy_(torch.from_numpy(x.mean(0)))
        model.encoder.bias[5] = -1e4  # dead
        model.threshold.fill_(0.4)
    criterion = lambda outputs, x: (outputs["reconstruction"] - x).square().sum(-1)  # noqa: E731
    found = measure(model.eval(), criterion, stored(x), 0)
    weight, bias = (p.detach().double().numpy() for p in (model.encoder.weight, model.encoder.bias))
    atoms, center = model.decoder.weight.detach().double().numpy().T, model.decoder.bias.detach().double().numpy()
    atoms = atoms / np.sqrt((atoms**2).sum(1, keepdims=True))
    error = square = spread = active = 0.0
    seen = np.zeros(7, bool)
    mean = x.astype("f8").mean(0)
    for row in x.astype("f8"):
        code = np.maximum(weight @ (row - center) + bias, 0)
        if activation == "topk":
            code[np.argsort(code)[:-2]] = 0
        if activation == "batch_topk":
            code[code < 0.4] = 0
        error += ((code @ atoms + center - row) ** 2).sum()
        square, spread = square + (row**2).sum(), spread + ((row - mean) ** 2).sum()
        active, seen = active + (code > 0).sum(), seen | (code > 0)
    assert found["normalized_mse"] == pytest.approx(error / square, rel=1e-4)
    assert found["variance_explained"] == pytest.approx(1 - error / spread, rel=1e-4)
    assert found["l0"] == pytest.approx(active / len(x), rel=2e-3)  # a code at the threshold may round to either side
    assert found["dead_features"] == pytest.approx((~seen).mean()) and not seen[5]
    assert found["loss"] == pytest.approx(error / len(x), rel=1e-4)


@pytest.mark.parametrize(
    "likelihood",
    [GaussianLikelihood((4,), 0.7), Bernoulli((4,)), Columns(2, (3, 2), 0.7)],
    ids=lambda kind: type(kind).__name__,
)
def test_a_vae_by_a_plain_loop(likelihood):
    """By torch.distributions, sample by sample, at the draws of the generator called validation; more than one chunk."""
    random = np.random.default_rng(1)
    x = random.random((CHUNK + 11, 4)).astype("f4")
    if isinstance(likelihood, Columns):
        x[:, 2], x[:, 3] = random.integers(0, 3, len(x)), random.integers(0, 2, len(x))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(likelihood, 2, [5]).eval()
    samples_, found = stored(x), {}
    for count in (0, 3):
        found[count] = measure(model, lambda outputs, x: outputs["mean"].sum(-1), samples_, 9, count)
    noise, rows, divergences, means = generator(9, "validation"), [], [], []
    draws = torch.cat([normals(noise, CHUNK, 2), normals(noise, 11, 2)])
    with torch.no_grad():
        for one, draw in zip(torch.from_numpy(x), draws, strict=True):
            mean, log_variance = model.encode(one[None])
            posterior = Normal(mean[0].double(), (log_variance[0].double() / 2).exp())
            parameters = model.decoder((mean + (log_variance / 2).exp() * draw[None]).float())[0].double()
            rows.append(float(log_prob(likelihood, parameters, one)))
            divergences.append(kl_divergence(posterior, Normal(0.0, 1.0)).sum().item())
            means.append(mean[0].tolist())
    assert found[0]["reconstruction"] == pytest.approx(-np.mean(rows), rel=1e-5)
    assert found[0]["kl"] == pytest.approx(np.mean(divergences), rel=1e-4)
    assert found[0]["elbo"] == pytest.approx(np.mean(rows) - np.mean(divergences), rel=1e-5)
    assert found[0]["active_units"] == (np.var(means, axis=0) > 0.01).sum()
    assert found[0]["loss"] == pytest.approx(np.sum(means, axis=1).mean(), rel=1e-4)
    assert {name: found[3][name] for name in found[0]} == found[0]  # nll takes draws of its own
    assert found[3]["nll"] < -found[3]["elbo"] + 0.05


def log_prob(likelihood, parameters: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if isinstance(likelihood, GaussianLikelihood):
        return Normal(parameters, likelihood.scale).log_prob(x.double()).sum()
    if isinstance(likelihood, Bernoulli):
        p = parameters.sigmoid()
        return (x * p.log() + (1 - x) * (1 - p).log()).sum()
    numbers = Normal(parameters[:2], likelihood.scale).log_prob(x[:2].double()).sum()
    first, second = Categorical(logits=parameters[2:5]), Categorical(logits=parameters[5:7])
    return numbers + first.log_prob(x[2].long()) + second.log_prob(x[3].long())


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 1e-3, 77.7])
@pytest.mark.parametrize("rows", [3, 50, 1500])
def test_equal_samples_have_no_variance_to_explain(value, rows):
    """NaN, and not the error over what rounding leaves of a variance of 0."""
    model = SparseAutoencoder(3, 5)
    x = np.full((rows, 3), value, "f4") * np.array([1, 2, 3], "f4")
    found = measure(model.eval(), lambda outputs, x: outputs["code"].sum(-1), stored(x), 0)
    assert math.isnan(found["variance_explained"]) and math.isfinite(found["normalized_mse"])


@pytest.mark.parametrize(
    ("values", "metric", "reason"),
    [
        (samples()[:1], "val_variance_explained", "since own.npy holds one sample"),
        (np.full((9, 4), 0.1, "f4"), "val_variance_explained", "since all samples of own.npy are equal"),
        (np.zeros((9, 4), "f4"), "val_normalized_mse", "since all samples of own.npy are 0"),
    ],
)
@pytest.mark.parametrize("key", ["checkpoint.metric", "val.early_stopping"])
def test_a_watched_metric_without_a_value_is_refused_before_training(values, metric, reason, key):
    """Its reason is in the data, so no learning rate would help; the advice does."""
    np.save("own.npy", values)
    said = metric if key == "checkpoint.metric" else {"patience": 2, "metric": metric}
    overrides = {**SAE, "val.data_path": "own.npy", key: said}
    with pytest.raises(ConfigError, match=f"'{metric}' is undefined, {reason}; name another metric, such as val_loss"):
        trained(overrides)
    assert not Path("runs").exists()
    assert trained({**overrides, key: "val_loss" if isinstance(said, str) else {"patience": 2}}).finished


def test_undefined_metrics_of_predictions_are_null():
    """One sample has no variance: the file of metrics is written nevertheless."""
    trained(SAE)
    np.save("own.npy", samples()[:1])
    predict_directory(_measured({}, "own.npy"), say=lambda line: None)
    found = read_json(Path("runs/a/predictions/test_metrics.json"))
    assert found["test_variance_explained"] is None and found["test_normalized_mse"] > 0


def _measured(loss: dict[str, object], path: str = "x.npy") -> PredictConfig:
    return prediction(test={**SOURCE, "data_path": path, "metrics": {"compute": True, **loss}})


OWN = """
def mean(outputs, x):
    return (outputs["reconstruction"] - x).square().sum(-1).mean()

def one(outputs, x):
    return mean(outputs, x).reshape(1)

def each(outputs, x):
    return (outputs["reconstruction"] - x).square()

def number(outputs, x):
    return mean(outputs, x).item()

def right(outputs, x):
    return (outputs["reconstruction"] - x).square().sum(-1)
"""


@pytest.mark.parametrize(
    ("name", "got"),
    [("mean", r"shape \(\)"), ("one", r"shape \(1,\)"), ("each", r"shape \(40, 4\)"), ("number", "a float")],
)
def test_a_loss_that_is_not_one_per_sample(name, got):
    """A mean over the batch was divided by the number of samples once more: 40 times too small here."""
    Path("own.py").write_text(OWN)
    loss, words = {"class": f"own:{name}"}, f"'own:{name}' must give one loss per sample, .* got "
    with pytest.raises(ConfigError, match=words):
        trained({**SAE, "train.loss": loss})
    with pytest.raises(ConfigError, match=words + got):
        trained({**SAE, "val.loss": loss, "val.data_path": "x.npy"})
    directory = trained({**SAE, "val.loss": {"class": "own:right"}, "val.data_path": "x.npy"})
    kept: Checkpoint = load_file(find(CheckpointOf(), directory.folder))
    x = torch.from_numpy(samples())
    with torch.no_grad():
        plain = float((kept.model((4,), "cpu", [])(x)["reconstruction"] - x).square().sum(-1).mean())
    assert directory.history()["val_loss"][kept.content["epoch"]] == pytest.approx(plain, rel=1e-4)
    with pytest.raises(ConfigError, match=words + got):
        predict_directory(_measured({"loss": loss}), [Path.cwd()], say=lambda line: None)
