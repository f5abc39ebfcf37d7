"""Parameters, samples and outputs of unusual make: views of one memory, sizes at the ends of a type, dictionaries with attributes."""

from __future__ import annotations

import itertools
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from own_models import COUNTED, Counter, X, Y, normal, seeded, train
from torch import Tensor, nn

import minima_volume as mv
from minima_volume import measure_volume
from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import host_of
from minima_volume.hosts.outputs import close
from minima_volume.hosts.passes import uneven
from minima_volume.perturbation.directions import scaling_factor
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.names import perturbed_names
from minima_volume.samples import each


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def test_parameters_that_are_views_of_each_other_are_refused():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(4, 3, bias=False), nn.Linear(3, 4, bias=False)
            self.decoder.weight = nn.Parameter(self.encoder.weight.t())

        def forward(self, x: Tensor) -> Tensor:
            return self.decoder(torch.tanh(self.encoder(x)))

    model, x, settings = Tied(), X.float(), {"threshold": 2.0, "sigma": 0.1, "progress": False}
    with pytest.raises(ConfigError, match=r"encoder.weight and decoder.weight share memory"):
        measure_volume(model, x, x, "mse", **settings)
    assert measure_volume(model, x, x, "mse", names=["encoder"], **settings).num_params == 12


def test_interleaved_views_are_parameters_of_their_own():
    whole = torch.arange(12.0).reshape(4, 3)
    model = nn.Module()
    for i, name in enumerate(("query", "key", "value")):
        setattr(model, f"{name}_weight", nn.Parameter(whole[:, i]))
    assert len(perturbed_names(model)) == 3
    model.all_weight = nn.Parameter(whole)
    with pytest.raises(ConfigError, match="query_weight and all_weight share memory"):
        perturbed_names(model)


@pytest.mark.parametrize("size", [1e-25, 1e-15, 1e19, 1e30])
@pytest.mark.parametrize("scaling", ["filter", "layer", "tensor_std"])
def test_weights_of_any_size_have_a_norm(size: float, scaling: str):
    """In single precision, where their squares are 0 or infinite."""
    weights = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0], [0.5, 0.0, 0.25]])
    right = scaling_factor(weights.double() * size, scaling)
    np.testing.assert_allclose(scaling_factor(weights * size, scaling).double(), right, rtol=1e-5)


def test_arrays_that_a_pass_adds_to_come_back():
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.mean = net(), np.zeros(4)

        def forward(self, x: Tensor) -> Tensor:
            self.mean += x.numpy().mean(0)
            return self.net(x)

    model = seeded(Running)
    model(X)
    before = model.mean.copy()
    measure_volume(model, X, Y, threshold=5.0, sigma=0.1, progress=False)
    assert np.array_equal(model.mean, before)


def test_weights_follow_their_parametrization_within_its_cache():
    from torch.nn.utils import parametrizations, parametrize

    model = seeded(lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2)))
    train(model, X, Y, F.cross_entropy).eval()
    found = []
    for inside in (False, True):
        with parametrize.cached() if inside else torch.no_grad():
            model(X)
            found.append(measure_volume(model, X, Y, threshold=0.3, sigma=0.4, progress=False).log_mass)
            cached = [model[0].weight for _ in range(2)]
            assert (cached[0] is cached[1]) == inside  # the cache is the caller's again
    assert found[0] == found[1] and found[0] < -0.1


def test_where_samples_are_cut_hides_no_groups():
    for samples, group in itertools.product(range(2, 257), range(2, 11)):
        assert uneven(samples) % group, (samples, group)


def test_a_flat_buffer_of_many_parameters_is_looked_at_quickly():
    """As flattened optimisers and recurrent kernels lay them out: neighbours that do not overlap, of one type or several."""
    model = nn.Sequential(*[nn.Linear(30, 30) for _ in range(100)])
    flat, begin = torch.zeros(sum(p.numel() for p in model.parameters())), 0
    for p in model.parameters():
        p.data = flat[begin : begin + p.numel()].view_as(p)
        begin += p.numel()
    assert len(perturbed_names(model, "all")) == 200
    mixed, buffer = nn.Module(), torch.zeros(2000, dtype=torch.uint8)
    mixed.a_weight, mixed.b_weight = (
        nn.Parameter(buffer[i:j].view(t)) for i, j, t in ((0, 800, torch.float16), (800, 1200, torch.float32))
    )
    mixed.empty_weight = nn.Parameter(buffer[400:400].view(torch.float32))
    assert perturbed_names(mixed) == ("a_weight", "b_weight")  # the other has no entries
    mixed.c_weight = nn.Parameter(buffer[796:804].view(torch.float32))
    with pytest.raises(ConfigError, match="a_weight and c_weight share memory"):
        perturbed_names(mixed)


def test_layers_without_inputs_have_norms():
    assert scaling_factor(torch.zeros(3, 0), "filter").shape == (3, 1)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([1.0, 0.0], [1.0, 1e-9], True),
        ([1.0, 1e-5], [1.0, 1e-5 + 6e-8], True),
        ([-1e9, 1.0, 2.0], [-1e9, 1.5, 2.0], False),
        ([-1e4, 1.0, 2.0], [-1e4, 1.5, 2.0], False),
        ([-3.4e38, 1.0, 2.0], [-3.4e38, 1.0 + 2e-7, 2.0], True),
        ([1e9, 2e9], [1e9, 2e9 + 2e3], True),
        ([np.inf, np.nan], [np.inf, np.nan], True),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
    ],
)
def test_what_counts_as_rounding(first: list[float], second: list[float], same: bool):
    assert close(torch.tensor(first), torch.tensor(second)) == close(torch.tensor(second), torch.tensor(first)) == same


class WithAttributes(dict):
    def __init__(self, *args: Any, **entries: Any) -> None:
        super().__init__(*args, **entries)
        self.__dict__ = self


class ReadOnly(dict):
    def __setitem__(self, name: Any, value: Any) -> None:
        raise TypeError("read only")


class OfOne(namedtuple("OfOne", "a")):
    def __new__(cls, a: Tensor) -> OfOne:
        return super().__new__(cls, a)


def test_every_view_of_an_entry_is_changed():
    changed = each(WithAttributes(a=torch.ones(2)), lambda tensor: tensor + 1)
    assert changed.a is changed["a"] and changed.a.tolist() == [2, 2]
    assert each(ReadOnly({"a": torch.ones(1)}), lambda tensor: tensor + 1) == {"a": torch.tensor([2.0])}
    assert each(OfOne(torch.ones(1)), lambda tensor: tensor + 1).a == 2


def test_targets_with_attributes_are_cut_with_their_landscape():
    y, model = normal(60, seed=2), seeded(lambda: nn.Linear(4, 1))
    loss = lambda outputs, targets: (outputs.squeeze(1) - targets.v).square().mean()  # noqa: E731
    engine = LossEngine(model, X, WithAttributes(v=y), loss, sizes=[20, 60])
    right = [float((model(X[:n]).squeeze(1) - y[:n]).square().mean().detach()) for n in (20, 60)]
    np.testing.assert_allclose(engine.start.loss[:, 0], right, rtol=1e-12)


@dataclass
class Out:
    logits: Tensor


class Headed(nn.Module):
    def __init__(self, kind: str, hidden: int = 8) -> None:
        super().__init__()
        self.a, self.b, self.kind = nn.Linear(4, hidden), nn.Linear(hidden, 2), kind

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.a(x))
        logits = self.b(h)
        return {
            "dataclass": Out(logits),
            "list": [logits],
            "pair": (logits, h),
            "integers": (logits, logits.argmax(1)),
        }[self.kind]


def read(outputs: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits if isinstance(outputs, Out) else outputs[0], targets, reduction="none")


@pytest.mark.parametrize("kind", ["dataclass", "list", "pair", "integers"])
def test_minima_of_one_loss_are_compared_whatever_models_return(kind: str):
    models = [train(seeded(lambda h=h: Headed(kind, h)), X, Y, lambda o, t: read(o, t).mean()) for h in (8, 6)]
    volumes = [measure_volume(m, X, Y, read, threshold=0.5, sigma=0.2, progress=False) for m in models]
    assert np.isfinite(mv.compare(*volumes).difference)


def test_a_cache_is_found_behind_a_constant_that_switches_it_off():
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2, bias=False)
            self.mask, self.cache = torch.ones(8, dtype=torch.float64), None

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.a(x))
            if self.mask is None:
                return self.b(h)
            if self.cache is None:
                self.cache = self.b.weight * self.mask
            return h @ self.cache.T

    model = train(seeded(Cached), X, Y, F.cross_entropy, reset=lambda m: setattr(m, "cache", None)).eval()
    fresh = measure_volume(model, X, Y, threshold=0.3, sigma=0.4, progress=False)
    with torch.no_grad():
        model(X)
    assert measure_volume(model, X, Y, threshold=0.3, sigma=0.4, progress=False).log_mass == fresh.log_mass


def test_a_frozen_sparse_parameter_and_one_that_is_no_number_do_no_harm():
    model = seeded(net)
    model.graph = nn.Parameter(torch.eye(3).to_sparse(), requires_grad=False)
    model.spare = nn.Parameter(torch.tensor([torch.nan]))
    host = host_of(model, X, [name for name in perturbed_names(model) if name[0].isdigit()])
    assert not host.rewritten


def test_a_mistake_in_a_loss_does_not_run_all_samples():
    COUNTED.clear()
    x, y = normal(2000, 4), torch.zeros(2000, dtype=torch.int64)
    for loss, labels in ((lambda o, t: o.logit, y), ("cross_entropy", y + 5)):
        with pytest.raises(ConfigError):
            measure_volume(Counter().double(), x, labels, loss, threshold=0.5, sigma=0.1, progress=False)
    assert max(COUNTED) <= 256


def test_a_model_that_takes_eight_samples_or_more():
    class Eight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            assert len(x) >= 8
            return self.net(x)

    model = seeded(Eight)
    found = measure_volume(model, X, Y, threshold=5.0, sigma=0.1, progress=False)
    assert found.start_loss == pytest.approx(F.cross_entropy(model(X), Y).item(), rel=1e-9)


def test_a_squeezing_model_of_few_samples_is_no_model_of_batches():
    class Squeezes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).unsqueeze(1).squeeze()

    assert not host_of(seeded(Squeezes), X[:20], ["net.0.weight"]).coupled


def test_a_penalty_on_parameters_that_forward_bounds_is_refused():
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.a.weight.clamp_(-0.3, 0.3)
            return self.b(torch.tanh(self.a(x)))

    model = seeded(Bounded)
    loss = lambda o, t: F.cross_entropy(o, t) + 0.1 * model.a.weight.square().sum()  # noqa: E731
    with pytest.raises(ConfigError, match="the loss reads parameters that the forward pass of Bounded writes to"):
        measure_volume(model, X, Y, loss, threshold=5.0, sigma=0.5, progress=False)
