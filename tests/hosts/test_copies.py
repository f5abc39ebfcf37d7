"""Models whose copy is not the model, or that cannot be copied: the user's own module is measured, and comes back to the bit."""

from __future__ import annotations

import functools
import itertools
import threading
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from own_models import Case, X, Y, check_gaussian, check_rays, check_trace, everything, seeded, state_of, train
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from minima_volume import ViewSettings, measure_volume, other_views, suggest_sigma
from minima_volume.errors import ConfigError
from minima_volume.hosts.doors import host_of


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.adapter, self.fc2 = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(x)))


class Lambda(nn.Module):
    """An attribute that is a function of the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)
        self.hidden = lambda x: torch.tanh(self.fc1(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.hidden(x))


class Remembers(nn.Module):
    """Keeps its last activation with its graph, which no copy can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.last = torch.tanh(self.fc1(x))
        return self.fc2(self.last)


class Locked(nn.Module):
    """Holds something that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.lock = nn.Linear(4, 8), nn.Linear(8, 2), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.fc2(torch.tanh(self.fc1(x)))


def closure() -> nn.Module:
    model = Net()
    old = model.forward
    model.forward = lambda z: old(z)  # type: ignore[method-assign]
    return model


def bound_part() -> nn.Module:
    model = Net()
    model.fc1.forward = functools.partial(nn.Linear.forward, model.fc1)  # type: ignore[method-assign]
    return model


def bound_method() -> nn.Module:
    model = Net()

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) * 1.5

    model.fc2.forward = types.MethodType(forward, model.fc2)  # type: ignore[method-assign]
    return model


def hook() -> nn.Module:
    model = Adapted()
    model.fc1.register_forward_hook(lambda module, inputs, output: output + model.adapter(inputs[0]))
    return model


def pre_hook() -> nn.Module:
    model = Adapted()
    seen = {}
    model.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    model.fc2.register_forward_pre_hook(lambda module, inputs: (inputs[0] + model.adapter(seen["x"]),))
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        norm = torch.nn.utils.weight_norm
        return nn.Sequential(norm(nn.Linear(4, 8)), nn.Tanh(), norm(nn.Linear(8, 2)))


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    prune.l1_unstructured(model[0], "weight", 0.3)
    return model


class Halved(nn.Module):
    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.scale_of = lambda: other.scale

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale_of()


def parametrized_by_a_closure() -> nn.Module:
    """A parametrization that reads another parameter of the original model."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    model.scale = nn.Parameter(torch.full((8, 1), 1.5))
    parametrize.register_parametrization(model[0], "weight", Halved(model))
    return model


class CopiesAreItself(nn.Module):
    """Somebody's way round a module that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 2)

    def __deepcopy__(self, memo: object) -> nn.Module:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.tanh(self.fc1(x)))


def ready(build, steps: int = 120) -> nn.Module:
    return train(seeded(build), X, Y, F.cross_entropy, steps)


def scripted() -> nn.Module:
    return torch.jit.script(ready(lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))))


def every(build, **settings) -> Case:
    return Case(lambda: ready(build), X, Y, F.cross_entropy, moved=everything, names="all", **settings)


CASES = {
    "forward wrapped by a closure": every(closure),
    "forward of a part bound to the original": every(bound_part),
    "forward of a part replaced by a method": every(bound_method),
    "hook that closes over the model": every(hook),
    "hooks that pass something on": every(pre_hook, sigma=0.3),
    "attribute that is a function of the model": every(Lambda),
    "parametrization that reads the original": every(parametrized_by_a_closure, sigma=0.25),
    "old weight_norm": every(old_weight_norm, sigma=0.25),
    "pruned": every(pruned),
    "kept activation": every(Remembers),
    "a lock": every(Locked),
    "a copy that is the model": every(CopiesAreItself),
    "TorchScript": Case(scripted, X, Y, F.cross_entropy, moved=everything, names="all"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_model_itself_is_measured(case: Case):
    """Rays, Gaussian mass and Hessian trace are those of the plain loop; the model, its hooks and its attributes come back."""
    model = case.build()
    before = state_of(model)
    settings = {"names": case.names, "threshold": case.threshold, "progress": False}
    measure_volume(model, X, Y, measure="ball", num_directions=2, **settings)
    measure_volume(model, X, Y, sigma=case.sigma, estimator="monte_carlo", **settings)
    other_views(model, X, Y, settings=ViewSettings(names=case.names, num_chains=2, num_draws=8, num_burn_in=4))
    assert state_of(model) == before
    check_rays(case, model)
    check_gaussian(case, model)
    check_trace(case, model)


def test_only_what_is_unlike_its_copy_is_borrowed():
    """An ordinary model is copied; one whose copy runs the original's weights is not."""
    assert not host_of(ready(Net), X, ["fc1.weight"]).own
    assert host_of(ready(closure), X, ["fc1.weight", "fc2.bias"]).own
    assert host_of(ready(hook), X, ["adapter.weight"]).own
    assert not host_of(ready(hook), X, ["fc1.weight"]).own  # its copy moves what is to be moved


COUNTS = [itertools.count(1)]  # a global, which the package does not put back


@pytest.mark.parametrize("where", ["copied", "borrowed"])
@pytest.mark.parametrize(
    ("error", "after"),
    [(KeyboardInterrupt, 1), (RuntimeError, 4), (KeyboardInterrupt, 9), (MemoryError, 40), (KeyboardInterrupt, 300)],
)
def test_an_exception_in_the_middle(where: str, error: type[BaseException], after: int):
    """Whenever it comes, parameters, buffers, modes, gradients, random state, hooks and attributes are as before."""
    model = ready(Net if where == "copied" else closure).train()
    model.norm.eval()
    model.fc2.bias.requires_grad_(False)
    model.fc1.weight.grad = torch.full_like(model.fc1.weight, 2.0)
    COUNTS[0] = itertools.count(1)

    def stop(module: nn.Module, inputs: object, output: Tensor) -> None:
        if next(COUNTS[0]) > after:
            raise error("stop")

    handle = model.fc2.register_forward_hook(stop)
    x, y, before = X.clone(), Y.clone(), state_of(model)
    for measure in (
        lambda: measure_volume(model, x, y, threshold=0.3, sigma=0.3, progress=False),
        lambda: measure_volume(model, x, y, threshold=0.3, measure="ball", num_directions=60, progress=False),
        lambda: suggest_sigma(model, x, y, threshold=0.3),
        lambda: other_views(model, x, y, threshold=0.3),
    ):
        COUNTS[0] = itertools.count(1)
        with pytest.raises((error, ConfigError)):
            measure()
        assert state_of(model) == before
        assert torch.equal(x, X) and torch.equal(y, Y)
    handle.remove()


def test_lazy_modules_without_shapes_are_refused():
    """Said in one sentence, with what to do."""
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ConfigError, match=r"0\.weight.*run the model once"):
        measure_volume(model, X.float(), Y, threshold=0.3, sigma=0.1, progress=False)


def test_another_device_needs_a_copy():
    """A model that only runs where it is says so when another device is asked for."""
    model = ready(closure)
    with pytest.raises(ConfigError, match=r"cannot be measured on meta.*model\.to\('meta'\)"):
        host_of(model, X, everything(model), torch.device("meta"))
