"""A user's own models through the five notebooks' stages: radii, cut-offs and accuracies are those of the plain loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import ALL_STAGES, make_run
from own_models import check_run
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.errors import StaleError
from minima_volume.runs.states import run_stage

BODY = """import torch
import torch.nn.functional as F
from torch import nn
"""
KINDS = {
    "closure": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 1)
        self.hidden = lambda x: torch.tanh(self.a(x))

    def forward(self, x):
        return self.b(self.hidden(x))
""",
    "hidden state": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.again, self.b, self.h = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1), None

    def forward(self, x):
        z = self.a(x)
        if not self.training:
            if self.h is not None and len(self.h) == len(x):
                z = z + self.again(self.h)
            self.h = torch.tanh(z).detach()
        return self.b(torch.tanh(z))
""",
    "cache": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.b, self._cache = nn.Linear(2, 8), nn.Linear(8, 1), {}

    def forward(self, x):
        weight = 2 * self.a.weight
        if not self.training:
            weight = self._cache.setdefault("weight", weight)
        return self.b(torch.tanh(F.linear(x, weight, self.a.bias)))
""",
    "batch statistics": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(2, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.norm(self.a(x))))
""",
    "squeezed outputs": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x))).squeeze()
""",
    "weight_norm": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.a, self.b = norm(nn.Linear(2, 8)), norm(nn.Linear(8, 1))

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))
""",
    "lstm": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.rnn, self.b = nn.LSTM(1, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x):
        return self.b(self.rnn(x.unsqueeze(-1))[0][:, -1])
""",
    "hook": BODY
    + """
class Net(nn.Module):
    def __init__(self, shape, outputs):
        super().__init__()
        self.a, self.adapter, self.b = nn.Linear(2, 8), nn.Linear(2, 8), nn.Linear(8, 1)
        self.a.register_forward_hook(lambda module, inputs, output: output + self.adapter(inputs[0]))

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))
""",
}
SETTINGS = {
    "data.source": "swiss_roll",
    "data.options": {"test_per_arm": 60},
    "model.name": "mine:Net",
    "model.options": {},
    "training.loss": "bce_with_logits",
    "training.epochs": 40,
    "perturbation.names": "all",
    "perturbation.num_directions": 4,
    "volume.loss_thresholds": [0.75],
    "volume.accuracy_thresholds": None,
    "volume.top_k": 3,
}


def plain_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """One pass over one batch, from a fresh state."""
    for name, empty in (("h", None), ("_cache", {})):
        if hasattr(model, name):
            setattr(model, name, empty.copy() if isinstance(empty, dict) else empty)
    with torch.no_grad():
        return F.binary_cross_entropy_with_logits(model(x.clone()).reshape(-1), y.float().reshape(-1)).item()


@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS)
def test_the_five_stages(text: str, tmp_path):
    """Train, sweep, radii, cut-offs and accuracy of two levels."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text(text, encoding="utf-8")
    run = make_run(folder, SETTINGS, ALL_STAGES)
    check_run(run, plain_loss, 0.75)


def test_what_a_reader_must_know_is_printed(tmp_path, capsys):
    """Notebook 1 says it once; here nothing is to be said of a hidden state that starts empty."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text(KINDS["hidden state"].replace("self.h = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1), None",
        "self.h = nn.Linear(2, 8), nn.Linear(8, 8), nn.Linear(8, 1), torch.ones(60, 8)"), encoding="utf-8")  # fmt: skip
    make_run(folder, SETTINGS, ("train",))
    assert "Net: h of an earlier pass was not used: it is emptied before each pass" in capsys.readouterr().out


def test_a_random_forward_pass_is_refused_before_training(tmp_path):
    """By the first notebook, with the module's name; no model is written."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    (folder / "mine.py").write_text(
        KINDS["closure"].replace("torch.tanh(self.a(x))", "F.dropout(self.a(x))"), encoding="utf-8"
    )
    run = make_run(folder, SETTINGS)
    with pytest.raises(
        mv.errors.ConfigError if hasattr(mv, "errors") else ValueError, match="model Net gives other outputs"
    ):
        mv.train_models(run, progress=False)
    assert not list(run.models.glob("model_*.pt"))


def test_code_that_computes_something_else_than_when_it_was_trained_is_refused(tmp_path):
    """By every stage that measures; code that says the same otherwise is welcome, and so is the old one again."""
    folder = tmp_path / "model_0_data_10"
    folder.mkdir()
    own = folder / "mine.py"
    own.write_text(KINDS["closure"], encoding="utf-8")
    run = make_run(folder, SETTINGS, ("train", "perturb"))
    own.write_text(KINDS["closure"].replace("torch.tanh(self.a(x))", "F.relu(self.a(x))"), encoding="utf-8")
    for stage in ("perturb", "volume", "cutoff", "accuracy"):
        with pytest.raises(
            StaleError, match=r"test loss of [\d.]+, and had [\d.]+ .* the code of mine:Net was changed since"
        ):
            run_stage(run, stage, progress=False)
    assert not run.accuracies_file.exists()
    own.write_text(
        KINDS["closure"].replace("torch.tanh(self.a(x))", "self.a(x).tanh()") + "# the same", encoding="utf-8"
    )
    for stage in ("volume", "cutoff", "accuracy"):
        run_stage(run, stage, progress=False)
    check_run(run, plain_loss, 0.75)
