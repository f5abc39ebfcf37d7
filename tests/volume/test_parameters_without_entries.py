"""Layers without neurons: their parameters have no entries, and change no number."""

from __future__ import annotations

import pytest
import torch
from own_models import X, Y, seeded
from torch import Tensor, nn

import minima_volume as mv
from minima_volume.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


class WithNothing(nn.Module):
    """A linear classifier beside two layers without neurons between them."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 0), nn.Linear(0, 2, bias=False)
        self.empty = nn.Parameter(torch.zeros(0, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(x) + self.b(self.a(x))


def pair() -> tuple[nn.Module, nn.Module]:
    """The same function, with and without what has no entries."""
    model = seeded(WithNothing)
    return model, model.c  # type: ignore[return-value]


@pytest.mark.parametrize("scaling", ["filter", "none", "layer", "tensor_std", "sample_std"])
@pytest.mark.parametrize("names", ["weight_bias", "all"])
def test_radii_are_those_of_the_model_without_them(scaling: str, names: str) -> None:
    given = {"threshold": 3.0, "measure": "ball", "num_directions": 5, "scaling": scaling, "names": names}
    first, second = (mv.measure_volume(model, X, Y, progress=False, **given) for model in pair())
    assert first.num_params == second.num_params
    assert first.coefficients == pytest.approx(second.coefficients, rel=1e-4, nan_ok=True)
    assert first.log_volume == pytest.approx(second.log_volume, abs=1e-3)
    assert "not perturbed" not in first.verdict


def test_masses_and_views_are_theirs_too() -> None:
    given = {"threshold": 1.2, "sigma": 0.3, "estimator": "splitting", "scaling": "layer", "progress": False}
    first, second = (mv.measure_volume(model, X, Y, **given) for model in pair())
    assert first.num_params == second.num_params == 10
    lower, upper = first.interval
    assert lower - 0.2 < second.log_mass < upper + 0.2
    settings = mv.ViewSettings(num_chains=0, density_vectors=0)
    views = [mv.other_views(model, X, Y, settings=settings) for model in pair()]
    assert views[0].trace.value == pytest.approx(views[1].trace.value, rel=1e-6)


def test_such_parameters_alone_are_none() -> None:
    with pytest.raises(
        ConfigError, match=r"no parameter of WithNothing is perturbed with names=\('a',\); it has c\.weight, c\.bias$"
    ):
        mv.measure_volume(pair()[0], X, Y, threshold=1.0, sigma=0.1, names=["a"])
