"""One results.json as an object: what its keys are called is known here and to their author alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from minima_volume.analysis.subjects import subject
from minima_volume.errors import ConfigError
from minima_volume.stages.results.star_keys import still_of
from minima_volume.stages.run import minimum_name
from minima_volume.volume.claims import is_estimate, two_sided

SUFFIXES = {"loss": "", "accuracy": "_acc"}  # of the keys, by the threshold they belong to
Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Star:
    """The star region of one minimum.

    Attributes:
        log_volume, limits: and the ends of its 95 % interval; None if there is none.
        log_exp_r_n, published_limits: the published number, and the same.
        effective_sample_size, largest_share, num_directions, num_censored: what they rest on.
        verdict: in words.
    """

    log_volume: float | None
    limits: Limits
    log_exp_r_n: float | None
    published_limits: Limits
    effective_sample_size: float | None
    largest_share: float | None
    num_directions: int
    num_censored: int
    verdict: str

    @property
    def is_estimate(self) -> bool:
        return is_estimate(self.log_volume, self.limits)


@dataclass(frozen=True)
class Mass:
    """The Gaussian local volume of one minimum at one sigma; what was not measured is None throughout.

    Attributes:
        value, limits: log mass, and the ends of its 95 % interval.
        method, num_stages, num_forward: how it was measured.
        note, verdict: in words.
    """

    value: float | None
    limits: Limits
    method: str | None
    num_stages: float | None
    num_forward: int | None
    note: str | None
    verdict: str | None

    @property
    def is_estimate(self) -> bool:
        return is_estimate(self.value, self.limits)

    @property
    def outside(self) -> bool:
        """Whether the minimum itself is outside: nothing was drawn, and nothing bounds the mass."""
        return self.verdict is not None and self.value is None and self.limits == (None, None) and self.method is None


@dataclass(frozen=True)
class Comparison:
    """The first minimum minus the second; p_adjusted and told_apart are by Holm's procedure over the file's pairs."""

    first: int
    second: int
    difference: float | None
    limits: Limits
    probability: float | None
    p_value: float | None
    p_adjusted: float | None
    told_apart: bool
    verdict: str


@dataclass(frozen=True)
class Results:
    """What one landscape says at one threshold.

    Attributes:
        content: of the results.json; per-minimum lists follow `minima`.
    """

    content: Mapping[str, Any]

    @classmethod
    def of(cls, results: Mapping[str, Any] | Results) -> Results:
        """A results.json as `load_results` reads it, or what was made of it already."""
        return results if isinstance(results, Results) else cls(results)

    @property
    def variation(self) -> str:
        """level, epoch or batch_size."""
        return str(self.content.get("variation", "level"))

    @property
    def minima(self) -> list[int]:
        """Values of the variation, ascending."""
        return list(self.content["model_data_levels"])

    @property
    def names(self) -> list[str]:
        """What tables and verdicts call the minima."""
        return [minimum_name(minimum, self.variation) for minimum in self.minima]

    @property
    def all_minima(self) -> list[int]:
        """Those of the run; a landscape has the minima that were trained on all of its samples."""
        section, key = {"level": ("data", "levels"), "epoch": ("training", "checkpoints")}.get(
            self.variation, ("training", "batch_sizes")
        )
        listed = self.content.get("settings", {}).get(section, {}).get(key) or []
        return sorted({*listed, *self.minima})

    @property
    def kind(self) -> str:
        """level, poison, noise, epoch or batch_size."""
        variant = str(self.content.get("dataset_type", "data"))
        return variant if self.variation == "level" and variant != "data" else self.variation

    @property
    def native(self) -> int | None:
        """The index of the minimum that was trained on the landscape's samples; None in a series."""
        landscape = self.landscape
        return self.minima.index(landscape) if self.variation == "level" and landscape in self.minima else None

    @property
    def labels(self) -> list[str]:
        """What figures call the minima: their places on the axis."""
        return [f"{position:,}" for position in self.positions]

    @property
    def positions(self) -> list[int]:
        """Of the minima on an axis: training samples, wrongly labelled or random ones among them, or values of the series."""
        base = self.content["base_dataset_size"] if self.kind == "level" else 0
        return [base + minimum for minimum in self.minima]

    @property
    def landscape(self) -> int:
        return int(self.content["loss_landscape_data_param"])

    @property
    def threshold(self) -> float:
        return float(self.content["loss_threshold"])

    @property
    def title(self) -> str:
        """Data set, model, landscape and threshold."""
        size = self.content["base_dataset_size"] + self.landscape
        measured = subject(self.content.get("settings", {}))
        return f"{measured + ': ' if measured else ''}landscape of {size:,} samples, loss threshold {self.threshold:g}"

    @property
    def test_losses(self) -> list[float]:
        return list(self.content["test_loss_values"])

    @property
    def sigmas(self) -> list[float]:
        """Of the Gaussian local volumes, ascending; empty if none was measured."""
        return list(self.content.get("sigmas", []))

    @property
    def sigma(self) -> float | None:
        """The headline."""
        return self.content.get("sigma")

    def has(self, by: str) -> bool:
        """Whether there are star regions at a threshold of this kind, "loss" or "accuracy"."""
        return f"comparisons{_suffix(by)}" in self.content

    def has_masses(self, by: str = "loss") -> bool:
        return f"log_mass{_suffix(by)}_values" in self.content

    def stars(self, by: str = "loss") -> list[Star]:
        """The star regions of all minima.

        Raises:
            ConfigError: there is no accuracy threshold.
        """
        suffix = self._required(by)
        columns = {
            "log_volume": f"log_volume{suffix}_values",
            "limits": f"log_volume{suffix}_intervals",
            "log_exp_r_n": f"log_exp_r_n{suffix}_values",
            "published_limits": f"log_exp_r_n{suffix}_intervals",
            "effective_sample_size": f"effective_sample_size{suffix}",
            "largest_share": f"largest_share{suffix}",
            "num_directions": f"num_directions{suffix}",
            "num_censored": f"num_censored{suffix}",
            "verdict": f"verdicts{suffix}",
        }
        return [
            Star(**{name: _read(name, self.content[key][i]) for name, key in columns.items()})
            for i in range(len(self.minima))
        ]

    @cached_property
    def headline_masses(self) -> list[Mass]:
        """The Gaussian local volumes of all minima at the headline sigma, by loss."""
        return [row[self.sigmas.index(self.sigma)] for row in self.masses()] if self.sigma is not None else []

    def masses(self, by: str = "loss") -> list[list[Mass]]:
        """The Gaussian local volumes of each minimum, one per sigma; empty if none was measured."""
        if not self.has_masses(by):
            return []
        stem = f"log_mass{_suffix(by)}_"
        columns = {
            "value": "values",
            "limits": "intervals",
            "method": "methods",
            "num_stages": "num_stages",
            "num_forward": "num_forward",
            "note": "notes",
            "verdict": "verdicts",
        }
        return [
            [
                Mass(**{name: _read(name, self.content[stem + key][i][k]) for name, key in columns.items()})
                for k in range(len(self.sigmas))
            ]
            for i in range(len(self.minima))
        ]

    def comparisons(self, by: str = "loss") -> list[Comparison]:
        """Pairs of star regions by their log volumes.

        Raises:
            ConfigError: there is no accuracy threshold.
        """
        return [_comparison(pair, "log_volume_") for pair in self.content[f"comparisons{self._required(by)}"]]

    def mass_comparisons(self, by: str = "loss") -> list[Comparison]:
        """Pairs of Gaussian local volumes at the headline sigma; empty if none was measured."""
        return [_comparison(pair, "") for pair in self.content.get(f"log_mass{_suffix(by)}_comparisons", [])]

    def overall_verdict(self, by: str = "loss") -> str:
        return str(self.content[f"overall_verdict{self._required(by)}"])

    @property
    def growth(self) -> Mapping[str, Any]:
        """The published number from 1, 2, 4, ... of the directions."""
        return self.content["log_exp_r_n_growth"]

    @property
    def threshold_verdict(self) -> str | None:
        """What is wrong with the threshold, in words."""
        return self.content.get("threshold_verdict")

    def left_out(self, i: int, zero: bool = True) -> str | None:
        """What was not perturbed of the i-th minimum, in words; `zero`: also entries whose scaling is 0."""
        return still_of(self.content, i, zero)

    def _required(self, by: str) -> str:
        if not self.has(by):
            raise ConfigError(
                "these results have no accuracy threshold: pair one with the loss threshold in config.yaml"
            )
        return SUFFIXES[by]


def _suffix(by: str) -> str:
    if by not in SUFFIXES:
        raise ConfigError(f"by {by!r} is not known; allowed: {', '.join(SUFFIXES)}")
    return SUFFIXES[by]


def _read(name: str, value: Any) -> Any:
    return _limits(value) if name.endswith("limits") else value


def _limits(interval: Sequence[float | None] | None) -> Limits:
    low, high = interval or (None, None)
    return low, high


def _comparison(pair: Mapping[str, Any], prefix: str) -> Comparison:
    """`prefix` is what its keys begin with in the file."""
    probability = pair[f"{prefix}probability"]
    return Comparison(
        first=pair["levels"][0],
        second=pair["levels"][1],
        difference=pair[f"{prefix}difference"],
        limits=_limits(pair[f"{prefix}interval"]),
        probability=probability,
        p_value=pair.get(f"{prefix}p_value", two_sided(probability)),
        p_adjusted=pair.get(f"{prefix}p_adjusted"),
        told_apart=bool(pair.get("told_apart", False)),
        verdict=pair["verdict"],
    )
