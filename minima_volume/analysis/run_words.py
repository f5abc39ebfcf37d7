"""What one landscape says of the order of its minima, in sentences, computed from one results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from minima_volume.analysis.quantities import MASS, MORE, STAR, Quantity
from minima_volume.analysis.results import Results
from minima_volume.numerals import fixed
from minima_volume.volume.ordering import discordant_pairs, spearman

STRONG = 0.5  # rank correlation from which an answer is a plain yes


def describe_order(results: Mapping[str, Any]) -> str:
    """Does less data mean a larger volume, and does a larger volume go with a larger test loss? An answer per quantity.

    Only estimates are put in order; of numbers that are none nothing is said.

    Args:
        results: a results.json.
    """
    read = Results.of(results)
    lines = []
    for quantity, values in volumes_of(read).items():
        known = sum(value is not None for value in values)
        name = f"{quantity.name[:1].upper()}{quantity.name[1:]} ({quantity.noun})"
        if known < 2:
            lines.append(f"{name}: nothing can be said, {known} of {len(values)} numbers are estimates.")
            continue
        left = f" {len(values) - known} of {len(values)} numbers are no estimates and are left out." * (
            known < len(values)
        )
        lines.append(f"{name}:{left}")
        lines.append(f"  Is the volume smaller with more {MORE[read.kind]}? {data_answer(read.minima, values)}")
        lines.append(f"  Does a larger volume go with a larger test loss? {loss_answer(values, read.test_losses)}")
    return "\n".join(lines)


def volumes_of(read: Results) -> dict[Quantity, list[float | None]]:
    """The measured quantities, the Gaussian local volume first, with their estimates; None for what is none."""
    found: dict[Quantity, list[float | None]] = {}
    if read.sigma is not None and read.has_masses():
        found[MASS] = [mass.value if mass.is_estimate else None for mass in read.headline_masses]
    found[STAR] = [star.log_volume if star.is_estimate else None for star in read.stars()]
    return found


def data_answer(minima: Sequence[int], values: Sequence[float | None]) -> str:
    """Whether volumes fall from the first minimum to the last.

    >>> data_answer([0, 10, 20], [5.0, 4.0, 1.0])
    'Yes, without exception: in 3 of 3 pairs.'
    >>> data_answer([0, 10, 20], [5.0, 1.0, 4.0])
    'In 2 of 3 pairs.'
    """
    known = [value for _, value in sorted(zip(minima, values, strict=True)) if value is not None]
    pairs = list(combinations(known, 2))
    falls = sum(first > second for first, second in pairs)
    which = f"n {falls} of {len(pairs)} pairs."
    return f"Yes, without exception: i{which}" if falls == len(pairs) else f"No: i{which}" if not falls else f"I{which}"


def loss_answer(values: Sequence[float | None], losses: Sequence[float | None]) -> str:
    """Whether the order by volume is that by test loss.

    >>> loss_answer([5.0, 4.0, 1.0], [0.9, 0.4, 0.5])
    'Yes: rho = 0.50; in 2 of 3 pairs the larger minimum has the larger test loss.'
    >>> loss_answer([5.0, 4.0], [0.5, 0.5])
    'It cannot be said: volumes or test losses are all equal.'
    """
    rho = spearman(values, losses)
    if rho is None:
        return "It cannot be said: volumes or test losses are all equal."
    known = [
        (value, loss) for value, loss in zip(values, losses, strict=True) if value is not None and loss is not None
    ]
    pairs = sum(a != c and b != d for (a, b), (c, d) in combinations(known, 2))
    agree = pairs - discordant_pairs(values, losses)
    word = "Yes" if rho >= STRONG else "Weakly" if rho > 0 else "No"
    return f"{word}: rho = {fixed(rho)}; in {agree} of {pairs} pairs the larger minimum has the larger test loss."
