"""What the settings of both kinds of measure share: how perturbations are drawn, and how a bad setting is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minima_volume.arguments import check_names, check_seed, is_number
from minima_volume.errors import ConfigError
from minima_volume.perturbation.directions import SCALINGS


@dataclass(frozen=True, kw_only=True)
class Perturbed:
    """How perturbations are drawn, whatever is measured with them.

    Attributes:
        seed: of everything that is drawn; of the first direction where directions have seeds of their own.
        scaling: `filter`, `none`, `layer`, `tensor_std` or `sample_std`.
        names: `weight_bias` (names that end in weight or bias, or begin with weight_ or bias_), `weights` (those called weight, without those
            of normalisation layers), `all`, or a list of names of parameters or modules, or globs; see `perturbation.names`. The verdict says what is left out.
        memory_gib: memory budget.

    Raises:
        ConfigError: a value is not allowed.
    """

    seed: int = 1
    scaling: str = "filter"
    names: str | Sequence[str] = "weight_bias"
    memory_gib: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "names", check_names(self.names))
        if self.scaling not in SCALINGS:
            raise ConfigError(f"scaling {self.scaling!r} is not known; allowed: {', '.join(SCALINGS)}")
        if not is_number(self.memory_gib) or not self.memory_gib > 0:
            raise ConfigError(f"memory_gib {self.memory_gib!r} is not allowed: it must be positive")


def check_estimator(estimator: object, measure: str, allowed: Sequence[str]) -> None:
    """Refuse an estimator of something else."""
    if estimator not in allowed:
        raise ConfigError(
            f"estimator {estimator!r} does not estimate measure {measure!r}; allowed: {', '.join(allowed)}"
        )
