"""Losses of your own in config.yaml: through the five stages and the figures, for outputs that are a tensor, a tuple, or a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import ALL_STAGES, edit_config, make_run, tree
from own_models import check_run
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.config.sections import BUILT_IN_LOSSES
from minima_volume.errors import ConfigError, StaleError
from minima_volume.files.atomic import read_json
from minima_volume.losses.registry import LOSSES
from minima_volume.plots.predictions import predictions
from minima_volume.plots.training import accuracies, training_curves

TENSOR = """import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x))).squeeze(1)


def loss(outputs, targets):
    return F.softplus(-outputs.mul_(2 * targets - 1))  # in place: allowed
"""
TUPLE = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.mean, self.back = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        code = torch.tanh(self.mean(x))
        return self.back(code), code, x


def loss(outputs, targets):
    seen, code, x = outputs
    return (seen - x).square().sum(1) + 0.1 * code.square().sum(1)
"""
DICTIONARY = """import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        hidden = torch.relu(self.a(x))
        return {"logit": self.b(hidden), "hidden": hidden}


def loss(outputs, targets):
    elements = F.binary_cross_entropy_with_logits(outputs["logit"].squeeze(1), targets.float(), reduction="none")
    return elements + 0.02 * outputs["hidden"].abs().sum(1)
"""
WHOLE = (
    TENSOR[: TENSOR.index("def loss")]
    + """def loss(outputs, targets):
    return (outputs - targets).square().mean().sqrt()
"""
)
SETTINGS = {
    "data.source": "swiss_roll",
    "data.options": {"test_per_arm": 60},
    "model.name": "mine:Net",
    "model.options": {},
    "training.loss": "mine:loss",
    "training.epochs": 60,
    "perturbation.names": "all",
    "perturbation.num_directions": 4,
    "perturbation.coefficients.max": 4.0,
    "volume.accuracy_thresholds": None,
    "volume.top_k": 3,
}


def signed(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-(2 * y - 1) * model(x))).mean()


def autoencoder(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    code = torch.tanh(x @ model.mean.weight.T + model.mean.bias)
    seen = code @ model.back.weight.T + model.back.bias
    return ((seen - x) ** 2).sum() / len(x) + 0.1 * (code**2).sum() / len(x)


def sparse(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    hidden = torch.relu(model.a(x))
    return F.binary_cross_entropy_with_logits(model.b(hidden)[:, 0], y.float()) + 0.02 * hidden.sum() / len(x)


def root(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y.float()) ** 0.5


KINDS = {
    "tensor": (TENSOR, signed, 0.8, {}),
    "tuple": (TUPLE, autoencoder, 70.0, {}),
    "tuple, batches, SAM": (TUPLE, autoencoder, 70.0, {"training.batch_size": 8, "training.sam": {"rho": 0.05}}),
    "dictionary": (DICTIONARY, sparse, 1.0, {}),
    "one number for all samples": (WHOLE, root, 0.8, {}),
}


@pytest.mark.parametrize(("text", "plain", "threshold", "more"), KINDS.values(), ids=KINDS)
def test_the_five_stages(text, plain, threshold, more, tmp_path):
    """Trained, swept, measured and cut off as a plain loop says; accuracy is undefined, the trivial predictor unknown."""
    folder = tmp_path / "condition" / "model_0_data_10"
    folder.mkdir(parents=True)
    (folder.parent / "mine.py").write_text(text, encoding="utf-8")
    run = make_run(folder, SETTINGS | {"volume.loss_thresholds": [threshold]} | more, ALL_STAGES)

    def plain_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
        with torch.no_grad():
            return plain(model, x.clone(), y.clone()).item()

    check_run(run, plain_loss, threshold)
    assert read_json(run.results_file(0, threshold))["trivial_loss"] is None
    tests = np.load(run.accuracies_file, allow_pickle=False)
    assert np.isnan(tests["test_accs"]).all() and np.isfinite(tests["test_loss"]).all()
    assert "loss 'mine:loss' has no trivial predictor" in mv.describe_thresholds(run)


def test_masses_figures_and_tables_cope_without_accuracy(tmp_path):
    """Each says that accuracy is undefined; figures of it are left out."""
    folder = tmp_path / "condition" / "model_0_data_10"
    folder.mkdir(parents=True)
    (folder.parent / "mine.py").write_text(DICTIONARY, encoding="utf-8")
    masses = {"sigma": 0.2, "num_particles": 20, "num_repeats": 2, "num_moves": 2}
    more = {"data.levels": [0, 20], "volume.loss_thresholds": [1.0], "volume.gaussian": masses}
    run = make_run(folder, SETTINGS | more, ALL_STAGES)
    assert read_json(run.results_file(0, 1.0))["log_mass_values"][0][0] is not None
    trained, tests = mv.load_models_and_data(run), np.load(run.accuracies_file, allow_pickle=False)
    assert "accuracy is undefined for loss 'mine:loss'" in predictions(trained, "mine:loss").axes[0].get_title()
    for figure, axis in ((training_curves(trained), 2), (accuracies(tests), 0)):
        assert [text.get_text() for text in figure.axes[axis].texts] == ["accuracy is undefined\nfor this loss"]
    analysis = mv.analyze(run.folder.parent)
    assert "undefined" in mv.describe(analysis)
    drawn = {path.stem for path in (run.folder.parent / "analysis").iterdir()}
    assert "test_loss_against_log_volume" in drawn and not any(name.startswith("test_accuracy") for name in drawn)


def refused(run, words: str) -> None:
    before = tree(run.folder)
    with pytest.raises(ConfigError, match=words):
        mv.train_models(run, progress=False)
    assert tree(run.folder) == before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mine:nll", TENSOR, "training.loss: 'mine:nll': module mine .* has no 'nll'"),
        ("yours:loss", TENSOR, r"training.loss: 'yours:loss': No module named 'yours'; looked at .*yours\.py"),
        ("mine:F", TENSOR + "F = 3\n", "training.loss: 'mine:F' is 3; name a function"),
        ("mine:name", TENSOR + "name = 'mse'\n", "training.loss: 'mine:name' is 'mse'; name a function"),
        ("mine:Net", TENSOR, "class Net; pass a function"),
    ],
)
def test_losses_that_cannot_be_found(name, text, words, tmp_path):
    """One message that names the setting; nothing is written, no samples either."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    refused(make_run(tmp_path / "model_0_data_10", SETTINGS | {"training.loss": name}), words)


def test_names_that_are_no_loss_are_refused_when_the_file_is_read(tmp_path):
    """With the built-in names, which are those of the registry."""
    assert tuple(LOSSES) == BUILT_IN_LOSSES
    for name in ("nll", "mine:", ":loss"):
        with pytest.raises(
            ConfigError,
            match=f"training.loss: '{name}' is not allowed: cross_entropy, bce_with_logits, mse, or <module>:<function>",
        ):
            make_run(tmp_path / "model_0_data_10", {"training.loss": name})


def test_accuracy_thresholds_and_another_loss_are_refused(tmp_path):
    """An accuracy threshold where accuracy is undefined; a loss that the models were not trained with."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text(TENSOR, encoding="utf-8")
    pair = {"volume.loss_thresholds": [0.8], "volume.accuracy_thresholds": [0.9]}
    run = make_run(folder, SETTINGS | pair, ("train", "perturb"))
    with pytest.raises(ConfigError, match="accuracy is undefined for loss 'mine:loss'.*set it to null"):
        mv.estimate_volumes(run, progress=False)
    other = edit_config(folder, {"training.loss": "bce_with_logits"})
    with pytest.raises(StaleError, match="training.loss = 'mine:loss', config.yaml says 'bce_with_logits'"):
        mv.load_models_and_data(other)
