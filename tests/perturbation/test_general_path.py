"""Any model through the loss engine, and which path it takes, against the plain loop."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine_cases import (
    CUDA,
    GPT,
    Residual,
    fixed,
    integers,
    mlp,
    normal,
    plain_loop,
    run_engine,
)
from torch import Tensor, nn

from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles


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
    """A user's loss: expectile loss, per sample."""
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


def test_a_loss_that_is_no_mean_over_samples_is_taken_once_for_each_landscape() -> None:
    """The worst sample's loss, of every landscape, along rays and at particles; the engine cuts 700 samples into tiles."""
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    x, y = torch.randn(700, 5), torch.randint(0, 2, (700,))

    def worst(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none").max()

    engine = LossEngine(model, x, y, worst, sizes=[30, 700])
    rows, coefficients = np.array([0, 1]), np.array([0.1, 0.4])
    values = engine.rays([3, 4]).evaluate(rows, coefficients)
    each = LossEngine(model, x, y, lambda o, t: F.cross_entropy(o, t, reduction="none"), sizes=[30, 700])
    for b, (row, c) in enumerate(zip(rows, coefficients, strict=True)):
        direction, _ = engine.directions.draw([3, 4][row])
        parameters = [p + c * d for p, d in zip(engine.directions.minimum, direction, strict=True)]
        outputs = F.linear(x, *parameters)
        for k, size in enumerate(engine.sizes):
            assert values.loss[k, b] == pytest.approx(float(worst(outputs[:size], y[:size])), rel=1e-5)
    assert (values.loss >= each.rays([3, 4]).evaluate(rows, coefficients).loss).all()
    particles = Particles(engine, 0.2)
    assert particles.evaluate(particles.draw(3, particles.generator(0))).loss.shape == (2, 3)


class Reusing(Residual):
    """Writes its outputs into the same tensor each time."""

    def forward(self, x: Tensor) -> Tensor:
        outputs = super().forward(x)
        if not hasattr(self, "_kept") or self._kept.shape != outputs.shape:
            self._kept = torch.empty_like(outputs)
        return self._kept.copy_(outputs)


@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (Residual, normal(40, 3), integers(2, 40)),
        (ResNet, normal(21, 3, 8, 8), integers(4, 21)),
        (ViT, normal(12, 1, 6, 6), integers(3, 12)),
        (GPT, integers(11, 9, 6), integers(11, 9, 6, seed=1)),
        (Reusing, normal(40, 3), integers(2, 40)),
    ],
)
def test_values_do_not_depend_on_how_many_are_read_together(
    make: Callable[[], nn.Module], x: Tensor, y: Tensor
) -> None:
    """To the bit, along rays and for particles; with several landscapes, one of which shares a tile."""
    model = fixed(make).eval()
    x = x.float() if x.is_floating_point() else x
    values = []
    for together in (16, 3, 1):
        engine = LossEngine(model, x, y, sizes=[2, 5, len(x)], fast=False)
        assert engine.general.together > 1
        engine.general.together = together
        rays = engine.rays([1, 2])
        rows, coefficients = np.arange(9) % 2, np.linspace(0, 0.5, 9)
        particles = Particles(engine, 0.3)
        assert particles.chunk == together and particles.runner.drawn == 1
        z = particles.draw(9, particles.generator(0))
        values.append([rays.evaluate(rows, coefficients, wrong_allowed=[0, 1, 2]), particles.evaluate(z, [0, 1, 2])])
    for other in values[1:]:
        for a, b in zip(values[0], other, strict=True):
            np.testing.assert_array_equal(a.loss, b.loss)
            np.testing.assert_array_equal(a.accuracy, b.accuracy)
            np.testing.assert_array_equal(a.score, b.score)
