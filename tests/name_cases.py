"""Models of many kinds with what the default moves of each, and the plain loop on the user's own module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from helpers import normal
from torch import Tensor, nn
from torch.nn.utils import parametrizations

SAMPLES, STEPS, FEATURES = 24, 4, 3


class Recurrent(nn.Module):
    """A recurrent module and a linear head on its last step."""

    def __init__(self, rnn: nn.RNNBase, width: int) -> None:
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Cell(nn.Module):
    """A recurrent cell, stepped by hand."""

    def __init__(self, cell: nn.RNNCellBase) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class OwnCell(nn.Module):
    """A recurrent cell of a user's own, which is no module of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(0.5 * torch.randn(4, FEATURES))
        self.weight_hh = nn.Parameter(0.5 * torch.randn(4, 4))
        self.bias_ih = nn.Parameter(torch.zeros(4))
        self.start = nn.Parameter(0.3 * torch.randn(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = self.start
        for step in x.unbind(1):
            state = torch.tanh(step @ self.weight_ih.T + state @ self.weight_hh.T + self.bias_ih)
        return self.head(state)


class Attention(nn.Module):
    """Attention with learned extra keys and values, and learned positions."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, 4)
        self.position = nn.Parameter(0.3 * torch.randn(STEPS, 4))
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True, batch_first=True, **options)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        return self.head(self.norm(self.attention(x, x, x, need_weights=False)[0]).mean(1))


class Flat(nn.Module):
    """Modules one after the other on flattened samples, then a learned scale."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *modules)
        self.gamma = nn.Parameter(torch.tensor([1.3, 0.7]))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.gamma


class Lists(nn.Module):
    """Matrices in a ParameterList, and a bilinear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.ParameterList(0.5 * torch.randn(4, 4) for _ in range(2))
        self.inner, self.bilinear = nn.Linear(STEPS * FEATURES, 4), nn.Bilinear(4, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(x.flatten(1)))
        return self.bilinear(torch.tanh(hidden @ self.matrices[0]), torch.tanh(hidden @ self.matrices[1]))


@dataclass(frozen=True)
class Case:
    """A model, and which of its parameters the default moves, written out."""

    build: Callable[[], nn.Module]
    moved: str
    left_out: str = ""


def _gates(suffixes: str = "l0", kinds: str = "weight_ih weight_hh bias_ih bias_hh", module: str = "rnn") -> str:
    return " ".join(f"{module}.{kind}_{suffix}" for suffix in suffixes.split() for kind in kinds.split())


HEAD = " head.weight head.bias"
WIDE = STEPS * FEATURES
ORIGINALS = "layers.1.bias layers.1.parametrizations.weight.original"
CASES = {
    "LSTM": Case(lambda: Recurrent(nn.LSTM(FEATURES, 4, batch_first=True), 4), _gates() + HEAD),
    "LSTM with projection": Case(
        lambda: Recurrent(nn.LSTM(FEATURES, 4, proj_size=2, batch_first=True), 2), _gates() + " rnn.weight_hr_l0" + HEAD
    ),
    "GRU of two layers": Case(
        lambda: Recurrent(nn.GRU(FEATURES, 3, num_layers=2, batch_first=True), 3), _gates("l0 l1") + HEAD
    ),
    "bidirectional RNN": Case(
        lambda: Recurrent(nn.RNN(FEATURES, 3, bidirectional=True, batch_first=True), 6), _gates("l0 l0_reverse") + HEAD
    ),
    "GRUCell": Case(
        lambda: Cell(nn.GRUCell(FEATURES, 4)), "cell.weight_ih cell.weight_hh cell.bias_ih cell.bias_hh" + HEAD
    ),
    "own cell": Case(OwnCell, "weight_ih weight_hh bias_ih" + HEAD, "start"),
    "attention": Case(
        Attention,
        "embed.weight embed.bias attention.in_proj_weight attention.in_proj_bias attention.bias_k attention.bias_v "
        "attention.out_proj.weight attention.out_proj.bias norm.weight norm.bias" + HEAD,
        "position",
    ),
    "attention of other widths": Case(
        lambda: Attention(kdim=4, vdim=4),
        "embed.weight embed.bias attention.in_proj_weight attention.in_proj_bias attention.bias_k attention.bias_v "
        "attention.out_proj.weight attention.out_proj.bias norm.weight norm.bias" + HEAD,
        "position",
    ),
    "weight norm": Case(
        lambda: Flat(parametrizations.weight_norm(nn.Linear(WIDE, 2))), f"{ORIGINALS}0 {ORIGINALS.split()[1]}1", "gamma"
    ),
    "weight norm of an LSTM": Case(
        lambda: Recurrent(parametrizations.weight_norm(nn.LSTM(FEATURES, 3, batch_first=True), name="weight_hh_l0"), 3),
        "rnn.weight_ih_l0 rnn.bias_ih_l0 rnn.bias_hh_l0 rnn.parametrizations.weight_hh_l0.original0 "
        "rnn.parametrizations.weight_hh_l0.original1" + HEAD,
    ),
    "spectral norm": Case(
        lambda: Flat(parametrizations.spectral_norm(nn.Linear(WIDE, 3)), nn.Tanh(), nn.Linear(3, 2)),
        f"{ORIGINALS} layers.3.weight layers.3.bias",
        "gamma",
    ),
    "orthogonal": Case(
        lambda: Flat(
            parametrizations.orthogonal(nn.Linear(WIDE, 3), orthogonal_map="matrix_exp"), nn.Tanh(), nn.Linear(3, 2)
        ),
        f"{ORIGINALS} layers.3.weight layers.3.bias",
        "gamma",
    ),
    "lists": Case(Lists, "inner.weight inner.bias bilinear.weight bilinear.bias", "matrices.0 matrices.1"),
}


@dataclass(frozen=True)
class Loop:
    """The plain loop: writes into the user's own module, runs it, and puts it back."""

    model: nn.Module
    x: Tensor
    y: Tensor
    names: Sequence[str]

    def loss(self) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(self.model(self.x), self.y))

    @contextmanager
    def moved(self, steps: Sequence[Tensor]) -> Iterator[None]:
        parameters = dict(self.model.named_parameters())
        before = [parameters[name].detach().clone() for name in self.names]
        for name, minimum, step in zip(self.names, before, steps, strict=True):
            parameters[name].data.copy_(minimum + step)
        yield
        for name, minimum in zip(self.names, before, strict=True):
            parameters[name].data.copy_(minimum)

    def norms(self) -> list[Tensor]:
        """F: the norm of each row of what has rows, 1 elsewhere."""
        found = []
        for name in self.names:
            tensor = self.model.get_parameter(name).detach()
            rows = [row.norm() for row in tensor] if tensor.ndim > 1 else [torch.ones((), dtype=tensor.dtype)]
            found.append(torch.stack(rows).reshape(-1, *[1] * (tensor.ndim - 1)) if tensor.ndim > 1 else rows[0])
        return found

    def xi(self, generator: torch.Generator) -> list[Tensor]:
        shapes = [self.model.get_parameter(name).shape for name in self.names]
        return [torch.randn(shape, generator=generator).double() for shape in shapes]

    def losses(self, sigma: float, count: int, seed: int) -> np.ndarray:
        generator, norms, found = torch.Generator().manual_seed(seed), self.norms(), []
        for _ in range(count):
            with self.moved([sigma * f * z for f, z in zip(norms, self.xi(generator), strict=True)]):
                found.append(self.loss())
        return np.array(found)

    def trace(self, step: float = 1e-3) -> float:
        """sum_j F_j^2 d^2 L / d theta_j^2 by central differences, entry by entry."""
        start, total = self.loss(), 0.0
        for name, norm in zip(self.names, self.norms(), strict=True):
            flat = self.model.get_parameter(name).data.view(-1)
            scale = norm.expand(self.model.get_parameter(name).shape).reshape(-1)
            for j in range(len(flat)):
                value, ends = float(flat[j]), []
                for sign in (1, -1):
                    flat[j] = value + sign * step
                    ends.append(self.loss())
                flat[j] = value
                total += float(scale[j]) ** 2 * (sum(ends) - 2 * start) / step**2
        return total


def looped(case: Case) -> Loop:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = case.build().double().eval()
    x = normal(SAMPLES, STEPS, FEATURES, seed=1)
    names = [name for name, _ in model.named_parameters() if name in case.moved.split()]
    return Loop(model, x, (x.sum((1, 2)) > 0).long(), names)
