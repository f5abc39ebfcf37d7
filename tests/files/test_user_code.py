"""A user's own data source and model, named by import path."""

from __future__ import annotations

import pytest
from helpers import make_run

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.models import build_model
from minima_volume.runs.states import run_stage

OWN_SOURCE = '''"""Two Gaussian clouds."""
import torch
from minima_volume.data import Pool
from minima_volume.seeding import generator


def clouds(seed, needed, *, distance=4.0):
    random = generator(seed, "clouds")
    y = torch.arange(needed + 100) % 2
    x = torch.randn(len(y), 3, generator=random) + distance * y[:, None]
    return Pool(x, y, x[-50:], y[-50:], num_classes=2)
'''
OWN_MODEL = """import torch
from torch import nn


class Wide(nn.Module):
    def __init__(self, input_shape, num_outputs, width):
        super().__init__()
        self.inner = nn.Linear(input_shape[0], width)
        self.outer = nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))
"""


@pytest.mark.parametrize("where", ["run", "condition"])
def test_own_source_and_model_go_through_all_stages(where, tmp_path):
    """Ten-line .py files in the run or condition folder, named by import path, for every stage and worker processes."""
    folder = tmp_path / "condition" / "model_0_data_10"
    place = folder if where == "run" else folder.parent
    place.mkdir(parents=True)
    (place / "my_data.py").write_text(OWN_SOURCE, encoding="utf-8")
    (place / "my_model.py").write_text(OWN_MODEL, encoding="utf-8")
    options = {
        "data.source": "my_data:clouds",
        "data.options": {"distance": 6.0},
        "data.store": "indices",
        "model.name": "my_model:Wide",
        "model.options": {"width": 5},
        "perturbation.workers": 2 if where == "run" else 1,
    }
    run = make_run(folder, options, ("train", "perturb"))
    files = mv.estimate_volumes(run, progress=False)
    run_stage(run, "accuracy", progress=False)
    assert mv.load_results(files[0])["log_exp_r_n_values"][0] is not None
    record = mv.load_models_and_data(run).records[40]
    assert record["model_class"] == "Wide" and record["test_accs"][-1] > 0.9


def test_two_runs_may_each_have_a_file_of_the_same_name(tmp_path):
    """One process, two run folders, two different my_model.py."""
    widths = {}
    for name, width in (("model_0_data_10", 3), ("model_1_data_11", 4)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "my_model.py").write_text(
            f"from torch import nn\ndef build(shape, outputs):\n    return nn.Linear({width}, outputs)\n",
            encoding="utf-8",
        )
        run = make_run(folder, {"model.name": "my_model:build", "model.options": {}})
        widths[name] = build_model(run.config, (3,), 2, folder).in_features
    assert widths == {"model_0_data_10": 3, "model_1_data_11": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def other(seed, needed): pass\n", ["module mine", "has no 'make'"]),
        ("1 / 0\n", ["mine:make", "fails to import", "ZeroDivisionError"]),
        ("import sys\nsys.exit(0)\n", ["mine:make", "fails to import", "SystemExit: 0"]),
        ("def make(seed, needed):\n    return 3\n", ["'mine:make' must return a minima_volume.data.Pool, got int"]),
        ("def make(seed):\n    return 3\n", ["do not fit source 'mine:make'"]),
        ("import not_installed_anywhere\n", ["mine:make", "not_installed_anywhere"]),
    ],
)
def test_own_source_that_does_not_work_is_one_message(text, words, tmp_path):
    """The import path and what is wrong with it."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "model_0_data_10" / "mine.py").write_text(text, encoding="utf-8")
    run = make_run(tmp_path / "model_0_data_10", {"data.source": "mine:make"})
    with pytest.raises(ConfigError) as failure:
        mv.prepare_data(run)
    assert all(word in str(failure.value) for word in words), failure.value


def test_own_model_must_be_a_module(tmp_path):
    """A class that is not a torch module."""
    (tmp_path / "model_0_data_10").mkdir()
    (tmp_path / "model_0_data_10" / "mine.py").write_text(
        "def make(shape, outputs, hidden): return 3\n", encoding="utf-8"
    )
    run = make_run(tmp_path / "model_0_data_10", {"model.name": "mine:make"})
    with pytest.raises(ConfigError, match=r"'mine:make' must build a torch\.nn\.Module, got int"):
        build_model(run.config, (2,), 2, run.folder)


@pytest.mark.parametrize(
    ("forward", "loss", "words"),
    [
        ("x.flatten(1)[:, :3]", "cross_entropy", ["labels go from 0 to", "the model has 3 outputs"]),
        ("x.flatten(1).sum(1)", "cross_entropy", ["outputs of shape (samples, classes, ...)", "got ("]),
        ("x.flatten(1)[:, :10]", "bce_with_logits", ["one label for each output", "10)"]),
        ("x.flatten(1)[:, :10]", "mse", ["mse needs targets of the outputs' shape", "10)"]),
        ("(x, x)", "cross_entropy", ["returns a tuple", "one tensor"]),
        ("x.sum()", "cross_entropy", ["one row per sample", "of shape ()"]),
    ],
)
def test_own_model_whose_output_does_not_fit_the_loss(forward, loss, words, tmp_path):
    """Said before the first epoch, with both shapes; nothing is written as a model."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, shape, outputs):\n        super().__init__()\n"
        f"        self.scale = nn.Linear(1, 1)\n    def forward(self, x):\n        return {forward}\n",
        encoding="utf-8",
    )
    run = make_run(folder, {"model.name": "mine:Net", "model.options": {}, "training.loss": loss})
    with pytest.raises(ConfigError) as failure:
        mv.train_models(run, progress=False)
    assert all(word in str(failure.value) for word in words), failure.value
    assert not list(run.models.glob("model_*.pt"))
