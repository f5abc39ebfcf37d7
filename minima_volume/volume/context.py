"""What a volume was measured on, and how: what two volumes must share to be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from operator import ne
from typing import Any

from minima_volume.errors import ConfigError
from minima_volume.files.atomic import hash_arrays
from minima_volume.result import Result, as_json, number
from minima_volume.samples import Samples, count, tensors
from minima_volume.volume.condition import Condition
from minima_volume.volume.settings import Perturbed

LOSS_MARK = "loss of the same outputs"
NOT_KEPT = ("second_moments",)  # a state of training, not a setting


@dataclass(frozen=True)
class Context:
    """What a volume was measured on, and how.

    Attributes:
        threshold, kind: the loss that ends the minimum, or with kind `accuracy` the fraction of samples that must stay right.
        loss, loss_mark: its name, and what tells a loss of your own from others of its name (see `losses.loss.Fit`).
        num_samples, samples_hash: of the landscape: how many samples, and a hash of inputs and targets.
        settings: the fields of `Gaussian` or `Rays`, as JSON has them.
    """

    threshold: float
    kind: str
    loss: str
    num_samples: int
    samples_hash: str
    settings: dict[str, Any] = field(repr=False)
    loss_mark: str = field(default="", repr=False)

    @classmethod
    def of(cls, condition: Condition, loss: tuple[str, str], x: Samples, y: Any, how: Perturbed) -> Context:
        """The context of a measurement of a landscape (x, y); of the loss its name and its mark."""
        settings = {part.name: as_json(getattr(how, part.name)) for part in fields(how) if part.name not in NOT_KEPT}
        name, mark = loss
        return cls(condition.threshold, condition.kind, name, count(x), samples_hash(x, y), settings, mark)

    @property
    def where(self) -> str:
        """The threshold, to read."""
        return f"{self.kind} threshold {self.threshold:g}"

    @property
    def landscape(self) -> str:
        """The samples, to read."""
        return f"{self.num_samples:,} samples ({self.samples_hash})"


def samples_hash(x: Samples, y: Any) -> str:
    """A short hash of inputs and targets, the same wherever they lie."""
    named = [(f"{name}{i}", tensor) for name, given in (("x", x), ("y", y)) for i, tensor in enumerate(tensors(given))]
    return hash_arrays(dict(named))


class Estimate(Result):
    """What the volumes of your own models share: they know their `context`."""

    context: Context

    @property
    def threshold(self) -> float:
        """The loss, or fraction of right answers, that ends the minimum."""
        return self.context.threshold

    @property
    def loss(self) -> str:
        """The name of the loss."""
        return self.context.loss

    @property
    def samples_hash(self) -> str:
        """A hash of the samples of the landscape."""
        return self.context.samples_hash

    @property
    def settings(self) -> dict[str, Any]:
        """How it was measured: the fields of `Gaussian` or `Rays`."""
        return self.context.settings

    def terms(self) -> dict[str, str]:
        """What must be the same for a comparison to mean something: what -> its value, to read."""
        settings = self.context.settings
        names = settings["names"]
        terms = {
            "measure": settings.get("measure", "gaussian"),
            "sigma": number(getattr(self, "sigma", None)),
            "scaling": settings["scaling"],
            "threshold": self.context.where,
            "loss": self.loss,
            "samples": self.context.landscape,
            "names": names if isinstance(names, str) else ", ".join(sorted(names)),
        }
        if terms["measure"] != "gaussian":  # a volume of another dimension is in another unit; a probability has none
            terms["parameters"] = f"{getattr(self, 'num_params', 0) + getattr(self, 'num_zero', 0):,}"
        if self.context.loss_mark:
            terms[LOSS_MARK] = self.context.loss_mark
        if terms["measure"] == "ball":
            terms["max_coefficient"] = number(settings["max_coefficient"])
        return terms


def _marks_differ(first: str | None, second: str | None) -> bool:
    """Whether two losses of one name gave other values for the same outputs, by more than the rounding of the coarsest type."""
    if not first or not second:
        return False
    (a, shapes), (b, others) = (mark.split(" for ") for mark in (first, second))
    return shapes == others and not math.isclose(float(a), float(b), rel_tol=0.02)


def check_alike(first: Estimate, second: Estimate, names: tuple[str, str]) -> None:
    """Refuse a comparison of what was measured differently.

    Raises:
        ConfigError: names both values of each thing that differs.
    """
    mine, theirs = first.terms(), second.terms()
    differing = [
        f"{name}: {mine.get(name, '-')} and {theirs.get(name, '-')}"
        for name in {**mine, **theirs}
        if (_marks_differ if name == LOSS_MARK else ne)(mine.get(name), theirs.get(name))
    ]
    if differing:
        raise ConfigError(
            f"{names[0]} and {names[1]} were measured differently ({'; '.join(differing)}), so their volumes have no "
            "common unit: measure both alike"
        )
