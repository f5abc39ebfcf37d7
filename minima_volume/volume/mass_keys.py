"""The keys of results.json that speak of Gaussian local volumes: numbers, how far to trust them, how they order the minima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minima_volume.layout import Run, minimum_name
from minima_volume.volume.comparison import pairs_to_compare
from minima_volume.volume.mass import GaussianMass, compare_masses, noted
from minima_volume.volume.mass_cells import Cell, settings_record
from minima_volume.volume.ordering import ranks
from minima_volume.volume.result_keys import order_keys, still_of

CONFIDENT = 0.975  # of the order of two minima


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
        f"log_mass{suffix}_comparisons": _comparisons(run, native, levels, first),
        **order_keys(f"log_mass{suffix}", native, levels, values, results["test_loss_values"]),
        "log_mass_settings": settings_record(run),
    }


def written(results: Mapping[str, Any], cell: Cell, mass: GaussianMass) -> bool:
    """Whether a results.json has the log mass and verdict of a cell."""
    suffix = "" if cell.condition.kind == "loss" else "_acc"
    levels, sigmas = results.get("model_data_levels", []), results.get("sigmas", [])
    if cell.minimum not in levels or cell.sigma not in sigmas or f"log_mass{suffix}_values" not in results:
        return False
    i, k = levels.index(cell.minimum), sigmas.index(cell.sigma)
    there = results[f"log_mass{suffix}_values"][i][k], results[f"log_mass{suffix}_verdicts"][i][k]
    return there == (mass.estimate, noted(mass, still_of(results, i)).verdict)


def _comparisons(
    run: Run, native: int | None, levels: Sequence[int], masses: Sequence[GaussianMass | None]
) -> list[dict[str, Any]]:
    """Neighbours in level, and the native minimum with every other, at the headline sigma."""
    found = []
    for i, j in pairs_to_compare(native, levels):
        a, b = masses[i], masses[j]
        if a is None or b is None:
            continue
        names = [minimum_name(levels[k], run.config.variation) for k in (i, j)]
        compared = compare_masses(a, b)
        found.append({"levels": [levels[i], levels[j]], **compared, "verdict": comparison_verdict(names, compared)})
    return found


def comparison_verdict(names: Sequence[str], compared: Mapping[str, Any]) -> str:
    """Which of two minima is larger, or that they cannot be told apart.

    >>> comparison_verdict(["+0", "+540"], {"difference": 2.1, "interval": [1.8, 2.4], "probability": 1.0})
    '+0 is larger than +540 by 2.10 (1.80 to 2.40)'
    """
    difference, interval, probability = (compared[key] for key in ("difference", "interval", "probability"))
    if difference is None:
        return f"{names[0]} and {names[1]} cannot be compared: one of them is undefined or only bounded"
    if max(probability, 1 - probability) < CONFIDENT:
        return f"{names[0]} and {names[1]} cannot be told apart: difference {difference:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    larger, smaller = names if difference > 0 else (names[1], names[0])
    low, high = sorted(abs(limit) for limit in interval)
    return f"{larger} is larger than {smaller} by {abs(difference):.2f} ({low:.2f} to {high:.2f})"
