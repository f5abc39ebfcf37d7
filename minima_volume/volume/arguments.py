"""What the front door accepts as a threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minima_volume.errors import ConfigError
from minima_volume.volume.star.radii import Condition


def condition_of(threshold: float | None, accuracy_threshold: float | None) -> Condition:
    """What keeps a perturbed model inside, from the one of the two that was given."""
    if (threshold is None) == (accuracy_threshold is None):
        raise ConfigError("give either threshold (a loss) or accuracy_threshold (a fraction), not both or none")
    if threshold is not None:
        return Condition("loss", _number("threshold", threshold, np.inf, "it must be a positive loss"))
    allowed = "it must be above 0 and at most 1"
    return Condition("accuracy", _number("accuracy_threshold", accuracy_threshold, np.nextafter(1, 2), allowed))


def _number(name: str, value: Any, below: float, allowed: str) -> float:
    """One number above 0 and below a limit; a tensor or array of one is one."""
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not 0 < number < below:
        raise ConfigError(f"{name} {value!r} is not allowed: {allowed}")
    return number
