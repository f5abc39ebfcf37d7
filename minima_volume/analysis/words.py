"""The results of a condition in a paragraph, every statement computed from the tables. (Captions of figures: `reports.gallery`.)"""

from __future__ import annotations

import math

import pandas as pd

from minima_volume.analysis.collect import NAMED, Collected
from minima_volume.analysis.designs import fewest_seeds, runs_text, unit
from minima_volume.analysis.quantities import MORE, STAR, Quantity, axis_point, bounded, kind_of, left_out
from minima_volume.analysis.tables import Tables
from minima_volume.numerals import fixed, listed
from minima_volume.volume.claims import p_text


def paragraph(results: Collected | Tables, landscape: int | None = None, threshold: float | None = None) -> str:
    """What a reader of the figures should take home, and how far to trust it.

    Args:
        results: the condition.
        landscape, threshold: as in `analysis.select`.
    """
    tables = Tables.of(results, landscape, threshold)
    rows, collected = tables.rows, tables.collected
    config = collected.config
    size = config.data.base_size + int(rows["landscape"].iloc[0])
    runs = runs_text(rows)
    kind = kind_of(rows)
    lines = [
        f"{runs} of '{config.experiment.name}', landscape of {size:,} samples, loss threshold {rows['threshold'].iloc[0]:g}."
    ]
    for quantity in tables.quantities:
        lines += [_values(tables, quantity, kind), _order(tables, quantity, kind), _pairs(tables, quantity)]
    lines += [*(_law(tables, quantity) for quantity in tables.quantities), _loss(tables), _cutoffs(tables)]
    if fewest_seeds(rows) < 5:
        one = rows["run"].nunique() == 1
        lines.append(
            f"{runs} {'is' if one else 'are'} few: intervals over {unit(rows)}s are {'missing' if one else 'wide'}."
        )
    if collected.partial:
        lines.append(f"Not like the others, or incomplete: {listed(list(collected.partial), NAMED)}.")
    if missing := list(collected.missing):
        lines.append(f"Not analyzed: {listed(missing, NAMED)}.")
    return " ".join(line for line in lines if line)


def _values(tables: Tables, quantity: Quantity, kind: str) -> str:
    """The first and the last value on the axis, and what the numbers rest on; `_order` alone says which is larger."""
    rows, table = tables.rows, tables.aggregate(quantity.column)
    known = table[table["seeds"] > 0]
    sigmas = "" if quantity is STAR else f" (sigma {', '.join(sorted({f'{s:g}' for s in rows['sigma'].dropna()}))})"
    word = left_out(rows, quantity)
    if known.empty and not word:
        return f"{_name(quantity)}: no minimum is inside this landscape; choose a higher threshold or train longer."
    text = f"{_name(quantity)}{sigmas}: "
    if len(known):
        mean = "mean " if rows["run"].nunique() > 1 else ""
        shown = [f"{_value(row)} at {axis_point(kind, row['x'])}" for _, row in known.iloc[[0, -1]].iterrows()]
        text += f"the {mean}{quantity.noun} is {' and '.join(dict.fromkeys(shown))}"
        text += f"; {word}." if word else "."
    else:
        text += f"{word}."
    if quantity is STAR:
        effective, directions = rows["effective_sample_size"].median(), int(rows["num_directions"].min())
        text += f" Each value rests on {effective:.1f} of {directions} directions (median)."
        if len(limits := rows["log_volume_lower"][bounded(rows, STAR.column)]):
            span = " to ".join(dict.fromkeys(f"{limit:,.1f}" for limit in (limits.min(), limits.max())))
            text += f" Of those that are no estimates only a lower limit is known (97.5 % each): {span}."
        if outside := int(rows["log_volume"].isna().sum()):
            text += f" {_count(outside, 'minimum lies', 'minima lie')} outside the landscape."
    return text


def _value(row: pd.Series) -> str:
    number = ",.0f" if abs(row["mean"]) >= 1000 else ".2f"
    if math.isnan(row["lower"]):
        return f"{row['mean']:{number}} nats"
    return f"{row['mean']:{number}} nats (95 % interval {row['lower']:{number}} to {row['upper']:{number}})"


def _order(tables: Tables, quantity: Quantity, kind: str) -> str:
    orders = tables.orders(quantity.column)
    orders = orders[orders["minima"] > 1]
    if orders.empty:
        return ""
    exact, count, one = int(orders["exact"].astype(bool).sum()), len(orders), unit(tables.rows)
    text = (
        f"By it, more {MORE[kind]} goes with a smaller volume without exception in {exact} of {_count(count, one)} "
        f"(pairs in the other order: {int(orders['wrong_pairs'].sum())} of {int(orders['pairs'].sum())}; "
        f"{'mean ' if count > 1 else ''}Spearman correlation {fixed(orders['spearman_data'].mean())})"
    )
    differences = tables.differences(quantity.column)
    tested = differences[differences["p_value"].notna()]
    if len(tested):
        larger, smaller = (int((tested["clear"] == sign).sum()) for sign in (1, -1))
        reference = f"the minimum of {axis_point(kind, tested['reference'].iloc[0])}"
        text += (
            f"; compared within {one}s, {reference} is clearly larger than {larger} and clearly smaller than {smaller} of the "
            f"{_count(len(tested), 'other')} ("
        )
        clear = tested[tested["clear"] != 0]
        worst = p_text(clear["p_value"].max(), clear["p_adjusted"].max(), len(tested)) if len(clear) else ""
        tests = "t tests" if one == "seed" else "tests that allow for shared seeds"
        text += f"{tests}; the least clear of these has {worst})" if worst else f"{tests}, Holm over {len(tested)})"
    return text + "."


def _pairs(tables: Tables, quantity: Quantity) -> str:
    pairs = tables.pairs(quantity.column)
    if pairs.empty:
        return ""
    told = int(pairs["told_apart"].sum())
    return (
        f"Within one {unit(tables.rows)} {told} of {len(pairs)} compared pairs of minima can be told apart by this number (Holm over "
        f"all {len(pairs)})."
    )


def _law(tables: Tables, quantity: Quantity) -> str:
    law = tables.law(quantity.column)
    if law is None:
        return ""
    number = ",.0f" if abs(law.slope) >= 100 else ".2f"
    if math.isnan(law.slope_lower):
        limits = f" (the same in {law.interval_from}, which says nothing of how far they spread)"
    else:
        limits = f" (95 % interval {law.slope_lower:{number}} to {law.slope_upper:{number}}, from {law.interval_from})"
    return (
        f"Scaling law of native minima by the {quantity.name}: log V = a log N + b with a = {law.slope:{number}}{limits}, "
        f"R² = {law.r_squared:.2f}, {law.points} points."
    )


def _loss(tables: Tables) -> str:
    parts = []
    for quantity in tables.quantities:
        rho = tables.orders(quantity.column)["spearman_loss"]
        if rho.notna().any():
            parts.append(f"{fixed(rho.mean())} for the {quantity.name}")
    over = f", mean over {unit(tables.rows)}s" if tables.rows["run"].nunique() > 1 else ""
    return f"Spearman correlation of volume and test loss{over}: {', '.join(parts)}." if parts else ""


def _cutoffs(tables: Tables) -> str:
    cutoffs = tables.collected.cutoffs
    cutoffs = cutoffs[(cutoffs["threshold"] - tables.threshold).abs() < 1e-12]
    if cutoffs.empty:
        return ""
    first = cutoffs[cutoffs["level"] == cutoffs["level"].min()]
    if first["samples"].isna().all():
        return ""
    low, high = int(first["samples"].min()), int(first["samples"].max())
    span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"The minimum of the least data leaves at {span} samples, as samples are added."


def _name(quantity: Quantity) -> str:
    return quantity.name[:1].upper() + quantity.name[1:]


def _count(count: int, noun: str, plural: str | None = None) -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
