"""A user's own model and loss: code that computes something else than in training is refused, and what it raises is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from directory_cases import config, content, embedding, interrupted, prediction, samples, trained

from minima_volume.directories.directory import Directory
from minima_volume.directories.embed import embed_directory, predict_directory
from minima_volume.directories.load import kept_checkpoint
from minima_volume.directories.own_code import KEY
from minima_volume.directories.train import train_directory
from minima_volume.directories.volume import measure_directory
from minima_volume.errors import ConfigError, MinimaVolumeError, StaleError
from minima_volume.files.atomic import read_pt, write_pt
from minima_volume.files.yaml import write_yaml
from minima_volume.plots.directories import draw_directory
from minima_volume.volume.gaussian.settings import Gaussian

CODE = """import math
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, width):
        super().__init__()
        self.down, self.up = nn.Linear(math.prod(shape), width), nn.Linear(width, math.prod(shape))

    def forward(self, x):
        return self.up(torch.relu(self.down(x)))

    def embed(self, x):
        return self.down(x)


def squares(outputs, x):
    return (outputs - x).square().sum(1)
"""
OWN: dict[str, Any] = {
    "model": {"class": "mine:Net", "params": {"width": 3}},
    "train.loss": {"class": "mine:squares"},
}
SOURCE = {"data_path": "x.npy", "loader_class": "EmbeddingDataLoader"}
USES = {
    "predict": lambda: predict_directory(prediction(test=SOURCE), [Path.cwd()], lambda line: None),
    "embed": lambda: embed_directory(embedding(test=SOURCE), [Path.cwd()], lambda line: None),
    "volume": lambda: measure_directory(Path("runs/a"), Gaussian(sigma=0.05), places=[Path.cwd()], progress=False),
    "draw": lambda: draw_directory(Path("runs/a"), [Path.cwd()]),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", samples())
    code()


def code(*changes: tuple[str, str], before: str = "") -> None:
    """mine.py, with words replaced."""
    text = CODE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("mine.py").write_text(before + text)


@pytest.mark.parametrize("use", USES)
def test_an_edited_forward_pass_is_refused(use: str):
    """By whatever takes the checkpoint; code that says the same otherwise is welcome, and so is the old one again."""
    trained(OWN)
    code(("torch.relu(self.down(x))", "torch.tanh(self.down(x))"))
    with pytest.raises(StaleError, match=r"the code of model 'mine:Net' was changed since\. Undo the change, or train"):
        USES[use]()
    code(("torch.relu(self.down(x))", "self.down(x).relu()"))
    USES[use]()


@pytest.mark.parametrize("noise", ["", " + torch.randn_like(x)"])
def test_a_forward_pass_that_draws_random_numbers(noise: str):
    """It is compared at the same random numbers."""
    drawn = ("return self.up(", f"return {noise[3:] or '0'} + self.up(")
    code(drawn)
    trained(OWN)
    USES["predict"]()
    code(drawn, ("torch.relu", "torch.tanh"))
    with pytest.raises(StaleError, match="model 'mine:Net' was changed"):
        USES["predict"]()


def test_an_edited_loss_is_refused():
    """By a volume and by metrics; outputs alone do not need it. A loss that is named for the metrics is taken as it is."""
    trained(OWN)
    code((".square()", ".abs()"))
    measured = {**SOURCE, "metrics": {"compute": True}}
    for use in (USES["volume"], lambda: predict_directory(prediction(test=measured), [Path.cwd()], lambda line: None)):
        with pytest.raises(
            StaleError, match=r"was trained with a loss of [\d.]+ .* loss 'mine:squares' was changed since"
        ):
            use()
    assert not Path("runs/a/predictions").exists()
    USES["predict"]()
    measured["metrics"] = {"compute": True, "loss": {"class": "mine:squares", "params": {}}}
    with pytest.raises(StaleError, match="loss 'mine:squares'"):
        predict_directory(prediction(test=measured), [Path.cwd()], lambda line: None)


def test_a_training_does_not_go_on_with_other_code():
    """Half of its epochs would be those of another function; with the old code it ends as an uninterrupted one."""
    whole = read_pt(trained({**OWN, "experiment.name": "whole"}).checkpoint("last"))
    interrupted(OWN, epoch=3)
    state = Path("runs/a/checkpoints/.state.pt").read_bytes()
    code(("torch.relu", "torch.tanh"))
    with pytest.raises(StaleError, match=r"\.state\.pt is of a model .* code of model 'mine:Net' was changed"):
        trained({**OWN, "experiment.on_exists": "resume"})
    assert Path("runs/a/checkpoints/.state.pt").read_bytes() == state
    code()
    found = read_pt(trained({**OWN, "experiment.on_exists": "resume"}).checkpoint("last"))
    assert all(torch.equal(found["model_state_dict"][name], value) for name, value in whole["model_state_dict"].items())


def test_looking_at_the_code_changes_no_number(monkeypatch):
    """A model that counts its passes and draws dropout trains to the same weights as without the looks."""
    counted = (
        "return self.up(",
        "self.passes = getattr(self, 'passes', 0) + 1\n        return (1 + 0.1 * self.passes) * self.up(",
    )
    code(counted, ("torch.relu(self.down(x))", "nn.functional.dropout(self.down(x), 0.2, self.training)"))
    looked = read_pt(trained(OWN).checkpoint("last"))
    assert KEY in looked
    monkeypatch.setattr("minima_volume.directories.train.check_runs", lambda *_: None)
    monkeypatch.setattr("minima_volume.directories.train.mark", lambda *_: {})
    plain = read_pt(trained({**OWN, "experiment.name": "plain"}).checkpoint("last"))
    assert KEY not in plain and plain["metric_value"] == looked["metric_value"]
    for name, value in plain["model_state_dict"].items():
        assert torch.equal(value, looked["model_state_dict"][name])


def test_a_checkpoint_of_an_earlier_version():
    """It has nothing to compare with, and is used as before."""
    directory = trained(OWN)
    for path in directory.saved:
        older = read_pt(path)
        del older[KEY]
        write_pt(path, older)
    for use in USES.values():
        use()


def test_built_in_classes_keep_nothing():
    assert KEY not in read_pt(trained().checkpoint("last"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("(math.prod(shape), width)", "(math.prod(shape), width + 1)")], "does not fit model 'mine:Net', whose code"),
        ([("self.up", "self.out")], "does not fit model 'mine:Net', whose code was changed since it was trained"),
        ([("class Net", "class Other")], "has no 'Net'"),
        (
            [("shape, width)", "shape, width, depth)")],
            "do not fit model 'mine:Net' and samples of shape (4,): TypeError",
        ),
        ([("super().__init__()", "super().__init__(), 1 / 0")], "ZeroDivisionError: division by zero ("),
        ([("return self.up", "raise KeyError('gone')\n        return self.up")], "KeyError: 'gone' ("),
    ],
)
def test_other_changes_of_the_file(changes, words: str, cli):
    """One line that names the class and, of an exception, the line of the file; no traceback."""
    trained(OWN)
    code(*changes)
    write_yaml(Path("p.yaml"), {"experiment": content()["experiment"], "test": SOURCE})
    exit_code, _, err = cli("predict", "p.yaml", "--quiet")
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert exit_code == 1 and len(lines) == 1 and words in lines[0], err
    if "Error: " in words:
        assert "mine.py, line " in lines[0] or "TypeError" in words


def test_code_that_fails_in_training_touches_nothing():
    """The directory that is to be overwritten stays; the line names file and line number."""
    trained(OWN)
    before = Path("runs/a/checkpoints/best_model.pt").read_bytes()
    code(("outputs - x", "outputs - y"))
    with pytest.raises(ConfigError, match=r"'mine:squares' fails on 8 samples: NameError: .*mine\.py, line 19"):
        trained(OWN)
    code(("return self.up", "assert len(x) == 8\n        return self.up"))
    with pytest.raises(ConfigError, match=r"samples of shape \(4, 4\): AssertionError"):
        train_directory(
            config({**OWN, "val": None, "train.data_path": "y.npy"} | _other(12)), [Path.cwd()], lambda _: None
        )
    assert Path("runs/a/checkpoints/best_model.pt").read_bytes() == before


def _other(rows: int) -> dict[str, Any]:
    np.save("y.npy", samples(rows))
    return {"experiment.name": "b"}


def test_a_file_that_sets_torchs_default_type():
    """The message says which type the parameters have and what to do; a model that converts its samples is trained."""
    double = "import torch\ntorch.set_default_dtype(torch.float64)\n"
    code(before=double)
    with pytest.raises(
        ConfigError, match=r"parameters are torch\.float64 and samples torch\.float32: build the model in"
    ):
        trained(OWN)
    assert torch.get_default_dtype() == torch.float32 and not Path("runs").exists()
    code(("self.down(x)", "self.down(x.double())"), before=double)
    trained(OWN)
    USES["predict"]()


def test_lazy_layers_are_trained():
    """Their shapes come from the first batch of the training."""
    code(("nn.Linear(math.prod(shape), width)", "nn.LazyLinear(width)"))
    trained(OWN)
    USES["predict"]()


def test_a_file_that_is_gone():
    """Every place that was looked at is named."""
    trained(OWN)
    Path("mine.py").unlink()
    places = [Path("runs/a").resolve(), Path.cwd(), Path.cwd() / "configs"]
    with pytest.raises(ConfigError) as caught:
        measure_directory(Path("runs/a"), Gaussian(sigma=0.05), places=places, progress=False)
    for place in places:
        assert str(place / "mine.py") in str(caught.value)
    assert "Put the file there, or start in the folder that holds it" in str(caught.value)


def test_an_embed_method_that_fails():
    trained(OWN)
    code(("return self.down(x)", "return self.gone(x)"))
    with pytest.raises(
        MinimaVolumeError, match=r"embed\(x\) of model Net fails on samples of shape \(40, 4\): .*line 15"
    ):
        USES["embed"]()
    assert kept_checkpoint(Directory(Path("runs/a"))).kept is not None


@pytest.mark.parametrize("fewest", [1, 5])
def test_code_that_takes_no_few_samples_is_named(fewest: int):
    """It is trained, and its training says that a later change would not be noticed; others say nothing of the kind."""
    code(
        (
            "        return self.up(",
            f'        if len(x) < {fewest}:\n            raise ValueError("too few")\n        return self.up(',
        )
    )
    told: list[str] = []
    train_directory(config(OWN | {"val": None}), [Path.cwd()], told.append)
    assert [line for line in told if "will not be noticed" in line] == [
        "note: model 'mine:Net' and loss 'mine:squares' cannot be run on 4 samples alone, so a later change of the code will not be noticed"
    ] * (fewest > 4)
