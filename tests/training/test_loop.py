"""Training: the one loop against a plain one, checkpoints, resuming, and the files of notebook 1."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from helpers import edit_config, make_run, tree
from torch import nn
from torch.nn import functional as F

import minima_volume as mv
from minima_volume.config.sections import Training
from minima_volume.errors import DataError, MissingStageError, StaleError
from minima_volume.files.atomic import read_npz, read_pt
from minima_volume.models import build_model
from minima_volume.models.build import initial_seed
from minima_volume.stages.minimum import weights
from minima_volume.training.supervised import train_model

PT_KEYS = {
    "state_dict",
    "train_loss",
    "test_loss",
    "train_accs",
    "test_accs",
    "additional_data",
    "dataset_type",
    "model_class",
}
DATASET_KEYS = {
    *("x_base_train", "y_base_train", "x_additional", "y_additional", "x_test", "y_test"),
    *("dataset_quantities", "dataset_type"),
}


@pytest.fixture
def task():
    """A tiny classification task: model, training set, test set."""
    random = torch.Generator().manual_seed(0)
    x, x_test = torch.randn(23, 4, generator=random), torch.randn(9, 4, generator=random)
    y, y_test = (x[:, 0] > 0).long() + (x[:, 1] > 0).long(), (x_test[:, 0] > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return model, (x, y), (x_test, y_test)


def plain_loop(model, train, test, settings: Training, optimizer):
    """The reference: full batch, everything evaluated after every step."""
    history = []
    for _ in range(settings.epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(train[0]), train[1]).backward()
        optimizer.step()
        with torch.no_grad():
            row = []
            for x, y in (train, test):
                outputs = model(x)
                row += [F.cross_entropy(outputs.double(), y).item(), (outputs.argmax(1) == y).double().mean().item()]
        history.append(row)
    return history


def optimizers(model, settings: Training):
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=tuple(settings.betas),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


@pytest.mark.parametrize(
    "settings",
    [
        Training(epochs=25, learning_rate=0.02),
        Training(epochs=25, learning_rate=0.02, betas=[0.5, 0.9], eps=1e-3, weight_decay=0.3),
        Training(epochs=25, optimizer="sgd", learning_rate=0.5, momentum=0.9, weight_decay=0.0),
        Training(epochs=25, learning_rate=0.02, batch_size=23),
    ],
    ids=["adamw", "adamw_options", "sgd", "batch_of_everything"],
)
def test_the_full_batch_is_the_plain_loop(settings, task):
    """Losses and accuracies after each epoch, and the final weights, are those of a loop with torch's optimiser."""
    model, train, test = task
    reference = copy.deepcopy(model)
    expected = np.array(plain_loop(reference, train, test, settings, optimizers(reference, settings)))
    history = train_model(model, train, test, settings, seed=0)
    found = np.array([history.train_loss, history.train_accs, history.test_loss, history.test_accs]).T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert expected[-1, 0] < 0.7 * expected[0, 0]  # something was learnt
    for name, tensor in reference.state_dict().items():
        assert torch.allclose(model.state_dict()[name], tensor, rtol=1e-5, atol=1e-7)


def test_layers_that_differ_in_training_are_evaluated_after_each_epoch(task):
    """With dropout the recorded losses are those of the model in evaluation mode."""
    model, train, test = task
    model.insert(2, nn.Dropout(0.5))
    seen = []

    def look(epoch, history):
        model.eval()
        with torch.no_grad():
            seen.append(F.cross_entropy(model(train[0]), train[1]).item())
        model.train()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        history = train_model(model, train, test, Training(epochs=6, learning_rate=0.05), 0, look)
    np.testing.assert_allclose(history.train_loss, seen, rtol=1e-6)


def test_minibatches_are_ordered_by_the_model_seed(task):
    """Same seed, same weights; another seed, others; and every sample is seen once an epoch."""
    model, train, test = task
    settings = Training(epochs=2, batch_size=5, learning_rate=0.05)
    states = []
    for seed in (3, 3, 4):
        trained = copy.deepcopy(model)
        train_model(trained, train, test, settings, seed)
        states.append(weights(trained))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])

    seen: list[torch.Tensor] = []
    spy = copy.deepcopy(model)
    spy.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()) if module.training else None)
    train_model(spy, train, test, settings, 3)
    epochs = [torch.cat(seen[:5]), torch.cat(seen[5:])]
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3] * 2
    for epoch in epochs:
        assert torch.equal(epoch.sort(0).values, train[0].sort(0).values)
    assert not torch.equal(epochs[0], epochs[1])


def test_all_levels_start_from_the_same_weights(tmp_path, monkeypatch):
    """And those are torch's default initial weights of the model seed."""
    import minima_volume.stages.minimum as module

    starts = []
    real = module.train_model
    monkeypatch.setattr(
        module, "train_model", lambda model, *rest: (starts.append(weights(model)), real(model, *rest))[1]
    )
    run = make_run(tmp_path / "model_7_data_10", {"training.epochs": 1}, ("train",))
    assert len(starts) == 3
    with initial_seed(7):
        expected = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).state_dict()
    for start in starts:
        assert all(torch.equal(start[f"layers.{name}"], tensor) for name, tensor in expected.items())
    other = make_run(tmp_path / "model_8_data_10", {"training.epochs": 1})
    assert not torch.equal(
        weights(build_model(other.config, (1, 8, 8), 10))["layers.1.weight"], starts[0]["layers.1.weight"]
    )
    assert run.config.model_seed == 7


def test_models_reproduce_their_stored_losses(digits_run):
    """What is loaded has the train and test loss and accuracy that are stored as its last values."""
    trained = mv.load_models_and_data(digits_run)
    assert list(trained.models) == [0, 20, 40]
    data = trained.dataset
    for level, model in trained.models.items():
        record = trained.records[level]
        size = data.base_size + level
        for name, x, y in (("train", data.x_train[:size], data.y_train[:size]), ("test", data.x_test, data.y_test)):
            with torch.no_grad():
                outputs = model(x)
            assert F.cross_entropy(outputs.double(), y).item() == pytest.approx(record[f"{name}_loss"][-1], rel=1e-5)
            assert (outputs.argmax(1) == y).double().mean().item() == pytest.approx(record[f"{name}_accs"][-1])
        assert len(record["train_loss"]) == len(record["test_accs"]) == 30
        assert not model.training
    assert trained.records[0]["train_loss"][-1] < 0.1


def test_files_of_notebook_1_have_the_documented_keys(digits_run):
    """dataset.pt and model_additional_<level>.pt, and what reproducing needs."""
    assert sorted(p.name for p in digits_run.models.iterdir()) == [
        "dataset.pt",
        "model_additional_0.pt",
        "model_additional_20.pt",
        "model_additional_40.pt",
    ]
    dataset = read_pt(digits_run.dataset_file)
    assert set(dataset) >= DATASET_KEYS
    assert dataset["dataset_quantities"] == [0, 20, 40] and dataset["dataset_type"] == "data"
    assert len(dataset["x_base_train"]) == 20 and len(dataset["x_additional"]) == 40
    for level in (0, 20, 40):
        model = read_pt(digits_run.model_file(level))
        assert set(model) >= PT_KEYS | {
            "model_seed",
            "data_seed",
            "weights_hash",
            "data_hash",
            "settings",
            "provenance",
        }
        assert (model["additional_data"], model["dataset_type"], model["model_class"]) == (level, "data", "MLP")
        assert (model["model_seed"], model["data_seed"], model["train_size"]) == (0, 10, 20 + level)
        assert set(model["provenance"]) == {"versions", "device", "threads", "git_revision"}
        assert set(model["provenance"]["versions"]) >= {"torch", "numpy", "minima_volume", "python"}


def test_test_accuracies_have_the_documented_keys(digits_run):
    """Counts, fractions and losses of the whole test set, in the order of the levels."""
    stored = read_npz(digits_run.accuracies_file)
    assert set(stored) >= {"additional_data", "dataset_size", "test_accs", "test_loss"}
    assert stored["additional_data"].tolist() == [0, 20, 40] and stored["dataset_size"].tolist() == [20, 40, 60]
    records = mv.load_models_and_data(digits_run).records
    np.testing.assert_allclose(stored["test_accs"], [record["test_accs"][-1] for record in records.values()])
    np.testing.assert_allclose(stored["test_loss"], [record["test_loss"][-1] for record in records.values()])


def test_only_what_is_missing_is_trained(copied):
    """A removed model is trained again, bit for bit; the others keep their files."""
    before = {level: read_pt(copied.model_file(level))["weights_hash"] for level in (0, 20, 40)}
    times = {level: copied.model_file(level).stat().st_mtime_ns for level in (0, 40)}
    copied.model_file(20).unlink()
    mv.train_models(copied, progress=False)
    assert {level: read_pt(copied.model_file(level))["weights_hash"] for level in (0, 20, 40)} == before
    assert {level: copied.model_file(level).stat().st_mtime_ns for level in (0, 40)} == times


def test_save_strategy_best_keeps_the_lowest_test_loss(tmp_path):
    """The weights of the epoch with the lowest test loss; results use that epoch's values."""
    run = make_run(tmp_path / "model_0_data_10", {"checkpoint.save_strategy": "best"}, ("train", "perturb"))
    trained = mv.load_models_and_data(run)
    epochs = []
    for level, record in trained.records.items():
        best = int(np.argmin(record["test_loss"]))
        assert record["epoch"] == best + 1
        with torch.no_grad():
            outputs = trained.models[level](trained.dataset.x_test).double()
            loss = F.cross_entropy(outputs, trained.dataset.y_test).item()
        assert loss == pytest.approx(record["test_loss"][best], rel=1e-5)
        assert mv.read_sweep(run.sweep_file(0, level)).metadata["test_loss"] == record["test_loss"][best]
        epochs.append(best + 1)
    assert min(epochs) < 30  # the lowest is not simply the last


def test_save_strategy_all_keeps_every_epoch(tmp_path):
    """One file an epoch, the last of which is the model's own."""
    run = make_run(tmp_path / "model_0_data_10", {"checkpoint.save_strategy": "all", "training.epochs": 3}, ("train",))
    for level in (0, 20, 40):
        files = sorted(run.models.glob(f"model_additional_{level}_epoch_*.pt"))
        assert [read_pt(file)["epoch"] for file in files] == [1, 2, 3]
        first, last = (read_pt(file)["state_dict"] for file in (files[0], files[-1]))
        final = read_pt(run.model_file(level))["state_dict"]
        assert all(torch.equal(last[name], final[name]) for name in final)
        assert not torch.equal(first["layers.1.weight"], final["layers.1.weight"])
    mv.train_models(run, progress=False)  # the epochs' files are not taken for levels


def test_diverging_training_is_one_message(tmp_path, cli):
    """The epoch, the learning rate and what to do; exit code 1, and no model is written."""
    options = {"training.optimizer": "sgd", "training.learning_rate": 1e6, "training.weight_decay": 1.0}
    run = make_run(tmp_path / "model_0_data_10", options)
    code, _, err = cli("run", run.folder, "--quiet")
    assert code == 1 and "Traceback" not in err
    assert "training diverged" in err and "epoch" in err and "lower training.learning_rate (1e+06)" in err
    assert {name.split("/")[-1] for name in tree(run.folder)} == {"config.yaml", "dataset.pt"}


def test_divergence_is_noticed_without_a_full_batch(task):
    """Also where the loss is evaluated once at the end only."""
    model, train, test = task
    settings = Training(epochs=20, batch_size=4, optimizer="sgd", learning_rate=1e8)
    with pytest.raises(DataError, match="training diverged: the loss was (nan|inf)"):
        train_model(model, train, test, settings, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.learning_rate": 0.04}, ["training.learning_rate = 0.03", "says 0.04"]),
        ({"model.options": {"hidden": [9]}}, ["model.options.hidden = [16]", "says [9]"]),
        ({"data.base_size": 21}, ["data.base_size = 20", "says 21"]),
        ({"experiment.threads": 2}, ["experiment.threads = 1", "says 2"]),
    ],
)
def test_models_of_other_settings_are_refused(change, words, copied):
    """By training and by loading: the setting, both values and the way out; nothing is written."""
    run = edit_config(copied.folder, change)
    before = tree(copied.folder)
    for call in (lambda: mv.train_models(run, progress=False), lambda: mv.load_models_and_data(run)):
        with pytest.raises(StaleError) as failure:
            call()
        assert all(word in str(failure.value) for word in (*words, "clean RUN --what models")), failure.value
    assert tree(copied.folder) == before


def test_a_missing_level_is_named(copied):
    """Loading does not go on with the levels that are there."""
    copied.model_file(20).unlink()
    with pytest.raises(MissingStageError, match=r"model_additional_20\.pt does not exist: run 'Train Low Test Models"):
        mv.load_models_and_data(copied)


def test_cnn_trains_on_images(tmp_path):
    """The convolutional network has the stated layers and learns."""
    options = {"model.name": "cnn", "model.options": {"channels": [6, 7], "fc": [20]}}
    run = make_run(tmp_path / "model_0_data_10", options, ("train",))
    trained = mv.load_models_and_data(run)
    kinds = [type(layer).__name__ for layer in trained.models[0].layers]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten", "Linear", "ReLU", "Linear"]
    shapes = [tuple(p.shape) for p in trained.models[0].parameters() if p.ndim > 1]
    assert shapes == [(6, 1, 3, 3), (7, 6, 3, 3), (20, 7 * 2 * 2), (10, 20)]
    losses = trained.records[40]["train_loss"]
    assert math.isfinite(losses[-1]) and losses[-1] < 0.8 * losses[0]
