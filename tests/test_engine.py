"""The loss engine against the plain loop, written afresh here: float64, theta* + c * direction, one forward a landscape."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minima_volume.errors import ConfigError
from minima_volume.perturbation import cnn_path, mlp_path, tiles
from minima_volume.perturbation import engine as engine_module
from minima_volume.perturbation.curves import trace_curves
from minima_volume.perturbation.engine import EngineError, LossEngine
from minima_volume.perturbation.mlp_path import MLPPath
from minima_volume.perturbation.tiles import plan_tiles, tiles_for

SEEDS = [1, 2, 3]
COEFFICIENTS = [0.0, 1e-3, 0.05, 0.3, 1.0, 2.5]
CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


def mean_loss(loss: str | Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> float:
    if loss == "cross_entropy":
        return F.cross_entropy(outputs.flatten(0, -2), y.flatten().long()).item()
    if loss == "bce_with_logits":
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), y.to(outputs.dtype)).item()
    if loss == "mse":
        return F.mse_loss(outputs, y.to(outputs.dtype).reshape(outputs.shape)).item()
    assert callable(loss)
    return loss(outputs, y).mean().item()


def share_right(loss: str | Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> float:
    """A tie is wrong: the right class must be above every other."""
    if loss == "bce_with_logits":
        return torch.where(y > 0.5, outputs.squeeze(-1) > 0, outputs.squeeze(-1) < 0).double().mean().item()
    if loss == "mse" and y.ndim == 2 and y.shape[1] > 1:
        y = y.argmax(-1)
    elif loss != "cross_entropy":
        return math.nan
    own = outputs.gather(-1, y.unsqueeze(-1))
    return ((outputs >= own).sum(-1) == 1).double().mean().item()


@torch.no_grad()
def plain_loop(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: str | Callable[[Tensor, Tensor], Tensor],
    sizes: Sequence[int],
    seeds: Sequence[int] = SEEDS,
    coefficients: Sequence[float] = COEFFICIENTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and accuracies (K, D, C) by the published loop, in float64, with filter scaling."""
    model = copy.deepcopy(model).double().eval()
    x = x.double() if x.is_floating_point() else x
    buffers = copy.deepcopy(dict(model.named_buffers()))
    named = [(name, p) for name, p in model.named_parameters() if name.endswith(("weight", "bias"))]
    start = [p.clone() for _, p in named]
    losses, accs = np.zeros((2, len(sizes), len(seeds), len(coefficients)))
    for d, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        direction = []
        for p in start:
            xi = torch.randn(p.shape, generator=generator).double()
            rows = p.reshape(len(p), -1).square().sum(1).sqrt() if p.ndim > 1 else torch.ones(len(p))
            direction.append((xi.reshape(len(p), -1) * rows[:, None]).reshape(p.shape))
        for c, coefficient in enumerate(coefficients):
            for (_, p), theta, step in zip(named, start, direction, strict=True):
                p.copy_(theta + coefficient * step)
            for k, size in enumerate(sizes):
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
                outputs = model(x[:size].clone())
                losses[k, d, c] = mean_loss(loss, outputs, y[:size])
                accs[k, d, c] = share_right(loss, outputs, y[:size])
    return losses, accs


def run_engine(engine: LossEngine, seeds: Sequence[int] = SEEDS, coefficients: Sequence[float] = COEFFICIENTS):
    """(losses, accuracies), (K, D, C), all in one call."""
    rows = np.repeat(np.arange(len(seeds)), len(coefficients))
    values = engine.rays(list(seeds)).evaluate(rows, np.tile(np.array(coefficients), len(seeds)))
    shape = len(engine.sizes), len(seeds), len(coefficients)
    return values.loss.reshape(shape), values.accuracy.reshape(shape)


def fixed(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def normal(*shape: int, seed: int = 100, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def integers(high: int, *shape: int, seed: int = 200) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def targets(loss: str, samples: int, outputs: int) -> Tensor:
    if loss == "bce_with_logits":
        return integers(2, samples)
    if loss == "mse":
        return F.one_hot(integers(outputs, samples), outputs).double() if outputs > 1 else normal(samples, 1)
    return integers(outputs, samples)


def mlp(
    widths: Sequence[int], activation: type[nn.Module] = nn.ReLU, bias: bool = True, flatten: bool = False
) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()] if flatten else []
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(a, b, bias=bias), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    x: tuple[int, ...]
    loss: str
    outputs: int
    sizes: tuple[int, ...]
    path: str = "mlp"


def final_activation() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, 3), nn.Tanh())


CASES = {
    "depth 0": Case(lambda: mlp([3, 4]), (40, 3), "cross_entropy", 4, (7, 40)),
    "depth 0, one output, no bias": Case(lambda: mlp([5, 1], bias=False), (33, 5), "mse", 1, (33,)),
    "depth 1": Case(lambda: mlp([2, 31, 3]), (70, 2), "cross_entropy", 3, (1, 20, 70)),
    "depth 2, odd widths, tanh": Case(lambda: mlp([3, 17, 9, 2], nn.Tanh), (129, 3), "cross_entropy", 2, (50, 128, 129)),
    "depth 5, swiss roll": Case(lambda: mlp([2, *[32] * 5, 1]), (300, 2), "bce_with_logits", 1, (50, 90, 300)),
    "depth 3, width 1, gelu": Case(lambda: mlp([4, 1, 5, 1, 2], nn.GELU), (45, 4), "cross_entropy", 2, (45,)),
    "depth 4, no bias, sigmoid": Case(lambda: mlp([6, 16, 16, 15, 20, 7], nn.Sigmoid, False), (60, 6), "mse", 7, (30, 60)),
    "wide, several tiles": Case(lambda: mlp([12, 200, 10]), (1100, 12), "cross_entropy", 10, (60, 600, 1100)),
    "images": Case(lambda: mlp([50, 33, 10], nn.SiLU, True, True), (90, 2, 5, 5), "cross_entropy", 10, (40, 90)),
    "ends in an activation": Case(final_activation, (40, 4), "mse", 3, (40,)),
    "dropout and identity": Case(
        lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.9), nn.ELU(), nn.Identity(), nn.Linear(9, 3)),
        (40, 4), "cross_entropy", 3, (20, 40),
    ),
    "in-place activations": Case(
        lambda: nn.Sequential(nn.Linear(4, 9), nn.LeakyReLU(0.3, inplace=True), nn.Linear(9, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)),
        (40, 4), "cross_entropy", 3, (40,),
    ),
    "cnn with pooling": Case(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3),
        ),
        (60, 1, 8, 8), "cross_entropy", 3, (10, 35, 60), "cnn",
    ),
    "cnn without pooling, stride 2, no bias": Case(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, bias=False), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1)),
        (50, 3, 7, 7), "bce_with_logits", 1, (20, 50), "cnn",
    ),
    "cnn of convolutions only": Case(
        lambda: nn.Sequential(nn.Conv2d(2, 6, 1), nn.GELU(), nn.Conv2d(6, 4, 3, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (40, 2, 5, 5), "mse", 4, (33, 40), "cnn",
    ),
    "one convolution": Case(
        lambda: nn.Sequential(nn.Conv2d(1, 3, 5), nn.Flatten()), (20, 1, 5, 5), "cross_entropy", 3, (20,), "cnn"
    ),
}  # fmt: skip
for mode in ("zeros", "reflect", "replicate", "circular"):
    CASES[f"cnn padding {mode}"] = Case(
        lambda mode=mode: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=2, padding_mode=mode), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1, padding_mode=mode),
            nn.ReLU(), nn.Flatten(), nn.Linear(128, 3),
        ),
        (20, 1, 6, 6), "cross_entropy", 3, (5, 20), "cnn",
    )  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fast_paths_equal_the_plain_loop(case: Case, device: str):
    """Losses to 1e-9 relative in float64 and equal accuracies, in every landscape; the general path gives the same."""
    model, x = fixed(case.build).double(), normal(*case.x)
    y = targets(case.loss, len(x), case.outputs)
    losses, accs = plain_loop(model, x, y, case.loss, case.sizes)
    model, x, y = model.to(device), x.to(device), y.to(device)
    engine = LossEngine(model, x, y, case.loss, case.sizes)
    assert engine.path.name == case.path
    engine.check()
    for one in (engine, LossEngine(model, x, y, case.loss, case.sizes, fast=False)):
        got_losses, got_accs = run_engine(one)
        np.testing.assert_allclose(got_losses, losses, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(got_accs, accs, rtol=1e-12)
        np.testing.assert_allclose(one.start.loss[:, 0], losses[:, 0, 0], rtol=1e-9)
    assert LossEngine(model, x, y, case.loss, fast=False).path.name == "general"


@st.composite
def perceptrons(draw: st.DrawFn) -> dict:
    samples = draw(st.integers(1, 80))
    return {
        "widths": draw(st.lists(st.integers(1, 40), min_size=2, max_size=7)),
        "activation": draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU, nn.Softplus])),
        "bias": draw(st.booleans()),
        "flatten": draw(st.booleans()),
        "sizes": sorted(draw(st.sets(st.integers(1, samples), max_size=4)) | {samples}),
        "loss": draw(st.sampled_from(["cross_entropy", "bce_with_logits", "mse"])),
        "tile": draw(st.integers(1, 50)),
        "smallest": draw(st.integers(1, 40)),
        "max_chunk": draw(st.integers(4, 30)),
        "cache": draw(st.sampled_from([1, 5_000, 4 << 20])),
        "seed": draw(st.integers(0, 10)),
    }


@given(perceptrons())
@settings(max_examples=40, deadline=None)
def test_any_perceptron_with_any_chunks_equals_the_plain_loop(p: dict):
    """Whatever the architecture, the landscapes, the tiles and the chunks."""
    widths = p["widths"] if p["loss"] != "bce_with_logits" else [*p["widths"][:-1], 1]
    model = fixed(lambda: mlp(widths, p["activation"], p["bias"], p["flatten"]), p["seed"]).double()
    x, y = normal(p["sizes"][-1], widths[0]), targets(p["loss"], p["sizes"][-1], widths[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "SMALLEST_TILE", p["smallest"])
        patch.setattr(mlp_path, "plan_tiles", lambda sizes, largest: plan_tiles(sizes, p["tile"]))
        patch.setattr(mlp_path, "MAX_CHUNK", p["max_chunk"])
        patch.setattr(mlp_path, "CACHE_BYTES", p["cache"])
        engine = LossEngine(model, x, y, p["loss"], p["sizes"])
        assert engine.path.name == "mlp"
        losses, accs = run_engine(engine)
    expected_losses, expected_accs = plain_loop(model, x, y, p["loss"], p["sizes"])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(accs, expected_accs)


@given(
    st.integers(1, 3), st.integers(1, 6), st.integers(4, 9), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2),
    st.sampled_from(["zeros", "reflect", "circular"]), st.integers(1, 40), st.integers(1, 9), st.integers(1, 60),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_any_convolutional_stack_with_any_chunks_equals_the_plain_loop(
    depth: int,
    channels: int,
    side: int,
    kernel: int,
    stride: int,
    padding: int,
    mode: str,
    samples: int,
    chunk: int,
    tile: int,
):
    """Whatever the kernel, stride, padding, tiles and chunks."""

    def build() -> nn.Module:
        conv = nn.Conv2d(depth, channels, kernel, stride, padding, padding_mode=mode)
        return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))

    model, x, y = fixed(build).double(), normal(samples, depth, side, side), integers(3, samples)
    sizes = sorted({1, (samples + 1) // 2, samples})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn_path.CNNPath, "chunk", chunk)
        patch.setattr(cnn_path, "plan_tiles", lambda sizes, largest: plan_tiles(sizes, tile))
        engine = LossEngine(model, x, y, sizes=sizes)
        assert engine.path.name == "cnn"
        losses, accs = run_engine(engine)
    expected_losses, expected_accs = plain_loop(model, x, y, "cross_entropy", sizes)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(accs, expected_accs)


@given(st.sets(st.integers(1, 3000), min_size=1, max_size=6), st.integers(1, 700))
@settings(max_examples=200, deadline=None)
def test_tiles_cover_every_sample_once_and_cut_at_every_landscape(sizes: set[int], largest: int):
    """Tiles follow each other, hold at most `largest` samples, and each landscape ends at a cut."""
    plan = plan_tiles(sorted(sizes), largest)
    assert [t.start for t in plan] == [0, *(t.stop for t in plan[:-1])]
    assert plan[-1].stop == max(sizes)
    ends = {t.start + cut for t in plan for cut in t.cuts}
    assert sizes <= ends
    for t in plan:
        assert 0 < t.stop - t.start <= largest
        assert t.cuts[-1] == t.stop - t.start
        assert list(t.cuts) == sorted(set(t.cuts))
    for size in sizes:
        needed = tiles_for(plan, size)
        assert needed[-1].start < size <= needed[-1].stop


# ------------------------------------------------------------------------------------------------ float32


def confident(scale: float, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """An MLP that is right with large margins on every sample: its loss is as small as `scale` is large."""
    model = fixed(lambda: mlp([8, 64, 64, 4]), 3)
    with torch.no_grad():
        model[-1].weight.mul_(scale)
        model[-1].bias.mul_(scale)
        x = normal(4000, 8, dtype=torch.float32)
        top = model(x).topk(2).values
        keep = (top[:, 0] - top[:, 1]).topk(250).indices
        x = x[keep]
        y = model(x).argmax(1)
    return model.to(dtype), x.to(dtype), y


BOUNDS = {(1e-6, 1e-4): 9e-3, (1e-4, 1e-2): 7e-5, (1e-2, 1e3): 2e-6}  # ENGINE.md's baseline, by decade of loss


@pytest.mark.parametrize("fast", [True, False])
def test_float32_errors_by_decade_are_no_worse_than_the_baselines(fast: bool):
    """Relative error of float32 losses against the float64 plain loop; every decade must be met by 30 losses or more."""
    exact, got = [], []
    coefficients = [0.0, *np.geomspace(0.003, 1.0, 14)]
    for scale in (1, 10, 30, 40, 55, 65, 75):
        model, x, y = confident(scale)
        exact.append(plain_loop(model, x, y, "cross_entropy", [100, 250], SEEDS, coefficients)[0].ravel())
        engine = LossEngine(model, x, y, sizes=[100, 250], fast=fast)
        assert engine.path.name == ("mlp" if fast else "general")
        got.append(run_engine(engine, SEEDS, coefficients)[0].ravel())
    truth, values = np.concatenate(exact), np.concatenate(got)
    error = np.abs(values - truth) / truth
    for (low, high), bound in BOUNDS.items():
        here = (low <= truth) & (truth < high)
        assert here.sum() >= 30
        assert error[here].max() <= bound, (low, error[here].max())


# ----------------------------------------------------------------------------------------- the general path


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, 6, 3), nn.Sequential(Block(6), Block(6)), nn.Linear(6, 4)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 3, 3)
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), 1, 8), tokens], 1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


class GPT(nn.Module):
    """Two causal layers; the output matrix is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(6, 8)
        layers = [nn.TransformerEncoderLayer(8, 2, 16, 0.3, batch_first=True, norm_first=True) for _ in range(2)]
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight
        self.register_buffer("mask", torch.ones(6, 6).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            hidden = layer(hidden, src_mask=self.mask)
        return self.head(self.norm(hidden))


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 3), nn.Linear(3, 16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(torch.tanh(self.encoder(x.flatten(1))))).reshape(x.shape)


class Counting(nn.Module):
    """Its output depends on how often it has been called since its buffers were set."""

    def __init__(self, rebind: bool) -> None:
        super().__init__()
        self.layer, self.rebind = nn.Linear(3, 2), rebind
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.rebind:
            self.calls = self.calls + 1
        else:
            self.calls += 1
        return self.layer(x) * self.calls


class Greedy(nn.Module):
    """Works on its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return self.layer(x)


class TrainingBranch(nn.Module):
    """Adds a layer while training; measured as it is in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        return F.relu(hidden) if self.training else hidden


def tilted(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss of one's own: expectile loss, per sample."""
    difference = y - outputs.squeeze(-1)
    return torch.where(difference > 0, 0.9, 0.1) * difference.square()


ANY_MODEL = {
    "resnet with batch norm": (ResNet, normal(21, 3, 8, 8), integers(4, 21), "cross_entropy", (10, 21)),
    "vit with dropout": (ViT, normal(12, 1, 6, 6), integers(3, 12), "cross_entropy", (5, 12)),
    "gpt with tied embeddings": (GPT, integers(11, 9, 6), integers(11, 9, 6, seed=1), "cross_entropy", (4, 9)),
    "autoencoder": (Autoencoder, normal(14, 1, 4, 4), normal(14, 1, 4, 4), "mse", (14,)),
    "own loss": (lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)), normal(20, 3), normal(20), tilted, (7, 20)),
    "counting in place": (lambda: Counting(False), normal(20, 3), integers(2, 20), "cross_entropy", (20,)),
    "counting by rebinding": (lambda: Counting(True), normal(20, 3), integers(2, 20), "cross_entropy", (20,)),
    "in place on its input": (Greedy, normal(20, 3), integers(2, 20), "cross_entropy", (8, 20)),
    "instance norm in 600 samples": (
        lambda: nn.Sequential(nn.Conv1d(1, 2, 2), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(6, 2)),
        normal(600, 1, 4), integers(2, 600), "cross_entropy", (550, 600),
    ),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(("build", "x", "y", "loss", "sizes"), ANY_MODEL.values(), ids=ANY_MODEL)
def test_any_model_equals_the_plain_loop(build, x: Tensor, y: Tensor, loss, sizes: tuple[int, ...], device: str):
    """Losses to 1e-9 and accuracies (of tokens, where there are several) through the general path; the model is left alone."""
    model = fixed(build).double().train()
    losses, accs = plain_loop(model, x, y, loss, sizes)
    model, x, y = model.to(device), x.to(device), y.to(device)
    state, x_before = copy.deepcopy(model.state_dict()), x.clone()
    engine = LossEngine(model, x, y, loss, sizes)
    assert engine.path.name == "general"
    got_losses, got_accs = run_engine(engine)
    np.testing.assert_allclose(got_losses, losses, rtol=1e-9)
    if loss != "mse":
        np.testing.assert_allclose(got_accs, accs, rtol=1e-12)
    assert torch.equal(x, x_before)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_models_are_measured_in_evaluation_mode():
    """What a module does only while training is not traced either."""
    model, x, y = fixed(TrainingBranch).double().train(), normal(20, 3), integers(2, 20)
    engine = LossEngine(model, x, y)
    engine.check()
    np.testing.assert_allclose(run_engine(engine)[0], plain_loop(model, x, y, "cross_entropy", [20])[0], rtol=1e-9)


def hooked() -> nn.Module:
    model = mlp([3, 4, 2])
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    return model


def parametrised() -> nn.Module:
    model = mlp([3, 4, 2])
    nn.utils.parametrizations.weight_norm(model[0])
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    model[2].weight = model[0].weight
    return model


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + torch.relu(self.a(x)))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x.flatten(1))).relu())


def shared_layer() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(3, 2))


PATHS = {
    "functional relu and flatten": (Functional, "mlp"),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2)), "mlp"),
    "hook": (hooked, "general"),
    "parametrised layer": (parametrised, "general"),
    "tied weights": (tied, "general"),
    "layer used twice": (shared_layer, "general"),
    "subclass of Linear": (lambda: nn.Sequential(Doubled(3, 4), nn.ReLU(), nn.Linear(4, 2)), "general"),
    "skip connection": (Residual, "general"),
    "normalisation": (lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "general"),
    "activation first": (lambda: nn.Sequential(nn.LeakyReLU(0.5, inplace=True), nn.Linear(3, 2)), "general"),
}


@pytest.mark.parametrize(("build", "path"), PATHS.values(), ids=PATHS)
def test_the_fast_path_is_taken_only_where_it_is_right(build: Callable[[], nn.Module], path: str):
    """The chosen path, and either way the losses of the plain loop."""
    model, x, y = fixed(build).double(), normal(20, 3), integers(2, 20)
    engine = LossEngine(model, x, y)
    assert engine.path.name == path
    np.testing.assert_allclose(run_engine(engine)[0], plain_loop(model, x, y, "cross_entropy", [20])[0], rtol=1e-9)


def test_some_parameters_alone_take_the_general_path():
    """With names=[...] only those move: the loss is that of the model with the one perturbed matrix."""
    model, x, y = fixed(lambda: mlp([3, 4, 2])).double(), normal(20, 3), integers(2, 20)
    engine = LossEngine(model, x, y, names=["2.weight"], scaling="none")
    assert engine.path.name == "general"
    xi = torch.randn(2, 4, generator=torch.Generator().manual_seed(5)).double()
    got = engine.rays([5]).evaluate(np.array([0]), np.array([0.7])).loss[0, 0]
    with torch.no_grad():
        model[2].weight.add_(0.7 * xi)
    assert got == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-12)


# --------------------------------------------------------------------------------------- self-check and errors


def test_check_catches_a_broken_mlp_path(monkeypatch: pytest.MonkeyPatch):
    """A fast path that is 2 % off is refused before anything is measured; the untouched one passes."""
    engine = LossEngine(fixed(lambda: mlp([3, 8, 2])), normal(40, 3, dtype=torch.float32), integers(2, 40))
    engine.check()
    forward = MLPPath.forward
    monkeypatch.setattr(MLPPath, "forward", lambda self, *args: forward(self, *args) * 1.02)
    with pytest.raises(EngineError, match=r"\(mlp\).*fast=False"):
        engine.check()


def test_check_catches_a_forgotten_first_layer_bias(monkeypatch: pytest.MonkeyPatch):
    """A step of the first layer that is left out, as a wrong linearity would, is noticed for a CNN too."""
    case = CASES["cnn with pooling"]
    engine = LossEngine(fixed(case.build), normal(*case.x, dtype=torch.float32), integers(3, 60), sizes=case.sizes)
    engine.check()
    convolve = cnn_path.CNNPath._convolve
    monkeypatch.setattr(cnn_path.CNNPath, "_convolve", lambda self, *args: convolve(self, *args) * 0.9)
    with pytest.raises(EngineError, match=r"\(cnn\)"):
        engine.check()


def test_check_uses_landscapes_of_at_most_256_samples(monkeypatch: pytest.MonkeyPatch):
    """The check is cheap: it compares the largest landscape of at most 256 samples, else the smallest."""
    asked = []
    evaluate = engine_module.Rays.evaluate

    def spy(self, rows, coefficients, sizes=None, wrong_allowed=None):
        asked.append(sizes)
        return evaluate(self, rows, coefficients, sizes, wrong_allowed)

    monkeypatch.setattr(engine_module.Rays, "evaluate", spy)
    model, x, y = fixed(lambda: mlp([3, 4, 2])), normal(900, 3, dtype=torch.float32), integers(2, 900)
    LossEngine(model, x, y, sizes=[50, 200, 900]).check()
    LossEngine(model, x, y, sizes=[700, 900]).check()
    assert asked == [[200], [200], [700], [700]]


@pytest.mark.parametrize(
    ("x", "y", "sizes", "message"),
    [
        (normal(9, 3), integers(2, 9), None, "float64.*float32"),
        (normal(9, 3).float(), integers(2, 8), None, "x has 9, y has 8"),
        (normal(9, 3).float(), integers(2, 9), [3, 10], "1 to 9"),
        (normal(9, 3).float(), integers(2, 9), [0, 9], "1 to 9"),
        (normal(9, 3).float(), integers(3, 9) + 1, None, "labels go from 1 to 3"),
    ],
)
def test_samples_that_do_not_fit(x: Tensor, y: Tensor, sizes: list[int] | None, message: str):
    """Types, lengths, landscape sizes and labels are checked before anything runs."""
    with pytest.raises(ConfigError, match=message):
        LossEngine(mlp([3, 2]), x, y, sizes=sizes)


# ------------------------------------------------------------------------------------------------ bit identity

SAME = {
    "mlp": (lambda: mlp([2, 32, 17, 1]), normal(300, 2), integers(2, 300), "bce_with_logits", (50, 90, 300)),
    "depth 0": (lambda: mlp([7, 3]), normal(70, 7), integers(3, 70), "cross_entropy", (20, 33, 70)),
    "wide mlp": (lambda: mlp([30, 100, 10]), normal(700, 30), integers(10, 700), "cross_entropy", (60, 600, 700)),
    "cnn": (CASES["cnn with pooling"].build, normal(60, 1, 8, 8), integers(3, 60), "cross_entropy", (10, 35, 60)),
    "general": (Residual, normal(40, 3), integers(2, 40), "cross_entropy", (10, 40)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("build", "x", "y", "loss", "sizes"), SAME.values(), ids=SAME)
def test_results_do_not_depend_on_the_company(
    build, x: Tensor, y: Tensor, loss: str, sizes: tuple[int, ...], dtype: torch.dtype
):
    """Bit for bit the same losses in any batch, with any directions held together, and whichever landscapes are asked for."""
    model, x = fixed(build).to(dtype), x.to(dtype)
    engine = LossEngine(model, x, y, loss, sizes)
    seeds, grid = list(range(1, 14)), np.array([0.01, 0.1, 0.5, 1.0])
    whole = engine.rays(seeds).evaluate(np.repeat(np.arange(13), 4), np.tile(grid, 13))
    whole_loss, whole_acc = whole.loss.reshape(-1, 13, 4), whole.accuracy.reshape(-1, 13, 4)
    rng = np.random.default_rng(0)
    for _ in range(12):
        held = rng.choice(13, rng.integers(1, 14), replace=False)
        rays = engine.rays([seeds[i] for i in held])
        rows, columns = rng.integers(0, len(held), size := rng.integers(1, 40)), rng.integers(0, 4, size)
        asked = sorted(rng.choice(len(sizes), rng.integers(1, len(sizes) + 1), replace=False))
        values = rays.evaluate(rows, grid[columns], [sizes[k] for k in asked])
        assert np.array_equal(values.loss, whole_loss[asked][:, held[rows], columns])
        assert np.array_equal(values.accuracy, whole_acc[asked][:, held[rows], columns])


@pytest.mark.parametrize(("build", "x", "y", "loss", "sizes"), SAME.values(), ids=SAME)
def test_results_do_not_depend_on_memory_or_shards(build, x: Tensor, y: Tensor, loss: str, sizes: tuple[int, ...]):
    """Curves are the same bit for bit with one direction held at a time, and from two shards of the seeds."""
    model, x = fixed(build).float(), x.float()
    grid = np.linspace(0, 1, 9) ** 2
    engine, tiny = (LossEngine(model, x, y, loss, sizes, memory_gib=gib) for gib in (2.0, 1e-9))
    assert tiny.group_size == 1
    assert engine.group_size > 10
    curves = trace_curves(engine, range(1, 12), grid, 1.0)
    one_by_one = trace_curves(tiny, range(1, 12), grid, 1.0)
    for name in ("loss", "accs", "seeds", "norms"):
        whole = getattr(curves, name)
        assert np.array_equal(whole, getattr(one_by_one, name), equal_nan=True)
        axis = 1 if whole.ndim == 3 else 0
        shards = [getattr(trace_curves(engine, part, grid, 1.0), name) for part in (range(1, 5), range(5, 12))]
        assert np.array_equal(whole, np.concatenate(shards, axis), equal_nan=True)


def test_scores_are_the_margins_in_order():
    """`score` is the (w + 1)-th smallest margin of each landscape, over tokens where there are several."""
    model, x, y = fixed(lambda: mlp([3, 8, 3])).double(), normal(200, 3), integers(3, 200)
    engine = LossEngine(model, x, y, sizes=[40, 200])
    values = engine.start
    scores = score_at_start(engine, [3, 150])
    with torch.no_grad():
        outputs = model(x)
    own = outputs.gather(1, y[:, None])[:, 0]
    margins = own - outputs.scatter(1, y[:, None], -torch.inf).max(1).values
    assert scores == pytest.approx([margins[:40].sort().values[3].item(), margins.sort().values[150].item()], rel=1e-12)
    right = margins > 0
    assert values.accuracy[:, 0].tolist() == pytest.approx(
        [right[:40].double().mean().item(), right.double().mean().item()]
    )
    gpt, tokens, labels = fixed(GPT).double(), integers(11, 9, 6), integers(11, 9, 6, seed=1)
    engine = LossEngine(gpt, tokens, labels)
    with torch.no_grad():
        logits = gpt.eval()(tokens).flatten(0, 1)
    own = logits.gather(1, labels.flatten()[:, None])[:, 0]
    margins = own - logits.scatter(1, labels.flatten()[:, None], -torch.inf).max(1).values
    assert engine.answers == 6
    assert score_at_start(engine, [50]) == pytest.approx([margins.sort().values[50].item()], rel=1e-10)


def score_at_start(engine: LossEngine, wrong_allowed: list[int]) -> list[float]:
    """The scores of the minimum itself."""
    rays = engine.rays([1])
    values = rays.evaluate(np.zeros(1, int), np.zeros(1), engine.sizes, wrong_allowed)
    assert values.score is not None
    return values.score[:, 0].tolist()
