"""Ordinary models are never refused, and looking at them costs little."""

from __future__ import annotations

import pytest
import torch
from own_models import COUNTED, Counter, X, normal, seeded, state_of
from torch import Tensor, nn

from minima_volume.hosts.doors import host_of
from minima_volume.perturbation.directions import perturbed_names

MANY_X = normal(600, 4, seed=5)
IMAGES, TOKENS, SERIES = (
    normal(20, 2, 8, 8),
    torch.randint(7, (20, 5), generator=torch.Generator().manual_seed(0)),
    normal(20, 6, 3),
)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb, self.norm = nn.Embedding(7, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.emb(x)) @ self.emb.weight.T


class Gru(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.fc = kind(3, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class KeyBias(nn.Module):
    """The key's bias has no effect under softmax, and one unit is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention, self.fc = (
            nn.Linear(3, 4),
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.Linear(4, 2),
        )
        with torch.no_grad():
            self.embed.bias[0] = -100

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.embed(x))
        return self.fc(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.gate(x) > 0, self.a(x), self.b(x))


def conv(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(2))


ORDINARY = {
    "linear": (lambda: nn.Linear(4, 2), X),
    "mlp with dropout": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)), X),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)), X),
    "layer norm, gelu": (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)), X),
    "cnn": (lambda: conv(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), IMAGES),
    "depthwise, dilated": (lambda: conv(nn.Conv2d(2, 4, 3, groups=2, dilation=2), nn.SiLU()), IMAGES),
    "group norm": (lambda: conv(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), IMAGES),
    "instance norm": (lambda: conv(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.ReLU()), IMAGES),
    "instance norm with statistics": (lambda: conv(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)), IMAGES),
    "dropout2d, batch norm 2d": (lambda: conv(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.ReLU()), IMAGES),
    "rrelu": (lambda: nn.Sequential(nn.Linear(4, 8), nn.RReLU(), nn.Linear(8, 2)), X),
    "spectral norm": (lambda: nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2)), X),
    "orthogonal": (lambda: nn.Sequential(torch.nn.utils.parametrizations.orthogonal(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2)), X),
    "lstm": (lambda: Gru(nn.LSTM), SERIES),
    "gru": (lambda: Gru(nn.GRU), SERIES),
    "transformer layer": (lambda: nn.Sequential(nn.TransformerEncoderLayer(3, 1, 8, dropout=0.3, batch_first=True), nn.Flatten(), nn.Linear(18, 2)), SERIES),
    "attention with a dead unit and key bias": (KeyBias, SERIES),
    "tied embedding": (Tied, TOKENS),
    "embedding bag": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 2)), TOKENS),
    "data-dependent gate": (Mixture, X),
    "prelu, softplus": (lambda: nn.Sequential(nn.Linear(4, 8), nn.PReLU(), nn.Softplus(), nn.Linear(8, 2)), X),
    "weight norm": (lambda: nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2)), X),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("build", "x"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary_models_are_never_refused(build, x: Tensor, dtype: torch.dtype):
    """A copy is measured, sample by sample, without a note."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().to(dtype)
    x = x if x.dtype == torch.int64 else x.to(dtype)
    with torch.no_grad():
        model.train()(x)
    before = state_of(model)
    host = host_of(model, x, perturbed_names(model, "all"))
    assert not host.own and not host.coupled and not host.notes
    assert state_of(model) == before


def test_a_probe_takes_at_most_eight_passes():
    """Of at most 256 samples; a backward pass counts as two. Models of the package are not probed at all."""
    from minima_volume.models.mlp import MLP

    COUNTED.clear()
    host_of(seeded(Counter), MANY_X, ["fc.weight", "fc.bias"])
    assert max(COUNTED) <= 256
    assert sum(COUNTED) + 2 * 8 <= 8 * 256
    ours = MLP((4,), 2, [3]).double()
    ours.built_by_minima_volume = True
    passes = []
    forward = MLP.forward
    try:
        MLP.forward = lambda self, x: passes.append(len(x)) or forward(self, x)  # type: ignore[method-assign]
        host_of(ours, MANY_X, ["layers.1.weight"])
    finally:
        MLP.forward = forward  # type: ignore[method-assign]
    assert passes == [1]
