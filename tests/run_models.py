"""Models of four kinds as a run builds them, (shape, outputs) -> module: points of the plane in, one logit out."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

WIDTH = 6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


# ---- copies that are not the model, or that cannot be made


def partial_forward() -> nn.Module:
    model = Net()
    model.a.forward = functools.partial(nn.Linear.forward, model.a)  # type: ignore[method-assign]
    return model


def bound_method() -> nn.Module:
    model = Net()
    model.b.forward = types.MethodType(lambda self, x: F.linear(x, self.weight, self.bias) * 1.5, model.b)  # type: ignore[method-assign]
    return model


def wrapped_forward() -> nn.Module:
    model = Net()
    old = model.forward
    model.forward = lambda x: 2 * old(x)  # type: ignore[method-assign]
    return model


def pre_hook() -> nn.Module:
    model = Net()
    model.adapter = nn.Linear(2, WIDTH)
    seen = {}
    model.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    model.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] + model.adapter(seen["x"]),))
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        norm = torch.nn.utils.weight_norm
        return nn.Sequential(norm(nn.Linear(2, WIDTH)), nn.Tanh(), norm(nn.Linear(WIDTH, 1)))


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))
    prune.l1_unstructured(model[0], "weight", 0.3)
    return model


class Scaled(nn.Module):
    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.scale = lambda: other.scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale()


def parametrized_by_a_closure() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1))
    model.scale = nn.Parameter(torch.full((WIDTH, 1), 1.5))
    parametrize.register_parametrization(model[0], "weight", Scaled(model))
    return model


class CopiesAreItself(Net):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return self


# ---- forward passes that keep something, or mix samples


class Centred(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.a(x))
        return self.b(hidden - hidden.mean(0))


class AcrossSamples(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        weights = torch.softmax(hidden @ hidden.T / WIDTH**0.5, -1)
        return self.b(torch.tanh(hidden + weights @ hidden))


class Counting(Net):
    """A scale that changes with every evaluation pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        scale = 1.0 if self.training else 1 + 0.3 * self.passes
        self.passes += not self.training
        return scale * super().forward(x)


class BufferState(Net):
    """A running mean that evaluation passes move, too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.a(x))
        out = self.b(hidden - self.mean)
        if not self.training:
            self.mean += 0.5 * (hidden.detach().mean(0) - self.mean)
        return out


class History(Net):
    """Outputs of earlier evaluation passes are averaged in."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.training:
            return out
        alike = [old for old in self.kept if old.shape == out.shape]
        self.kept.append(out.detach())
        return torch.stack([out, *alike]).mean(0)


# ---- parameters whose names say little


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.rnn, self.head = kind(1, WIDTH, batch_first=True, **options), nn.Linear(WIDTH, 1)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.unsqueeze(-1))[0][:, -1, :WIDTH])


class GruCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(1, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.split(1, dim=1):
            state = self.cell(step, state)
        return self.head(state)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.unsqueeze(-1))
        return self.head(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def spectral() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(2, WIDTH)), nn.Tanh(), nn.Linear(WIDTH, 1))


def orthogonal() -> nn.Module:
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(2, WIDTH)), nn.Tanh(), nn.Linear(WIDTH, 1))


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both, self.head = nn.Bilinear(2, 2, WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.both(x, x)))


# ---- outputs of every shape


class Shaped(Net):
    def __init__(self, shape: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.shape(super().forward(x))


class Convolved(nn.Module):
    """(N, 1, 1, 1), as a fully convolutional head gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, WIDTH, (1, 2)), nn.Tanh(), nn.Conv2d(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.reshape(-1, 1, 1, 2))


COPIES = {
    "partial": partial_forward,
    "bound method": bound_method,
    "wrapped": wrapped_forward,
    "pre-hook": pre_hook,
    "old weight_norm": old_weight_norm,
    "pruned": pruned,
    "parametrized by a closure": parametrized_by_a_closure,
    "a copy that is the model": CopiesAreItself,
}
PASSES = {
    "centred": Centred,
    "across samples": AcrossSamples,
    "counting": Counting,
    "a buffer that passes move": BufferState,
    "a list of outputs": History,
}
NAMES = {
    "GRU of two layers": lambda: Recurrent(nn.GRU, num_layers=2),
    "bidirectional RNN": lambda: Recurrent(nn.RNN, bidirectional=True),
    "GRU cell": GruCell,
    "attention": Attention,
    "spectral norm": spectral,
    "orthogonal": orthogonal,
    "bilinear": Bilinear,
}
SHAPES = {
    "(N,)": lambda: Shaped(lambda z: z[:, 0]),
    "(N, 1, 1)": lambda: Shaped(lambda z: z.unsqueeze(-1)),
    "squeezed": lambda: Shaped(lambda z: z.squeeze()),
    "(N, 1, 1, 1)": Convolved,
}
ALL = {**COPIES, **PASSES, **NAMES, **SHAPES}


def build(shape: object, outputs: int, kind: str) -> nn.Module:
    """What `model.name: mine:build` with `model.options: {kind: ...}` makes."""
    return ALL[kind]()


def start_anew(model: nn.Module) -> None:
    """The state in which the author of such a model would begin a pass."""
    if isinstance(model, Counting):
        model.passes = 0
    if isinstance(model, BufferState):
        model.mean.zero_()
    if isinstance(model, History):
        model.kept.clear()
