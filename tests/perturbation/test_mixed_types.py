"""Models whose parameters are of several types: a quantised base with a trained part, half precision, complex numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import minima_volume as mv
from minima_volume.errors import ConfigError

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
TRAINED = ["down", "up"]
QUIET = {"threshold": 2.0, "progress": False}


class Adapted(nn.Module):
    """x base' + x down' up', the base of whatever type, as low-rank adapters have it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        base = torch.randint(-2, 3, (3, 4), generator=draw).to(dtype)
        self.base = nn.Parameter(base, requires_grad=False)
        self.down = nn.Parameter(torch.randn(2, 4, generator=draw))
        self.up = nn.Parameter(torch.randn(3, 2, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        base = self.base.real if self.base.is_complex() else self.base
        return x @ base.to(x.dtype).T + x @ self.down.T @ self.up.T


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.complex64])
def test_a_trained_part_on_a_base_of_another_type(dtype: torch.dtype) -> None:
    """The loss along a direction is that of the model moved by hand; a ray ends where that passes the threshold; the trace is exact."""
    model = Adapted(dtype)
    y = model(X).argmax(1)
    line = mv.slice_line(model, X, y, threshold=2.0, seeds=[3], names=TRAINED, scaling="none", num_points=2001)
    random = torch.Generator().manual_seed(3)
    steps = {name: torch.randn(getattr(model, name).shape, generator=random) for name in TRAINED}
    for i in (0, 500, 2000):
        moved = copy.deepcopy(model)
        for name, step in steps.items():
            getattr(moved, name).data += float(line.coefficients[i]) * step
        assert line.losses[0, i] == pytest.approx(nn.functional.cross_entropy(moved(X), y).item(), rel=1e-5)
    settings = {"names": TRAINED, "scaling": "none", "seed": 3, **QUIET}
    rays = mv.measure_volume(model, X, y, measure="ball", num_directions=1, **settings)
    assert rays.radii[0] == pytest.approx(line.crossings[0, 1] * line.norms[0], rel=1e-3)
    assert mv.measure_volume(model, X, y, sigma=0.1, **settings).log_mass is not None
    views = mv.other_views(model, X, y, settings=mv.ViewSettings(names=["up"], scaling="none", num_chains=0))
    trace = torch.func.hessian(
        lambda up: nn.functional.cross_entropy(model(X) + X @ model.down.T @ (up - model.up).T, y)
    )
    exact = trace(model.up.detach()).reshape(6, 6).trace().item()
    assert views.trace is not None and views.trace.value == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("dtype", "names", "words"),
    [
        (torch.int8, "all", "parameters base (torch.int8) are not floating-point numbers, and only such can be perturbed"),
        (torch.complex64, ["base"], "parameters base (torch.complex64) are not floating-point numbers"),
    ],
)  # fmt: skip
def test_what_no_normal_number_can_be_added_to(dtype: torch.dtype, names: object, words: str) -> None:
    calls = (
        lambda: mv.measure_volume(Adapted(dtype), X, Y, sigma=0.1, names=names, **QUIET),
        lambda: mv.slice_line(Adapted(dtype), X, Y, names=names),
        lambda: mv.other_views(Adapted(dtype), X, Y, settings=mv.ViewSettings(names=names)),
    )
    for call in calls:
        with pytest.raises(ConfigError) as error:
            call()
        assert words in str(error.value) and "choose others with names=[...]" in str(error.value)


def test_samples_of_another_type() -> None:
    """The advice fits what was given: a tensor, several, or what they are read from; the type is one that the model has."""
    wide, model = X.double(), Adapted(torch.int8)
    found = f"x is torch.float64, the model {torch.float32}; "
    read = "let the {} give inputs of torch.float32"
    cases = [
        ((wide, Y), "convert it with x.to(torch.float32)"),
        (((wide,), Y), "convert each tensor with .to(torch.float32)"),
        ((TensorDataset(wide, Y),), read.format("TensorDataset")),
        ((DataLoader(TensorDataset(wide, Y)),), read.format("DataLoader")),
    ]
    for given, way in cases:
        with pytest.raises(ConfigError) as error:
            mv.measure_volume(model, *given, sigma=0.1, names=TRAINED, **QUIET)
        assert str(error.value) == found + way
    with pytest.raises(ConfigError) as error:
        mv.measure_volumes({"a": model}, cases[2][0][0], sigma=0.1, names=TRAINED, **QUIET)
    assert str(error.value) == found + cases[2][1]
