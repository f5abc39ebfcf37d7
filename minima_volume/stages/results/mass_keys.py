"""The keys of results.json for Gaussian local volumes: numbers, how far to trust them, how they order the minima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minima_volume.files.atomic import finite_or_none
from minima_volume.stages.freshness import mass_record
from minima_volume.stages.mass_cells import mass_settings
from minima_volume.stages.results.star_keys import order_keys, still_of
from minima_volume.stages.run import Run, minimum_name
from minima_volume.volume.claims import order_note
from minima_volume.volume.comparison import Family, mass_verdict, pairs_to_compare
from minima_volume.volume.gaussian.comparison import compare_masses
from minima_volume.volume.gaussian.mass import GaussianMass, noted
from minima_volume.volume.ordering import ranks


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
    pairs, found = [], []
    for i, j in pairs_to_compare(native, levels):
        a, b = masses[i], masses[j]
        if a is not None and b is not None:
            pairs.append((i, j))
            found.append(compare_masses(a, b))
    family = Family.of([difference.p_value for difference in found])
    content = []
    for (i, j), difference, adjusted in zip(pairs, found, family.adjusted.tolist(), strict=True):
        limits = [difference.lower, difference.upper]
        content.append(
            {
                "levels": [levels[i], levels[j]],
                "difference": difference.value,
                "interval": None if difference.value is None else limits,
                "probability": difference.probability,
                "p_value": difference.p_value,
                "p_adjusted": finite_or_none(adjusted),
                "told_apart": difference.told_apart(adjusted),
                "verdict": mass_verdict(
                    [minimum_name(levels[k], variation) for k in (i, j)], difference, adjusted, family.count
                ),
            }
        )
    return content
