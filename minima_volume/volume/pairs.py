"""Volumes of your own models in pairs: which is larger?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from minima_volume.arguments import by_text
from minima_volume.confidence import CONFIDENCE
from minima_volume.errors import ConfigError
from minima_volume.result import Result, limits, number
from minima_volume.volume.comparison import Difference, Family, mass_verdict
from minima_volume.volume.context import Estimate, check_alike
from minima_volume.volume.gaussian.comparison import compare_masses
from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.star.comparison import compare as compare_stars
from minima_volume.volume.star.estimate import VolumeEstimate

Names = tuple[str, str]


@dataclass(frozen=True)
class VolumeComparison(Result):
    """Two volumes side by side, in nats: the first minus the second.

    Attributes:
        names: what the verdict calls them.
        difference, interval: of the two log masses or log volumes, and its 95 % interval; a side is None if nothing bounds it.
        probability: that the first is larger; None unless both are estimates.
        p_value: of no difference, two-sided; None if it cannot be tested.
        p_adjusted, num_compared: the same after Holm's procedure over all pairs that were compared together, and their number;
            None and 1 for a pair alone.
        told_apart: whether one is larger, by p_adjusted if there is one.
        verdict: in words.
        sigma: of Gaussian local volumes.
    """

    names: tuple[str, str]
    difference: float | None
    interval: tuple[float | None, float | None]
    probability: float | None
    p_value: float | None
    p_adjusted: float | None
    num_compared: int
    told_apart: bool
    verdict: str
    sigma: float | None = None

    def __str__(self) -> str:
        return self.verdict

    def facts(self) -> list[tuple[str, str]]:
        """As `Result.facts`."""
        compared = f"after Holm over {self.num_compared} comparisons" if self.num_compared > 1 else "of this pair alone"
        return [
            ("difference", f"{number(self.difference)} ({self.names[0]} minus {self.names[1]})"),
            (f"{CONFIDENCE:.0%} interval", limits(self.interval)),
            ("probability that the first is larger", number(self.probability)),
            (
                "p-value",
                f"{number(self.p_value)} ({compared}: {number(self.p_adjusted)})"
                if self.num_compared > 1
                else number(self.p_value),
            ),
            ("verdict", self.verdict),
        ]


class Words(Protocol):
    def __call__(self, adjusted: float | None, count: int) -> str: ...


@dataclass(frozen=True)
class _Pair:
    """A difference, and its verdict alone or among others."""

    names: Names
    difference: Difference
    words: Words
    sigma: float | None

    def among(self, adjusted: float | None, count: int) -> VolumeComparison:
        found = self.difference
        return VolumeComparison(
            names=self.names,
            difference=found.value,
            interval=(found.lower, found.upper),
            probability=found.probability,
            p_value=found.p_value,
            p_adjusted=None if found.p_value is None else adjusted,
            num_compared=count,
            told_apart=found.told_apart(adjusted),
            verdict=self.words(adjusted, count),
            sigma=self.sigma,
        )


def compare(first: Estimate, second: Estimate, names: Names = ("the first", "the second")) -> VolumeComparison:
    """Is one volume larger than another? Both must have been measured alike.

    Gaussian local volumes are compared as two estimates with independent errors, star regions along their shared directions. This
    pair is judged alone, at its own 95 %; several pairs belong together: `compare_all`, `measure_volumes`.

    Args:
        first, second: from `measure_volume`, both of the same kind; of a profile one sigma, `profile.at(0.1)`.
        names: what the verdict calls them.

    Raises:
        ConfigError: they differ in measure, sigma, scaling, threshold, loss, samples or parameters (`names`); both values are named.
    """
    for name, volume in zip(names, (first, second), strict=True):
        if isinstance(volume, VolumeProfile):
            sigmas = ", ".join(map(number, volume.sigmas))
            raise ConfigError(f"{name} is a profile; compare it at one sigma, profile.at(sigma), of {sigmas}")
        _measured(name, volume)
    return _pair(first, second, names).among(None, 1)


def compare_all(volumes: Mapping[str, Estimate]) -> tuple[VolumeComparison, ...]:
    """Compare every pair of some volumes, of profiles at every sigma, and claim only what Holm's procedure leaves of all of them.

    Args:
        volumes: name -> from `measure_volume`, all of the same kind.

    Raises:
        ConfigError: two of them were measured differently, or have one name.
    """
    if not isinstance(volumes, Mapping):
        raise ConfigError("compare_all takes a dictionary of name -> volume: compare_all({'a': first, 'b': second})")
    pairs, single = [], {name: _single(name, volume) for name, volume in by_text("volumes", volumes).items()}
    for (a, first), (b, second) in combinations(single.items(), 2):
        if len(first) != len(second):
            raise ConfigError(f"{a} has {len(first)} sigmas and {b} {len(second)}: measure both alike")
        pairs += [_pair(one, other, (a, b)) for one, other in zip(first, second, strict=True)]
    if len(pairs) < 2:
        return tuple(pair.among(None, 1) for pair in pairs)
    family = Family.of([pair.difference.p_value for pair in pairs])
    return tuple(
        pair.among(float(adjusted), family.count) for pair, adjusted in zip(pairs, family.adjusted, strict=True)
    )


def _single(name: str, volume: Estimate) -> tuple[Estimate, ...]:
    return volume.volumes if isinstance(volume, VolumeProfile) else (_measured(name, volume),)


def _measured(name: str, volume: Estimate) -> Estimate:
    if not isinstance(volume, LocalVolume | VolumeEstimate):
        raise ConfigError(f"{name} is a {type(volume).__name__}; only results of measure_volume can be compared")
    return volume


def _different_sizes(first: LocalVolume, second: LocalVolume) -> str:
    """What to know of a comparison of two architectures."""
    ours, theirs = first.num_params + first.num_zero, second.num_params + second.num_zero
    if ours == theirs:
        return ""
    return (
        f"; they have {ours:,} and {theirs:,} parameters: sigma does not mean the same to networks of different "
        "sizes, so this says which survives this noise more often, and no more"
    )


def _pair(first: Estimate, second: Estimate, names: Names) -> _Pair:
    check_alike(first, second, names)
    if isinstance(first, LocalVolume) and isinstance(second, LocalVolume):
        difference, note = compare_masses(first, second), _different_sizes(first, second)

        def words(adjusted: float | None, count: int) -> str:
            return mass_verdict(names, difference, adjusted, count) + note

        return _Pair(names, difference, words, first.sigma)
    assert isinstance(first, VolumeEstimate) and isinstance(second, VolumeEstimate)
    found = compare_stars(first.star, second.star, names)
    return _Pair(names, found.log_volume, found.verdict_among, None)
