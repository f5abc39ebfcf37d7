"""Configs of experiment directories: the schema of the seed, and what is wrong in words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from minima_volume.config.directory import EmbedConfig, PredictConfig, TrainConfig, resolved
from minima_volume.config.errors import parse
from minima_volume.errors import ConfigError
from minima_volume.files.yaml import set_dotted

BASE: dict[str, Any] = {
    "experiment": {"name": "baseline", "output_dir": "experiments/vae"},
    "model": {"class": "VAE", "params": {"latent_dim": 2, "hidden_dims": [8]}},
    "train": {
        "data_path": "digits",
        "loader_class": "ImageDataLoader",
        "epochs": 2,
        "optimizer_config": {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
        "loss": {"class": "VAELoss", "params": {"beta": 1.0}},
    },
}
SAE = {"class": "SAE", "params": {"hidden_dim": 4, "input_dim": 2}}


def changed(overrides: dict[str, Any]) -> dict[str, Any]:
    content = copy.deepcopy(BASE)
    for key, value in overrides.items():
        if "." in key:
            set_dotted(content, {key: value})
        else:
            content[key] = value
    return content


def test_a_resolved_config_says_everything_and_is_read_again_as_the_same():
    """Defaults are written out under the names that a user writes, and an optimiser's own arguments are kept."""
    config = parse(TrainConfig, BASE, "a.yaml")
    content = resolved(config)
    assert content["model"]["class"] == "VAE" and content["train"]["loss"]["params"]["reconstruction_weight"] == 1.0
    assert content["train"]["optimizer_config"]["weight_decay"] == 0.1
    assert content["experiment"]["on_exists"] == "overwrite" and content["checkpoint"]["save_strategy"] == "best"
    assert parse(TrainConfig, content, "b.yaml") == config
    assert config.metric == "train_loss"
    with_val = changed({"val": {"data_path": "digits", "loader_class": "ImageDataLoader"}})
    assert parse(TrainConfig, with_val, "a.yaml").metric == "val_loss"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"mlflow": {"tracking_uri": "file:./mlruns"}}, ["mlflow.tracking_uri: 'file:./mlruns'", "sqlite:///mlflow.db", "migrate-filestore"]),
        ({"mlflow": {"tracking_uri": "./mlruns"}}, ["mlflow.tracking_uri: './mlruns'", "sqlite:///mlflow.db"]),
        ({"mlflow": {"tracking_uri": "https://me:pw@mlflow.example.com"}}, ["credentials", "MLFLOW_TRACKING_USERNAME"]),
        ({"mlflow": {"tracking_uri": "https://mlflow.example.com?api_token=pw"}}, ["credentials", "MLFLOW_TRACKING_TOKEN"]),
        ({"mlflow": {"uri": "x"}}, ["mlflow.uri: unknown key"]),
        ({"epxeriment": {}}, ["epxeriment: unknown key (did you mean experiment?)"]),
        ({"model.params.latent_dims": 2}, ["model.params.latent_dims: unknown key (did you mean latent_dim?)", "channels, likelihood, scale"]),
        ({"train.loss.params.bta": 2}, ["train.loss.params.bta: unknown key (did you mean beta?); allowed: beta, reconstruction_weight"]),
        ({"model.class": "vae"}, ["model.class: 'vae'", "built-in name", "<module>:<name>"]),
        ({"model": {"class": "SAE", "params": {"hidden_dim": 4, "activation": "topk"}}}, ["model.params: activation topk needs k"]),
        ({"model": {"class": "SAE", "params": {"hidden_dim": 4, "k": 2}}}, ["activation l1 has no k"]),
        ({"model": {"class": "SAE", "params": {"hidden_dim": 4, "activation": "topk", "k": 5}}}, ["k 5 is larger than hidden_dim 4"]),
        ({"model": SAE}, ["loss VAELoss is of model VAE, here model.class is 'SAE'"]),
        ({"checkpoint.metric": "val_elbo"}, ["checkpoint.metric 'val_elbo' needs a val section", "train_loss"]),
        ({"data.columns": {"numerical": []}}, ["data.columns: numerical, categorical and embeddings are all empty"]),
        ({"data.columns": {"numerical": ["a"], "categorical": ["a"]}}, ["columns a are named twice"]),
        ({"train.loader_class": "TabularDataLoader"}, ["data.columns is missing"]),
        ({"val": {"data_path": "d", "loader_class": "ImageDataLoader", "frequency": 3}}, ["val.frequency 3 is larger than train.epochs 2"]),
        ({"train.epochs": 0}, ["train.epochs: 0 is not allowed"]),
        ({"train.optimizer_config.learning_rate": -1.0}, ["learning_rate: -1.0 is not allowed"]),
        ({"checkpoint.save_strategy": "every"}, ["save_strategy: 'every'", "'best', 'last' or 'all'"]),
        *(({"experiment.name": name}, ["experiment.name: ", "is not allowed: the name of one folder"]) for name in ["", " ", ".", "..", "a/b", "a\\b", ".a"]),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named_with_its_key(overrides, words):
    """One message, without pydantic's tags of unions."""
    with pytest.raises(ConfigError) as failure:
        parse(TrainConfig, changed(overrides), "a.yaml")
    assert all(word in str(failure.value) for word in ["a.yaml: ", *words]), failure.value
    assert ".VAE" not in str(failure.value) and ".own" not in str(failure.value)


def test_configs_of_embeddings_and_predictions():
    """Any of three splits; which checkpoint."""
    test = {"data_path": "digits", "loader_class": "ImageDataLoader"}
    content: dict[str, Any] = {"experiment": BASE["experiment"], "test": test}
    assert list(parse(EmbedConfig, content, "a").sources) == ["test"]
    assert parse(PredictConfig, content, "a").checkpoint.load_strategy == "best"
    with pytest.raises(ConfigError, match="none of train, val, test"):
        parse(EmbedConfig, {"experiment": BASE["experiment"]}, "a")
    for strategy in ("epoch_", "first", "epoch_x"):
        with pytest.raises(ConfigError, match=r"load_strategy: .*best, last or epoch_<N>"):
            parse(PredictConfig, {**content, "checkpoint": {"load_strategy": strategy}}, "a")
