"""An analysis in words and a table, for a terminal."""

from __future__ import annotations

import pandas as pd

from minima_volume.analysis.designs import runs_text, unit
from minima_volume.analysis.quantities import AXIS_LABELS, MASS, STAR, kind_of
from minima_volume.analysis.readable import NOTHING
from minima_volume.numerals import fixed
from minima_volume.reports.analyze import Analysis


def describe(analysis: Analysis) -> str:
    """The table that `make run` ends with, what is missing, how far to trust it, and where the figures are."""
    collected, table = analysis.collected, analysis.table
    landscape, threshold = min(collected.table["landscape"]), collected.config.volume.headline
    one = unit(collected.table)
    runs = "seeds" if one == "seed" else runs_text(collected.table)
    lines = [
        f"landscape +{landscape} ({collected.config.data.base_size + landscape} samples), loss threshold {threshold:g}; means over {runs} (95 % intervals)",
        format_table(table, kind_of(collected.table), one),
        trust(table),
        left_out(table),
        told_apart(analysis),
        *(f"not analyzed: {run}: {reason}" for run, reason in collected.missing.items()),
        *(f"note on {run}: {reason}" for run, reason in collected.partial.items()),
        *(f"figure: {path}" for path in analysis.figures if path.suffix == analysis.figures[0].suffix),
    ]
    return "\n".join(line for line in lines if line)


def format_table(table: pd.DataFrame, kind: str = "level", one: str = "seed") -> str:
    """`shown_table` as text."""
    return shown_table(table, kind, one).to_string(index=False)


def shown_table(table: pd.DataFrame, kind: str = "level", one: str = "seed") -> pd.DataFrame:
    """Both volumes, test accuracy and loss, and what the published number rests on, to read; a row per minimum of a `kind_of` minima.

    What means are over is called `one`, see `designs.unit`.
    """
    published = f"{STAR.name} ({STAR.noun})"
    return pd.DataFrame(
        {
            AXIS_LABELS[kind]: table["x"].map("{:,.0f}".format),
            f"{one}s": table["seeds"],
            **mass_column(table),
            published: [volume_cell(row) for _, row in table.iterrows()],
            f"{STAR.name} is": [verdict(*counts) for counts in zip(table["estimates"], table["inside"], strict=True)],
            "test accuracy": table["test_accuracy"].map(
                lambda value: "undefined" if pd.isna(value) else f"{value:.3f}"
            ),
            "test loss": table["test_loss"].map("{:.3f}".format),
            "directions": table["directions"],
            "censored": table["censored"],
            "effective directions": table["effective_sample_size"].map(
                lambda value: NOTHING if pd.isna(value) else f"{value:.1f}"
            ),
        }
    )


def mass_column(table: pd.DataFrame) -> dict[str, list[str]]:
    """The Gaussian local volume with the 95 % interval of its mean over seeds, where it was measured."""
    if table["log_mass"].isna().all():
        return {}
    cells = zip(table["log_mass"], table["log_mass_lower"], table["log_mass_upper"], strict=True)
    return {
        f"{MASS.name} ({MASS.noun})": [
            "undefined"
            if pd.isna(mean)
            else fixed(mean) + ("" if pd.isna(low) else f" ({fixed(low)} to {fixed(high)})")
            for mean, low, high in cells
        ]
    }


def volume_cell(row: pd.Series) -> str:
    """The mean log-volume of the estimates with its interval, and the smallest lower limit of what is none.

    >>> volume_cell(pd.Series({"log_volume": None, "log_volume_above": -12.3, "inside": 3, "estimates": 0}))
    'above -12'
    """
    parts = []
    if row["estimates"]:
        mean, low, high = (row[f"log_volume{end}"] for end in ("", "_lower", "_upper"))
        parts.append(f"{mean:,.0f}" + ("" if pd.isna(low) else f" ({low:,.0f} to {high:,.0f})"))
    if row["estimates"] < row["inside"]:
        parts.append(f"above {row['log_volume_above']:,.0f}")
    return "; ".join(parts) or "outside"


def verdict(estimates: int, inside: int) -> str:
    """What the log-volumes of one level are, over its seeds.

    >>> verdict(0, 3), verdict(3, 3), verdict(1, 3), verdict(0, 0)
    ('no estimate', 'estimate', '1 of 3 are estimates', 'outside')
    """
    if not inside:
        return "outside"
    if estimates in (0, inside):
        return "estimate" if estimates else "no estimate"
    return f"{estimates} of {inside} are estimates"


def trust(table: pd.DataFrame) -> str:
    """A sentence about how far the log-volumes can be trusted."""
    inside, estimates = int(table["inside"].sum()), int(table["estimates"].sum())
    if not inside:
        return "no minimum is inside this landscape: choose a higher threshold or train longer"
    rests = f"{table['effective_sample_size'].mean():.1f} of {int(table['directions'].min())} directions (effective sample size)"
    if estimates == inside:
        return f"each log-volume is an estimate with an interval; on average one rests on {rests}"
    which = (
        "no log-volume is an estimate"
        if not estimates
        else f"{inside - estimates} of {inside} log-volumes are no estimates"
    )
    return (
        f"{which}: a few directions decide such a number, and it grows with their count; on average one rests on {rests}. The table has "
        "no mean of these, but the smallest of their lower limits (97.5 % each)"
    )


def left_out(table: pd.DataFrame) -> str:
    """What was not perturbed, empty where all was."""
    return "; ".join(table["left_out"].dropna().unique())


def told_apart(analysis: Analysis) -> str:
    """How many of the compared pairs can be told apart (Holm), in the landscape of the table, a line for each volume that has any."""
    lines = []
    for column, name in (("log_mass", "log masses"), ("log_volume", "log-volumes")):
        pairs = analysis.tables.pairs(column)
        if len(pairs):
            count = int(pairs["told_apart"].sum())
            lines.append(
                f"{count} of {len(pairs)} compared pairs of minima can be told apart by their {name} (Holm over all {len(pairs)})"
            )
    return "\n".join(lines)
