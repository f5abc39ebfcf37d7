"""An analysis in words and a table, for a terminal."""

from __future__ import annotations

import pandas as pd

from minima_volume.analysis.analyze import Analysis


def describe(analysis: Analysis) -> str:
    """The table that `make run` ends with, what is missing, how far to trust it, and where the figures are."""
    collected, table = analysis.collected, analysis.table
    landscape, threshold = min(collected.table["landscape"]), collected.config.volume.headline
    lines = [
        f"landscape +{landscape} ({collected.config.data.base_size + landscape} samples), loss threshold {threshold:g}; means over seeds (95 % intervals)",
        format_table(table, collected.config.variation),
        trust(table),
        left_out(table),
        told_apart(analysis),
        *(f"not analyzed: {run}: {reason}" for run, reason in collected.missing.items()),
        *(f"note on {run}: {reason}" for run, reason in collected.partial.items()),
        *(f"figure: {path}" for path in analysis.figures if path.suffix == analysis.figures[0].suffix),
    ]
    return "\n".join(line for line in lines if line)


def format_table(table: pd.DataFrame, variation: str = "level") -> str:
    """`shown_table` as text."""
    return shown_table(table, variation).to_string(index=False)


def shown_table(table: pd.DataFrame, variation: str = "level") -> pd.DataFrame:
    """Level, volumes, test accuracy, directions and effective sample size, to read."""
    return pd.DataFrame(
        {
            variation.replace("_", " "): table["level"],
            "seeds": table["seeds"],
            **mass_column(table),
            "log-volume": [
                "outside"
                if pd.isna(mean)
                else f"{mean:,.0f}" + ("" if pd.isna(low) else f" ({low:,.0f} to {high:,.0f})")
                for mean, low, high in zip(
                    *(table[f"log_volume{end}"] for end in ("", "_lower", "_upper")), strict=True
                )
            ],
            "test accuracy": table["test_accuracy"].map("{:.3f}".format),
            "test loss": table["test_loss"].map("{:.3f}".format),
            "directions": table["directions"],
            "censored": table["censored"],
            "effective sample size": table["effective_sample_size"].map("{:.1f}".format),
            "verdict": [verdict(*counts) for counts in zip(table["estimates"], table["inside"], strict=True)],
        }
    )


def mass_column(table: pd.DataFrame) -> dict[str, list[str]]:
    """The Gaussian local volume with the 95 % interval of its mean over seeds, where it was measured."""
    if table["log_mass"].isna().all():
        return {}
    cells = zip(table["log_mass"], table["log_mass_lower"], table["log_mass_upper"], strict=True)
    return {
        "log mass": [
            "undefined" if pd.isna(mean) else f"{mean:.2f}" + ("" if pd.isna(low) else f" ({low:.2f} to {high:.2f})")
            for mean, low, high in cells
        ]
    }


def verdict(estimates: int, inside: int) -> str:
    """What the log-volumes of one level are, over its seeds.

    >>> verdict(0, 3), verdict(3, 3), verdict(1, 3), verdict(0, 0)
    ('lower bound', 'estimate', '1 estimate, 2 lower bounds', 'outside')
    """
    bounds = inside - estimates
    if not inside:
        return "outside"
    if not estimates or not bounds:
        return "estimate" if estimates else "lower bound"
    return f"{estimates} estimate{'s' * (estimates > 1)}, {bounds} lower bound{'s' * (bounds > 1)}"


def trust(table: pd.DataFrame) -> str:
    """A sentence about how far the log-volumes can be trusted."""
    inside, estimates = int(table["inside"].sum()), int(table["estimates"].sum())
    if not inside:
        return "no minimum is inside this landscape: choose a higher threshold or train longer"
    rests = f"{table['effective_sample_size'].mean():.1f} of {int(table['directions'].min())} directions (effective sample size)"
    if estimates == inside:
        return f"each log-volume is an estimate with an interval; on average one rests on {rests}"
    bounds = inside - estimates
    which = (
        "each log-volume is a lower bound" if not estimates else f"{bounds} of {inside} log-volumes are lower bounds"
    )
    return (
        f"{which}, set by the largest radius and growing with the number of directions; on average one rests on {rests}"
    )


def left_out(table: pd.DataFrame) -> str:
    """What was not perturbed, empty where all was."""
    return "; ".join(table["left_out"].dropna().unique())


def told_apart(analysis: Analysis) -> str:
    """How many of the compared pairs differ by more than their intervals, in the landscape of the table, a line for each volume."""
    lines = [
        _told_apart(analysis, column, name)
        for column, name in (("log_mass", "log masses"), ("log_volume", "log-volumes"))
    ]
    return "\n".join(line for line in lines if line)


def _told_apart(analysis: Analysis, quantity: str, name: str) -> str:
    pairs = analysis.collected.comparisons
    pairs = pairs[pairs["quantity"] == quantity]
    landscape, threshold = min(analysis.collected.table["landscape"]), analysis.collected.config.volume.headline
    pairs = pairs[(pairs["landscape"] == landscape) & (pairs["threshold"] == threshold) & pairs["difference"].notna()]
    if pairs.empty:
        return ""
    count = int(pairs["told_apart"].sum())
    return f"{count} of {len(pairs)} compared pairs of minima can be told apart by their {name}"
