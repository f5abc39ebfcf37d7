"""The keys of results.json that speak of Gaussian local volumes: numbers, how far to trust them, how they order the minima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minima_volume.stages.freshness import mass_record
from minima_volume.stages.mass_cells import mass_settings
from minima_volume.stages.results.star_keys import none_if_nan, order_keys, still_of
from minima_volume.stages.run import Run, minimum_name
from minima_volume.volume.claims import CLEAR, holm, order_note, p_text, two_sided
from minima_volume.volume.gaussian.mass import GaussianMass, compare_masses, noted
from minima_volume.volume.ordering import ranks
from minima_volume.volume.star.comparison import pairs_to_compare


def mass_keys(
    run: Run,
    kind: str,
    results: Mapping[str, Any],
    sigmas: Sequence[float],
    masses: Mapping[tuple[int, float], GaussianMass],
) -> dict[str, Any]:
    """Keys for all minima of one landscape; per-minimum lists follow `model_data_levels`, the inner lists `sigmas`.

    Args:
        run: the run.
        kind: loss or accuracy, which condition they were measured with.
        results: the results.json they go into.
        sigmas: ascending; the same for both kinds.
        masses: (minimum, sigma) -> what was measured; what is absent becomes null.
    """
    suffix = "" if kind == "loss" else "_acc"
    levels = results["model_data_levels"]
    still = [still_of(results, i) for i in range(len(levels))]
    found = [[masses.get((level, sigma)) for sigma in sigmas] for level in levels]
    table = [[mass and noted(mass, note) for mass in row] for row, note in zip(found, still, strict=True)]

    def each(of: Any) -> list[list[Any]]:
        return [[None if mass is None else of(mass) for mass in row] for row in table]

    headline = run.config.volume.gaussian.sigma
    shown = headline if headline in sigmas else sigmas[0]
    first = [row[sigmas.index(shown)] for row in table]
    values = [None if mass is None else mass.estimate for mass in first]
    native = results["loss_landscape_data_param"] if run.config.variation == "level" else None
    return {
        "sigmas": list(sigmas),
        "sigma": shown,
        "log_mass_scaling": run.config.perturbation.scaling,
        f"log_mass{suffix}_values": each(lambda mass: mass.estimate),
        f"log_mass{suffix}_intervals": each(lambda mass: list(mass.interval)),
        f"log_mass{suffix}_standard_errors": each(lambda mass: mass.standard_error),
        f"log_mass{suffix}_methods": each(lambda mass: mass.method),
        f"log_mass{suffix}_verdicts": each(lambda mass: mass.verdict),
        f"log_mass{suffix}_notes": each(lambda mass: mass.note),
        f"log_mass{suffix}_num_stages": each(lambda mass: mass.num_stages),
        f"log_mass{suffix}_num_forward": each(lambda mass: mass.num_forward),
        f"log_mass{suffix}_ranks": ranks(values),
        f"log_mass{suffix}_order_note": order_note(values, [None if mass is None else mass.interval for mass in first]),
        f"log_mass{suffix}_comparisons": compare_all(native, levels, first, run.config.variation),
        **order_keys(f"log_mass{suffix}", native, levels, values, results["test_loss_values"]),
        "log_mass_settings": mass_record(mass_settings(run)),
    }


def compare_all(
    native: int | None,
    levels: Sequence[int],
    masses: Sequence[GaussianMass | None],
    variation: str = "level",
) -> list[dict[str, Any]]:
    """Neighbours in level, and the native minimum with every other, at the headline sigma; one family for Holm's procedure."""
    found: list[tuple[list[str], dict[str, Any]]] = []
    for i, j in pairs_to_compare(native, levels):
        a, b = masses[i], masses[j]
        if a is None or b is None:
            continue
        names = [minimum_name(levels[k], variation) for k in (i, j)]
        found.append((names, {"levels": [levels[i], levels[j]], **compare_masses(a, b)}))
    p_values = [two_sided(compared["probability"]) for _, compared in found]
    adjusted = holm(p_values)
    count = int(np.isfinite(adjusted).sum())
    for (names, compared), p_value, p_adjusted in zip(found, p_values, adjusted.tolist(), strict=True):
        clear = p_adjusted <= CLEAR
        compared |= {"p_value": p_value, "p_adjusted": none_if_nan(p_adjusted), "told_apart": clear}
        compared["verdict"] = comparison_verdict(names, compared, count)
    return [compared for _, compared in found]


def comparison_verdict(names: Sequence[str], compared: Mapping[str, Any], count: int = 1) -> str:
    """Which of two minima is larger, or that they cannot be told apart.

    Args:
        names: of the two.
        compared: from `compare_masses`, a pair that is compared at its own 95 %; with `p_adjusted` beside, one of several.
        count: how many are compared together.

    >>> comparison_verdict(["+0", "+540"], {"difference": 2.1, "interval": [1.8, 2.4], "probability": 0.998})
    '+0 is larger than +540 by 2.10 (1.80 to 2.40; p = 0.004, this comparison alone)'
    """
    difference, interval, p_value = compared["difference"], compared["interval"], two_sided(compared["probability"])
    if p_value is None:
        return f"{names[0]} and {names[1]} cannot be compared: one of them is no estimate"
    adjusted = compared.get("p_adjusted")
    tested = p_text(p_value, adjusted, count)
    if (p_value if adjusted is None else adjusted) > CLEAR:
        return (
            f"{names[0]} and {names[1]} cannot be told apart: difference {difference:.2f} "
            f"({interval[0]:.2f} to {interval[1]:.2f}; {tested})"
        )
    larger, smaller = names if difference > 0 else (names[1], names[0])
    low, high = sorted(abs(limit) for limit in interval)
    return f"{larger} is larger than {smaller} by {abs(difference):.2f} ({low:.2f} to {high:.2f}; {tested})"
