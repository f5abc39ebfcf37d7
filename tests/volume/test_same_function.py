"""What log mass with filter norms does when a network is written down differently, against a plain loop."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import ModuleType

import pytest
import scipy.stats
import torch
from torch import nn

from minima_volume import measure_volume
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.particles import Particles
from minima_volume.volume.condition import Condition
from minima_volume.volume.gaussian.event import Target
from minima_volume.volume.gaussian.plan import gaussian_mass

SIGMA, THRESHOLD = 0.1, 0.1


@pytest.fixture(scope="module")
def forms() -> ModuleType:
    """The benchmark that makes the documented table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        return importlib.import_module("same_function")


@pytest.fixture(scope="module")
def small(forms: ModuleType) -> nn.Sequential:
    """The minimum of 60 digits, which plain samples hit in its own landscape."""
    return forms.trained(60)


def mass(forms: ModuleType, model: nn.Module, **settings: object) -> float:
    found = measure_volume(model, *forms.samples(60), threshold=THRESHOLD, sigma=SIGMA, progress=False, **settings)
    assert found.method == "monte_carlo"
    return found.log_mass


def mass_of_same_numbers(forms: ModuleType, model: nn.Module, names: str | tuple[str, ...] = "weight_bias") -> float:
    """With random numbers that do not depend on the weights."""
    engine = LossEngine(model, *forms.samples(60), names=names)
    found = gaussian_mass(Target(Particles(engine, SIGMA), Condition("loss", THRESHOLD)), 1)
    assert found.method == "monte_carlo" and found.log_mass is not None
    return found.log_mass


def plain_hits(forms: ModuleType, model: nn.Sequential, count: int) -> int:
    """How many of `count` perturbed copies are inside: rows of weights move by sigma times their norm, biases by sigma."""
    x, y = forms.samples(60)
    generator = torch.Generator().manual_seed(7)
    hits = 0
    with torch.no_grad():
        for _ in range(count):
            moved = copy.deepcopy(model)
            for parameter in moved.parameters():
                norms = parameter.norm(dim=1, keepdim=True) if parameter.ndim > 1 else torch.ones(1)
                parameter += SIGMA * norms * torch.randn(parameter.shape, generator=generator)
            hits += bool(nn.functional.cross_entropy(moved(x), y) <= THRESHOLD)
    return hits


def test_all_forms_compute_the_same(forms: ModuleType, small: nn.Sequential):
    x, _ = forms.samples(60)
    for name, change in forms.FORMS.items():
        for model in (change(small), forms.balanced(change(small))):
            assert torch.allclose(model(x), small(x), atol=1e-3), name


def test_whole_layers_are_invariant_without_their_biases(forms: ModuleType, small: nn.Sequential):
    """A power of two changes no bit: the same samples hit. With the biases a small layer's mass is another one."""
    eighth = forms.scaled(small, 0.125)
    first, second = (mass_of_same_numbers(forms, model, forms.WEIGHTS) for model in (eighth, small))
    assert first == second
    assert mass(forms, eighth) < mass(forms, small)


def test_balanced_units_are_invariant(forms: ModuleType, small: nn.Sequential):
    """Units with factors of their own, brought into one form, are what the network itself is in that form, but for rounding."""
    uneven = forms.scaled(small, forms.factors_of_units(32))
    first, second = (mass_of_same_numbers(forms, forms.balanced(model)) for model in (uneven, small))
    assert first == pytest.approx(second, abs=0.02)


def test_other_forms_have_other_masses(forms: ModuleType, small: nn.Sequential):
    """Each within what 1,000 plain perturbations allow (two intervals that cover with a chance of 1 - 1e-6 each)."""
    hits = {}
    for name, model in {"small": small, "eighth": forms.scaled(small, 0.125), "doubled": forms.doubled(small)}.items():
        hits[name] = plain_hits(forms, model, 1000)
        low, high = scipy.stats.binomtest(hits[name], 1000).proportion_ci(1 - 1e-6, method="exact")
        found = measure_volume(model, *forms.samples(60), threshold=THRESHOLD, sigma=SIGMA, progress=False)
        share = scipy.stats.binomtest(found.hits, found.num_samples).proportion_ci(1 - 1e-6, method="exact")
        assert share.low <= high and low <= share.high, name
