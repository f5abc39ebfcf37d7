"""Forward passes that are no pure, per-sample, deterministic functions: run rightly where that is possible, refused by name where not."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from own_models import Case, X, Y, check_gaussian, check_rays, check_trace, normal, seeded, state_of, train
from torch import Tensor, nn

from minima_volume import ViewSettings, measure_volume, other_views
from minima_volume.errors import ConfigError

MANY_X = normal(600, 4, seed=5)
MANY_Y = (MANY_X[:, 0] > 0).long().sort().values  # sorted: the batch statistics of tiles differ
MANY_X = MANY_X[(MANY_X[:, 0] > 0).long().sort(stable=True).indices]


class Hidden(nn.Module):
    """A recurrent net that keeps its hidden state for the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.again, self.out, self.h = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2), None

    def forward(self, x: Tensor) -> Tensor:
        z = self.inputs(x)
        if self.h is not None and len(self.h) == len(x):
            z = z + self.again(self.h)
        h = torch.tanh(z)
        self.h = h.detach()
        return self.out(h)


class LongMemory(nn.Module):
    """A list that grows, and its mean is used."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.memory = nn.Linear(4, 8), nn.Linear(8, 2), []

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.fc1(x))
        self.memory.append(h.detach())
        return self.fc2(h + 0.5 * torch.stack([m for m in self.memory if m.shape == h.shape]).mean(0))


class CachedWeight(nn.Module):
    """In evaluation a product of two weights is kept."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6, bias=False), nn.Linear(6, 6, bias=False), nn.Linear(6, 2)
        self.kind = kind
        self._cache: object = {} if kind == "dictionary" else None

    def product(self) -> Tensor:
        return self.b.weight @ self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            weight = self.product()
        elif self.kind == "dictionary":
            if "weight" not in self._cache:
                self._cache["weight"] = self.product()
            weight = self._cache["weight"]
        else:
            if self._cache is None:
                self._cache = self.product()
            weight = self._cache
        return self.head(torch.tanh(F.linear(x, weight)))


class BatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.fc1(x))
        return self.fc2(h - h.mean(0))


class AcrossSamples(nn.Module):
    """Attention between the samples of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.fc1(x))
        return self.fc2(h + torch.softmax(h @ h.T / 3, 1) @ h)


class Counting(nn.Module):
    """A buffer counts the passes and scales the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.passes += 1
        return self.fc2(torch.tanh(self.fc1(x))) * (1 + self.passes)


class Greedy(nn.Module):
    """Works on its input, and on a tensor that it keeps, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.scale = nn.Linear(4, 8), nn.Linear(8, 2), torch.ones((), dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        x *= 2
        if not self.training:
            self.scale += 0.5
        return self.fc2(torch.tanh(self.fc1(x))) * self.scale


class ByHook(nn.Module):
    """The state hangs in a variable of a hook, not in the module."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)
        kept: list[Tensor] = []

        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            last = kept[-1] if kept and kept[-1].shape == output.shape else 0.0
            kept.append(torch.tanh(output.detach()))
            return output + last

        self.kept = kept
        self.fc1.register_forward_hook(hook)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(x)))


def forget(*names: str):
    def reset(model: nn.Module) -> None:
        for name in names:
            value = getattr(model, name)
            if isinstance(value, list | dict):
                value.clear()
            elif name in dict(model.named_buffers()) or name == "scale":
                value.fill_(0.0 if name == "passes" else 1.0)
            else:
                setattr(model, name, None)

    return reset


def case(build, *names: str, x: Tensor = X, y: Tensor = Y, **settings) -> Case:
    reset = forget(*names)
    made = lambda: train(seeded(build), x, y, F.cross_entropy, reset=reset)  # noqa: E731
    return Case(made, x, y, F.cross_entropy, reset=reset, **settings)


CASES = {
    "hidden state": case(Hidden, "h"),
    "a list that grows": case(LongMemory, "memory"),
    "cache of a weight": case(lambda: CachedWeight("attribute"), "_cache"),
    "cache of a weight in a dictionary": case(lambda: CachedWeight("dictionary"), "_cache"),
    "batch statistics": case(BatchNorm, x=MANY_X, y=MANY_Y, sigma=0.3),
    "centred on the batch": case(Centred, x=MANY_X, y=MANY_Y, sigma=0.5),
    "attention between samples": case(AcrossSamples, sigma=0.35),
    "a counting buffer": case(Counting, "passes"),
    "in place on input and constant": case(Greedy, "scale"),
    "state in a hook": case(ByHook, "kept", sigma=0.3),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_pass_starts_from_the_same_state(case: Case):
    """Rays, Gaussian mass and Hessian trace are those of a plain loop over whole batches that begins each pass afresh."""
    model = case.build()
    before = state_of(model)
    settings = {"threshold": case.threshold, "progress": False}
    measure_volume(model, case.x, case.y, measure="ball", num_directions=2, **settings)
    other_views(model, case.x, case.y, settings=ViewSettings(num_chains=2, num_draws=8, num_burn_in=4))
    assert state_of(model) == before
    check_rays(case, model)
    check_gaussian(case, model, 400)
    if case is not CASES["a list that grows"]:  # its gradient is not that of its loss, see below
        check_trace(case, model)


def test_gradients_that_are_not_slopes():
    """A forward pass that uses something detached has no views by derivatives, and says why; its volume is measured."""
    case = CASES["a list that grows"]
    views = other_views(case.build(), X, Y)
    assert views.trace is None and views.sam is None and views.learning_coefficient is None
    assert "gradient of LongMemory is not the slope of its loss" in views.notes["trace"]


@pytest.mark.parametrize(
    "name", ["hidden state", "cache of a weight", "cache of a weight in a dictionary", "a list that grows"]
)
def test_what_an_earlier_pass_left_is_not_used(name: str):
    """The same numbers whether or not the model was used before; a note reports it if it matters, and kept state stays."""
    case = CASES[name]
    model = case.build()

    def measure():
        return measure_volume(model, X, Y, threshold=0.3, measure="ball", num_directions=3, progress=False)

    fresh = measure()
    model.eval()
    with torch.no_grad():
        model(X)  # leaves something behind
        kept = state_of(model)
    used = measure()
    assert np.array_equal(fresh.coefficients, used.coefficients)
    assert state_of(model) == kept
    assert ("of an earlier pass was not used" in used.verdict) == (name == "hidden state")


def test_one_batch_for_each_landscape():
    """Nested landscapes of a model that mixes samples are each a batch of their own, not prefixes of the longest."""
    from minima_volume.perturbation.engine import LossEngine

    model = CASES["centred on the batch"].build().eval()
    engine = LossEngine(model, MANY_X, MANY_Y, sizes=[50, 333, 600])
    assert engine.apart
    with torch.no_grad():
        right = [F.cross_entropy(model(MANY_X[:n]), MANY_Y[:n]).item() for n in (50, 333, 600)]
    np.testing.assert_allclose(engine.start.loss[:, 0], right, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------ losses


def clipped(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(-1) - targets).square()


def test_a_loss_that_changes_its_targets():
    """It gets copies: the user's targets stay, and every call sees the same ones."""
    target = normal(60, seed=3) * 0.3 + X[:, 0]
    plain = lambda outputs, y: (outputs.squeeze(-1) - (y - 0.01)).square().mean()  # noqa: E731
    model = train(seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))), X, target, plain)

    def own(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - y.sub_(0.01)).square()

    kept = target.clone()
    start = float(plain(model(X), target))
    case = Case(lambda: model, X, target, plain, own, threshold=3 * start, sigma=0.1)
    check_rays(case, model)
    check_gaussian(case, model, 300)
    check_trace(case, model)
    assert torch.equal(target, kept)


def test_a_loss_that_compares_samples():
    """A sample's loss that depends on the others, as a contrastive one's does, is evaluated on whole landscapes."""
    target = X[:, 0]

    def relative(outputs: Tensor, y: Tensor) -> Tensor:
        losses = clipped(outputs, y)
        return losses * (1 + losses.mean())

    plain = lambda outputs, y: relative(outputs, y).mean()  # noqa: E731
    x = torch.cat([X] * 10)  # more samples than a tile has
    x = x + 0.05 * normal(*x.shape, seed=9)
    y = torch.cat([target] * 10).sort().values
    model = train(seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))), x, y, plain, steps=30)
    start = float(plain(model(x), y))
    case = Case(lambda: model, x, y, plain, relative, threshold=1.5 * start, sigma=0.1)
    check_rays(case, model)


# ----------------------------------------------------------------------------------------------------- refused


class Noisy(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.fc1, self.noise, self.fc2 = nn.Linear(4, 8), Noise(kind), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.noise(torch.tanh(self.fc1(x))))


class Noise(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.generator = kind, torch.Generator().manual_seed(0)

    def forward(self, h: Tensor) -> Tensor:
        if self.kind == "dropout":
            return F.dropout(h, 0.5)  # on in evaluation, too
        if self.kind == "torch":
            return h + 0.1 * torch.randn_like(h)
        if self.kind == "numpy":
            return h + 0.1 * torch.from_numpy(np.random.standard_normal(h.shape))  # noqa: NPY002
        return h + 0.1 * torch.randn(h.shape, generator=self.generator).to(h)


@functools.cache
def table(owner: int) -> Tensor:
    return OWNERS[owner]().detach().clone()


OWNERS: dict[int, object] = {}


class Outside(nn.Module):
    """All that the forward pass uses of the weights was put aside, where nobody can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)
        OWNERS[7] = lambda: self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ table(7).T


@pytest.mark.parametrize("kind", ["dropout", "torch", "numpy", "generator"])
def test_randomness_in_forward_is_refused(kind: str):
    """By every door, with the module's name; the random numbers of the process stay where they were."""
    model = seeded(lambda: Noisy(kind))
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    for measure in (
        lambda: measure_volume(model, X, Y, threshold=1.0, sigma=0.1, progress=False),
        lambda: measure_volume(model, X, Y, threshold=1.0, measure="ball", progress=False),
        lambda: other_views(model, X, Y, threshold=1.0),
    ):
        with pytest.raises(ConfigError, match=r"module 'noise' \(Noise\) gives other outputs for the same inputs"):
            measure()
    assert torch.equal(torch.get_rng_state(), before[0]) and str(np.random.get_state()) == before[1]  # noqa: NPY002


def test_a_forward_pass_that_no_parameter_reaches():
    """What nothing moves is not measured."""
    table.cache_clear()
    model = seeded(Outside)
    with pytest.raises(ConfigError, match=r"none of the perturbed parameters of Outside \(fc\.weight, fc\.bias\)"):
        measure_volume(model, X, Y, threshold=1.0, sigma=0.1, progress=False)


def test_parameters_that_take_no_part_are_said():
    """An unused head is no fault, but it is named."""

    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.spare = nn.Linear(4, 2), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x)

    model = train(seeded(Spare), X, Y, F.cross_entropy)
    found = measure_volume(model, X, Y, threshold=0.3, sigma=0.1, progress=False)
    assert "12 of the 22 perturbed entries take no part in the forward pass: spare.weight, spare.bias" in found.verdict
