"""The keywords of `measure_volume`: sugar over `Gaussian` and `Rays`, whose fields they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import wraps
from typing import Any, ParamSpec, TypedDict, TypeVar

import torch
from torch import Tensor

from minima_volume.errors import ConfigError
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.settings import Perturbed
from minima_volume.volume.star.preconditioner import Preconditioner
from minima_volume.volume.star.settings import Rays

KINDS: dict[str, type[Gaussian] | type[Rays]] = {"gaussian": Gaussian, "lebesgue": Rays, "ball": Rays}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Keywords(TypedDict, total=False):
    """The same for a type checker, which cannot make them from the fields; a test holds the two together."""

    measure: str | None
    sigma: float | Sequence[float] | None
    estimator: str | None
    num_particles: int | None
    num_repeats: int | None
    num_moves: int | None
    precision: float | None
    num_directions: int | None
    coefficients: Sequence[float] | None
    max_coefficient: float | None
    tolerance: float | None
    preconditioner: str | Preconditioner | None
    damping: float | None
    second_moments: Mapping[str, Tensor] | torch.optim.Optimizer | None
    seed: int | None
    scaling: str | None
    names: str | Sequence[str] | None
    memory_gib: float | None


def settings_of(how: Gaussian | Rays | None, keywords: Mapping[str, Any]) -> Gaussian | Rays:
    """The settings object that is given, or the one that the keywords make; None stands for the default.

    Raises:
        ConfigError: a keyword belongs to another measure, or is given together with `how`, or its value is not allowed.

    >>> settings_of(None, {"measure": "ball", "num_directions": 20}) == Rays(measure="ball", num_directions=20)
    True
    """
    given = {name: value for name, value in keywords.items() if value is not None}
    if how is not None:
        return _alone(how, given)
    measure = given.pop("measure", "gaussian")
    if measure not in KINDS:
        raise ConfigError(f"measure {measure!r} is not known; allowed: {', '.join(KINDS)}")
    kind = KINDS[measure]
    for name in given:
        if name not in _names(kind):
            raise ConfigError(f"{_owner(name)}; here measure is {measure!r}")
    if kind is Rays:
        return Rays(measure=measure, **given)
    if "sigma" not in given:
        raise ConfigError(
            "measure 'gaussian' needs sigma, the size of the perturbation, e.g. sigma=0.07; the published number is "
            "measure='lebesgue'"
        )
    return Gaussian(**given)


def _alone(how: Gaussian | Rays, given: Mapping[str, Any]) -> Gaussian | Rays:
    if not isinstance(how, Gaussian | Rays):
        raise ConfigError(f"how {how!r} is not allowed: give Gaussian(sigma=...) or Rays(...)")
    kind = type(how).__name__
    for name, value in given.items():
        if name == "measure":
            raise ConfigError(f"both measure={value!r} and how={kind}(...) were given; drop measure")
        if name in _names(type(how)):
            raise ConfigError(f"{name} cannot be combined with how; pass it as how={kind}({name}=..., ...)")
        raise ConfigError(f"{_owner(name)}; here how is {kind}(...)")
    return how


def _names(kind: type) -> set[str]:
    return {part.name for part in fields(kind)}


def _owner(name: str) -> str:
    """To which measures a keyword belongs, in words."""
    owners = [measure for measure, kind in KINDS.items() if name in _names(kind)]
    return f"{name} applies only to measure={' or '.join(map(repr, owners))}"


def keyword_fields() -> dict[str, Field[Any]]:
    """Name -> field of every keyword, `measure` first and what both kinds share last."""
    shared = _names(Perturbed)
    own = {part.name: part for kind in (Gaussian, Rays) for part in fields(kind) if part.name not in shared}
    first = {"measure": own.pop("measure")}
    return first | own | {part.name: part for part in fields(Perturbed)}


def with_keywords(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Show the keywords to help(), notebooks and `inspect.signature`, each with its default and its text from the settings' docstrings.

    An unknown keyword is a TypeError that names the nearest one.
    """
    signature = inspect.signature(function)
    own = [part for part in signature.parameters.values() if part.kind is not inspect.Parameter.VAR_KEYWORD]
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(part), annotation=part.type)
        for name, part in keyword_fields().items()
    ]
    known = [part.name for part in (*own, *made)]

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for name in kwargs:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument {name!r}; {hint}")
        return function(*args, **kwargs)

    call.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
    if text := inspect.getdoc(function):
        sections = [
            _section("Keywords of `Gaussian`", Gaussian),
            _section("Keywords of `Rays`", Rays),
            _section("Keywords of both", Perturbed),
        ]
        call.__doc__ = text.replace("Returns:\n", "".join(sections) + "Returns:\n", 1)
    return call


def _default(part: Field[Any]) -> Any:
    """As the front door has it; None if it depends on the measure."""
    if part.name == "measure":
        return "gaussian"
    return None if part.default is MISSING or part.name == "estimator" else part.default


def _section(title: str, kind: type) -> str:
    """The text of a settings class's own attributes."""
    text = inspect.getdoc(kind) or ""
    body = text.split("Attributes:\n", 1)[1].split("\n\n", 1)[0]
    return f"{title}:\n{body}\n\n"
