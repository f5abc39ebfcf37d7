"""The engine against the plain loop in float64, for networks of thirty and more architectures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_cases import CUDA, integers, normal, plain_loop, run_engine
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from minima_volume.perturbation.engine import LossEngine

COUNT, CLASSES = 40, 3
SIZES = [7, 30, COUNT]
COEFFICIENTS = [0.0, 1e-3, 0.05, 0.3, 1.0]
VECTORS, IMAGES, SERIES = normal(COUNT, 6), normal(COUNT, 2, 8, 8, seed=1), normal(COUNT, 5, 6, seed=2)
TOKENS = integers(9, COUNT, 5)


class Plus(nn.Module):
    """x + inner(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Beside(Plus):
    """x and inner(x), one after the other along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)


class Twice(Plus):
    """The same layers twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


class Attention(nn.Module):
    """Self-attention, with or without a mask that hides what follows."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1) if causal else None
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0]


class Scaled(nn.Module):
    """`scaled_dot_product_attention` written by hand, as GPT has it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Recurrent(nn.Module):
    """The last hidden state of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase], **options: int | bool) -> None:
        super().__init__()
        self.layer = kind(6, 5, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


class Tied(nn.Module):
    """Embeddings that are read again as the output layer; classes are the first tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(9, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return (self.hidden(self.embedding(x).mean(1)) @ self.embedding.weight.T)[:, :CLASSES]


class UNet(nn.Module):
    """Down, up, and a skip across."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.last = nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([x, self.up(F.relu(self.down(x)))], 1)).mean((2, 3))


class Mixture(nn.Module):
    """Experts, weighted by the data, or the one that the data choose."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.gate, self.experts, self.hard = nn.Linear(6, 2), nn.ModuleList(nn.Linear(6, CLASSES) for _ in "ab"), hard

    def forward(self, x: Tensor) -> Tensor:
        gate, outputs = self.gate(x), torch.stack([expert(x) for expert in self.experts], 1)
        if self.hard:
            return outputs[torch.arange(len(x)), gate.argmax(1)]
        return (gate.softmax(1).unsqueeze(-1) * outputs).sum(1)


class Squeezed(nn.Module):
    """Channels that are weighted by what they hold (squeeze and excitation)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x.mean((2, 3)))[:, :, None, None]


class Mean(nn.Module):
    """The mean over one dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dim)


def head(width: int, *layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def images(channels: int, *layers: nn.Module) -> nn.Sequential:
    return head(channels, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def conv(out: int = 4, **options: object) -> nn.Conv2d:
    return nn.Conv2d(2, out, 3, **options)  # type: ignore[arg-type]


def series(width: int, *layers: nn.Module) -> nn.Sequential:
    return head(width, *layers, Mean(1))


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "linear": (lambda: head(6), VECTORS),
    "perceptron": (lambda: head(20, nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU()), VECTORS),
    "perceptron without biases": (lambda: head(20, nn.Linear(6, 20, bias=False), nn.ReLU(), nn.Linear(20, 20, bias=False), nn.ReLU()), VECTORS),
    "perceptron, tanh and GELU": (lambda: head(8, nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 8), nn.GELU()), VECTORS),
    "perceptron, ReLU then tanh": (lambda: head(8, nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh()), VECTORS),
    "perceptron, leaky": (lambda: head(8, nn.Linear(6, 8), nn.LeakyReLU(), nn.Linear(8, 8), nn.ELU(), nn.Dropout(0.5)), VECTORS),
    "two layers without activation": (lambda: head(20, nn.Linear(6, 20), nn.Linear(20, 20), nn.ReLU()), VECTORS),
    "two activations": (lambda: head(20, nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Tanh()), VECTORS),
    "residual perceptron": (lambda: head(6, Plus(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)), Plus(nn.Linear(6, 6), nn.ReLU())), VECTORS),
    "dense perceptron": (lambda: head(16, Beside(nn.Linear(6, 4), nn.ReLU()), Beside(nn.Linear(10, 6), nn.ReLU())), VECTORS),
    "BatchNorm": (lambda: head(8, nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()), VECTORS),
    "LayerNorm": (lambda: head(8, nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU()), VECTORS),
    "weight norm": (lambda: head(8, parametrizations.weight_norm(nn.Linear(6, 8)), nn.Tanh()), VECTORS),
    "shared layers": (lambda: head(6, Twice(nn.Linear(6, 6), nn.ReLU())), VECTORS),
    "PReLU, softplus": (lambda: head(8, nn.Linear(6, 8), nn.PReLU(), nn.Linear(8, 8), nn.Softplus()), VECTORS),
    "weighted experts": (lambda: Mixture(hard=False), VECTORS),
    "chosen expert": (lambda: Mixture(hard=True), VECTORS),
    "bilinear gate": (lambda: head(4, nn.Linear(6, 8), nn.GLU()), VECTORS),
    "CNN": (lambda: head(16, conv(), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), nn.Linear(16, 16), nn.ReLU()), IMAGES),
    "CNN, blocks of two": (lambda: head(16, conv(padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), IMAGES),
    "CNN, blocks of two at once": (lambda: head(36, conv(), nn.MaxPool2d(2), nn.Flatten()), IMAGES),
    "CNN, mean pooling": (lambda: images(4, conv(padding=1, padding_mode="circular"), nn.Sigmoid(), nn.AvgPool2d(2)), IMAGES),
    "depthwise and dilated": (lambda: images(8, conv(8, groups=2, dilation=2), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8, padding=1)), IMAGES),
    "strided, without bias": (lambda: images(4, conv(stride=2, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 2)), IMAGES),
    "GroupNorm": (lambda: images(4, conv(), nn.GroupNorm(2, 4), nn.ReLU()), IMAGES),
    "InstanceNorm": (lambda: images(4, conv(), nn.InstanceNorm2d(4, affine=True), nn.ReLU()), IMAGES),
    "residual CNN": (lambda: images(4, conv(padding=1), nn.BatchNorm2d(4), Plus(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())), IMAGES),
    "dense CNN": (lambda: images(6, Beside(conv(padding=1), nn.ReLU())), IMAGES),
    "squeeze and excitation": (lambda: images(4, conv(), nn.ReLU(), Squeezed()), IMAGES),
    "U-net": (UNet, IMAGES),
    "shared convolution": (lambda: images(2, Twice(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())), IMAGES),
    "convolution of series": (lambda: head(4, nn.Conv1d(5, 4, 3), nn.ReLU(), Mean(2)), SERIES),
    "attention": (lambda: series(6, Attention(causal=False)), SERIES),
    "causal attention": (lambda: series(6, Attention(causal=True), nn.LayerNorm(6)), SERIES),
    "attention by hand": (lambda: series(6, Plus(Scaled()), nn.LayerNorm(6)), SERIES),
    "transformer layers": (lambda: series(6, *(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.2, batch_first=True) for _ in "ab")), SERIES),
    "GRU": (lambda: head(5, Recurrent(nn.GRU)), SERIES),
    "LSTM, two layers": (lambda: head(5, Recurrent(nn.LSTM, num_layers=2)), SERIES),
    "RNN, both ways": (lambda: head(10, Recurrent(nn.RNN, bidirectional=True)), SERIES),
    "embedding": (lambda: series(6, nn.Embedding(9, 6), nn.Linear(6, 6), nn.ReLU()), TOKENS),
    "bag of embeddings": (lambda: head(6, nn.EmbeddingBag(9, 6)), TOKENS),
    "tied embedding": (Tied, TOKENS),
}  # fmt: skip


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """The model, with statistics of batches that are not those at the start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float32, 2e-4), (torch.float64, 1e-9)], ids=["float32", "float64"]
)
@pytest.mark.parametrize(("build", "x"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_engine_against_the_plain_loop(
    build: Callable[[], nn.Module], x: Tensor, dtype: torch.dtype, precision: float, device: str
):
    """Losses of three nested landscapes along three directions; in single precision one answer may be a near tie."""
    model, y = built(build).to(dtype), integers(CLASSES, COUNT)
    x = x.to(dtype) if x.is_floating_point() else x
    true, right = plain_loop(model, x, y, "cross_entropy", SIZES, coefficients=COEFFICIENTS)
    model, x, y = model.to(device), x.to(device), y.to(device)
    if device == "cuda":
        precision = max(precision, 1e-7)  # that of torch's weight norm there
    losses, accuracies = run_engine(LossEngine(model, x, y, sizes=SIZES), coefficients=COEFFICIENTS)
    np.testing.assert_allclose(losses, true, rtol=precision, atol=precision / 100)
    assert (np.abs(accuracies - right) * np.array(SIZES)[:, None, None]).max() < 1.5
    assert np.isclose(accuracies, right).mean() > 0.95
    assert np.abs(true[:, :, -1] - true[:, :, :1].squeeze(-1)).min() > 1e-3  # the directions do something
