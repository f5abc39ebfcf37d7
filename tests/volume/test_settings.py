"""Settings objects of the front door, and the keywords that are sugar over them."""

from __future__ import annotations

import inspect
import math
import re
import typing
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import minima_volume as mv
from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.keywords import Keywords, keyword_fields, settings_of
from minima_volume.volume.settings import Perturbed
from minima_volume.volume.star.settings import Rays


def line() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1, bias=False), torch.randn(30, 3)
    return model, x, model(x).detach()


@pytest.mark.parametrize(
    ("how", "keywords"),
    [
        (Gaussian(sigma=0.3, num_particles=40, seed=3), {"sigma": 0.3, "num_particles": 40, "seed": 3}),
        (Gaussian(sigma=[0.2, 0.3], scaling="none"), {"sigma": [0.2, 0.3], "scaling": "none"}),
        (Rays(num_directions=20, names=["weight"]), {"measure": "lebesgue", "num_directions": 20, "names": ["weight"]}),
        (Rays(measure="ball", num_directions=9, preconditioner="full", damping=0.1), {"measure": "ball", "num_directions": 9, "preconditioner": "full", "damping": 0.1}),
    ],
)  # fmt: skip
def test_settings_and_keywords_give_the_same_number(how: Any, keywords: dict[str, Any]) -> None:
    found = mv.measure_volume(*line(), "mse", threshold=0.1, how=how, progress=False)
    same = mv.measure_volume(*line(), "mse", threshold=0.1, progress=False, **keywords)
    assert settings_of(None, keywords) == how
    key = "log_mass" if isinstance(how, Gaussian) else "log_volume"
    assert np.array_equal(getattr(found, key), getattr(same, key)) and found.verdict == same.verdict


def test_every_field_is_a_keyword_and_nothing_else() -> None:
    """In the type checker's list with the field's type, in the signature with its default, in the text with its name."""
    made = {}
    for kind in (Gaussian, Rays):
        made |= {name: typing.get_type_hints(kind)[name] for name in (part.name for part in fields(kind))}
    assert set(keyword_fields()) == set(made)
    hints = typing.get_type_hints(Keywords)
    assert hints.pop("estimator") == made.pop("estimator") | None
    assert hints == {name: hint | None for name, hint in made.items()}
    signature, text = inspect.signature(mv.measure_volume), inspect.getdoc(mv.measure_volume)
    assert text is not None
    for name, part in keyword_fields().items():
        shown = signature.parameters[name]
        assert shown.kind is inspect.Parameter.KEYWORD_ONLY
        assert name in ("measure", "sigma", "estimator") or shown.default == part.default
        assert re.search(rf"^    (\w+, )*{name}(, \w+)*: ", text, re.MULTILINE), name
    assert text.index("Keywords of both") < text.index("Returns:") < text.index(">>>")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sigma": 0.1, "num_directions": 5}, "num_directions applies only to measure='lebesgue' or 'ball'; here measure is 'gaussian'"),
        ({"sigma": 0.1, "damping": 1.0}, "damping applies only to measure='lebesgue' or 'ball'"),
        ({"measure": "ball", "sigma": 0.1}, "sigma applies only to measure='gaussian'; here measure is 'ball'"),
        ({"measure": "lebesgue", "num_moves": 3}, "num_moves applies only to measure='gaussian'; here measure is 'lebesgue'"),
        ({"measure": "ball", "damping": 1.0}, "damping applies only to estimator='importance'; here it is 'monte_carlo'"),
        ({}, "measure 'gaussian' needs sigma"),
    ],
)  # fmt: skip
def test_a_keyword_of_another_measure_is_an_error(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        mv.measure_volume(*line(), "mse", threshold=0.1, progress=False, **keywords)


@pytest.mark.parametrize(
    ("how", "keywords", "message"),
    [
        (Gaussian(sigma=0.1), {"seed": 2}, "seed cannot be combined with how; pass it as how=Gaussian(seed=..., ...)"),
        (Rays(), {"sigma": 0.1}, "sigma applies only to measure='gaussian'; here how is Rays(...)"),
        (Gaussian(sigma=0.1), {"measure": "ball"}, "both measure='ball' and how=Gaussian(...) were given; drop measure"),
        (Gaussian, {}, "give Gaussian(sigma=...) or Rays(...)"),
        ("gaussian", {}, "how 'gaussian' is not allowed"),
    ],
)  # fmt: skip
def test_settings_are_given_in_one_way(how: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        settings_of(how, keywords)


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'num_direction'; did you mean 'num_directions'\?"
    ):
        mv.measure_volume(*line(), threshold=0.1, num_direction=5)
    with pytest.raises(TypeError, match="did you mean 'threshold'"):
        mv.measure_volume(*line(), treshold=0.1, sigma=0.1)
    with pytest.raises(TypeError, match="'zzz'; there are model, x, y"):
        mv.measure_volume(*line(), threshold=0.1, zzz=1)


def test_none_stands_for_the_default() -> None:
    given = {"sigma": 0.1, "estimator": None, "num_directions": None, "measure": None}
    assert settings_of(None, given) == Gaussian(sigma=0.1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Gaussian, {"sigma": -1.0}, "sigma -1.0 is not allowed: it must be a positive number"),
        (Gaussian, {"sigma": []}, "sigma is an empty sequence"),
        (Gaussian, {"sigma": 0.1, "estimator": "importance"}, "allowed: auto, monte_carlo, splitting"),
        (Gaussian, {"sigma": 0.1, "num_repeats": 1}, "num_repeats 1 is not allowed"),
        (Gaussian, {"sigma": 0.1, "num_particles": 3}, "num_particles 3 is not allowed"),
        (Rays, {"measure": "gaussian"}, "allowed for rays: lebesgue, ball"),
        (Rays, {"num_directions": 1.5}, "num_directions 1.5 is not allowed: it must be a whole number of at least 1"),
        (Rays, {"coefficients": [[0.0, 1.0]]}, "increase from 0"),
        (Rays, {"coefficients": ["a"]}, "are not allowed: give numbers"),
        (Rays, {"max_coefficient": 0.5}, "max_coefficient 0.5 is not allowed: it must be at least the last coefficient 1"),
        (Rays, {"max_coefficient": "far"}, "max_coefficient 'far' is not allowed"),
        (Rays, {"tolerance": 0.0}, "tolerance 0.0 is not allowed: it must be above 0 and below 1"),
        (Rays, {"preconditioner": "newton"}, "allowed: adam, diagonal, low_rank, full"),
        (Rays, {"estimator": "importance", "damping": math.nan}, "damping nan is not allowed"),
        (Rays, {"seed": -1}, "seed -1 is not allowed: it must be a whole number of at least 0"),
        (Rays, {"scaling": "filters"}, "scaling 'filters' is not known; allowed: filter, none, layer, tensor_std, sample_std"),
        (Perturbed, {"memory_gib": "2"}, "memory_gib '2' is not allowed: it must be positive"),
    ],
)  # fmt: skip
def test_settings_check_their_own_arguments(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        kind(**options)


def test_settings_are_values() -> None:
    """Frozen, hashable and equal whatever kind of sequence they were made from."""
    assert len({Gaussian(sigma=[0.1, 0.2]), Gaussian(sigma=np.array([0.1, 0.2])), Gaussian(sigma=(0.1, 0.2))}) == 1
    assert Gaussian(sigma=np.float64(0.1)) == Gaussian(sigma=0.1) and Gaussian(sigma=0.1).sigmas == (0.1,)
    assert Rays(coefficients=[0.0, 1.0]) == Rays(coefficients=np.array([0, 1]))
    assert Rays(num_directions=np.int64(5), seed=np.int64(2)) == Rays(num_directions=5, seed=2)
    with pytest.raises(FrozenInstanceError):
        Rays().seed = 2


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_sigma_is_the_decimal_that_it_is_printed_as(kind: type) -> None:
    """So that 0.3 in float32 is found as 0.3, and the other way round."""
    sigmas = np.array([0.3, 0.1], dtype=kind)
    assert Gaussian(sigma=sigmas).sigmas == (0.3, 0.1) and Gaussian(sigma=sigmas[0]).sigma == 0.3
    assert Gaussian(sigma=torch.tensor(0.3)).sigma == 0.3 and Gaussian(sigma=0.1 + 0.2).sigma == 0.1 + 0.2
    profile = mv.measure_volume(*line(), "mse", threshold=0.1, sigma=sigmas, progress=False)
    assert profile.at(0.3).sigma == profile.at(np.float32(0.3)).sigma == 0.3 and profile.at(sigmas[1]).sigma == 0.1
    for sigma, words in (
        (0.2, "sigma 0.2 was not measured; the profile has 0.3, 0.1"),
        ("a", "sigma 'a' is not allowed"),
    ):
        with pytest.raises(ConfigError, match=words):
            profile.at(sigma)
