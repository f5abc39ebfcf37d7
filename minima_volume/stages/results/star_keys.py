"""The keys of results.json for star regions: numbers, how far to trust them, and how they order the minima."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minima_volume.files.atomic import finite_or_none
from minima_volume.perturbation.names import left_out_note, still_note
from minima_volume.stages.run import minimum_name
from minima_volume.volume.claims import order_note
from minima_volume.volume.comparison import Difference, Family, pairs_to_compare
from minima_volume.volume.ordering import (
    discordant_pairs,
    native_is_largest,
    order_holds,
    ordering_violations,
    ranks,
    spearman,
    spearman_interval,
)
from minima_volume.volume.star.comparison import compare
from minima_volume.volume.star.growth import growth
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.uncertainty import needed_sample_size
from minima_volume.volume.star.volume import StarVolume


def volume_keys(suffix: str, volumes: Sequence[StarVolume]) -> dict[str, Any]:
    """The published number and the log-volume of each minimum, and how far to trust them; `suffix` is "" or "_acc"."""
    values = [v.log_exp_r_n for v in volumes]
    tails = [None if v.estimate is None else v.estimate.pareto_k for v in volumes]
    return {
        f"log_exp_r_n{suffix}_values": values,
        f"log_exp_r_n{suffix}_ranks": ranks(values),
        f"log_exp_r_n{suffix}_order_note": order_note(values, [v.interval for v in volumes]),
        f"log_exp_r_n{suffix}_notes": [v.note for v in volumes],
        f"log_exp_r_n{suffix}_intervals": [v.interval for v in volumes],
        f"log_volume{suffix}_values": [v.log_volume for v in volumes],
        f"log_volume{suffix}_intervals": [v.log_volume_interval for v in volumes],
        f"effective_sample_size{suffix}": [v.effective_sample_size for v in volumes],
        f"effective_sample_size_needed{suffix}": [
            None if k is None else finite_or_none(needed_sample_size(k)) for k in tails
        ],
        f"pareto_k{suffix}": finite_or_none(tails),
        f"largest_share{suffix}": [v.largest_share for v in volumes],
        f"num_directions{suffix}": [v.num_directions for v in volumes],
        f"num_censored{suffix}": [v.num_censored for v in volumes],
        f"num_reentered{suffix}": [v.num_reentered for v in volumes],
        f"verdicts{suffix}": [v.verdict for v in volumes],
    }


def still_of(results: Mapping[str, Any], i: int, zero: bool = True) -> str | None:
    """What was not perturbed of the i-th minimum of a results.json, in words; nothing where an earlier version wrote it.

    Args:
        results: its content.
        i: which of `model_data_levels`.
        zero: also how many entries did not move because their scaling is 0.
    """
    if "num_left_out_params" not in results:
        return None
    moved, zeros = results["num_params"], results["num_zero_params"][i]
    moved = moved[i] if isinstance(moved, list) else moved
    names, count = results["left_out_params"], results["num_left_out_params"]
    return still_note(names, count, moved, zeros) if zero else left_out_note(names, count, count + moved + zeros)


def growth_keys(suffix: str, volumes: Sequence[StarVolume]) -> dict[str, Any]:
    """The published number from 1, 2, 4, ... of the directions: (minima, sizes), null where undefined."""
    found = [None if v.estimate is None else growth(v.logs) for v in volumes]
    sizes = next((g.num_directions for g in found if g is not None), [])
    return {
        f"log_exp_r_n{suffix}_growth": {
            "num_directions": sizes,
            "values": [None if g is None else g.values for g in found],
            "effective_sample_sizes": [None if g is None else g.effective_sample_sizes for g in found],
            "largest_minus_log_directions": [None if g is None else g.largest for g in found],
        }
    }


def comparison_keys(
    suffix: str, native: int | None, levels: Sequence[int], volumes: Sequence[StarVolume], variation: str = "level"
) -> dict[str, Any]:
    """Neighbours in level, and the native minimum with every other, over shared directions; and all of it in one sentence.

    The pairs are one family: `told_apart` and the verdicts are by Holm's procedure over those that can be tested.
    """
    names = [minimum_name(level, variation) for level in levels]
    pairs = pairs_to_compare(native, levels)
    found = [compare(volumes[i], volumes[j], (names[i], names[j])) for i, j in pairs]
    published, family = (
        Family.of([getattr(comparison, name).p_value for comparison in found]) for name in ("log_exp_r_n", "log_volume")
    )
    content = [
        {"levels": [levels[i], levels[j]]}
        | _difference("log_exp_r_n", comparison.log_exp_r_n, published.adjusted[k])
        | _difference("log_volume", comparison.log_volume, family.adjusted[k])
        | {
            "told_apart": family.told_apart[k],
            "verdict": comparison.verdict_among(family.adjusted[k], family.count),
        }
        for k, ((i, j), comparison) in enumerate(zip(pairs, found, strict=True))
    ]
    return {
        f"comparisons{suffix}": content,
        f"overall_verdict{suffix}": overall_verdict(volumes, sum(family.told_apart), family.count),
    }


def _difference(name: str, difference: Difference, adjusted: float) -> dict[str, Any]:
    return {
        f"{name}_difference": difference.value,
        f"{name}_interval": [difference.lower, difference.upper],
        f"{name}_probability": difference.probability,
        f"{name}_p_value": difference.p_value,
        f"{name}_p_adjusted": finite_or_none(adjusted),
    }


def overall_verdict(volumes: Sequence[StarVolume], told_apart: int, compared: int) -> str:
    """How many of the volumes are estimates, and how many of the pairs that could be compared are told apart."""
    inside = [v.estimate for v in volumes if v.estimate is not None]
    if not inside:
        return "undefined: no minimum has a volume in this landscape"
    bounded = [v.estimate for v in volumes if v.estimate is not None and not v.is_estimate]
    parts = [f"{len(inside) - len(bounded)} of {len(volumes)} volumes are estimates"]
    if bounded:
        share = float(np.median([estimate.largest_share for estimate in bounded]))
        parts.append(f"no estimates: {len(bounded)}, of which one direction carries {share:.0%} in the median")
    if len(inside) < len(volumes):
        parts.append(f"undefined: {len(volumes) - len(inside)}")
    if compared:
        parts.append(f"{told_apart} of {compared} compared pairs can be told apart (Holm)")
    elif len(inside) > 1:
        parts.append("no pair can be compared")
    return "; ".join(parts)


def order_keys(
    prefix: str,
    native: int | None,
    levels: Sequence[int],
    values: Sequence[float | None],
    test_losses: Sequence[float | None],
) -> dict[str, Any]:
    """How the volumes order the minima; `<prefix>_predicts_minimas` and `<prefix>_ordering_violations` are keys of the original notebooks."""
    interval, reason = spearman_interval(values, test_losses)
    return {
        f"{prefix}_predicts_minimas": order_holds(levels, values),
        f"{prefix}_native_is_largest": native_is_largest(native, levels, values),
        **disagreement_keys(prefix, values, test_losses),
        f"{prefix}_spearman": spearman(values, test_losses),
        f"{prefix}_spearman_interval": interval,
        f"{prefix}_spearman_note": reason,
    }


def disagreement_keys(
    prefix: str, values: Sequence[float | None], test_losses: Sequence[float | None]
) -> dict[str, int | None]:
    """How often the order by volume disagrees with the order by test loss; null where fewer than two minima have both."""
    known = sum(value is not None and loss is not None for value, loss in zip(values, test_losses, strict=True))
    return {
        f"{prefix}_ordering_violations": ordering_violations(values, test_losses) if known > 1 else None,
        f"{prefix}_discordant_pairs": discordant_pairs(values, test_losses) if known > 1 else None,
    }


def top_radii(radii: Sequence[Radii], top_k: int) -> dict[str, Any]:
    """The largest radii of each minimum, descending, each with the seed of its direction; null where it is outside."""
    values, seeds = [], []
    for found in radii:
        count = min(top_k, len(found.radius))
        if found.outside:
            values.append([None] * count)
            seeds.append([None] * count)
            continue
        order = np.argsort(-found.radius, kind="stable")[:count]
        values.append(found.radius[order].tolist())
        seeds.append(found.seeds[order].tolist())
    return {"top_r_vals": values, "top_r_val_seeds": seeds}


def star_keys(
    kind: str,
    native: int | None,
    levels: Sequence[int],
    volumes: Sequence[StarVolume],
    test_losses: Sequence[float],
    variation: str = "level",
) -> dict[str, Any]:
    """Everything about the star regions at one threshold of a kind, "loss" or "accuracy": numbers, trust, comparisons, order."""
    suffix = "" if kind == "loss" else "_acc"
    return (
        volume_keys(suffix, volumes)
        | growth_keys(suffix, volumes)
        | comparison_keys(suffix, native, levels, volumes, variation)
        | order_keys(kind, native, levels, [v.log_exp_r_n for v in volumes], test_losses)
    )
