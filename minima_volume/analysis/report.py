"""An analysis in words and a table, for a terminal."""

from __future__ import annotations

import pandas as pd

from minima_volume.analysis.analyze import Analysis


def describe(analysis: Analysis) -> str:
    """The table that `make run` ends with, what is missing, how far to trust it, and where the figures are."""
    collected, table = analysis.collected, analysis.table
    landscape, threshold = min(collected.table["landscape"]), collected.config.volume.headline
    lines = [
        f"landscape +{landscape} ({collected.config.data.base_size + landscape} samples), loss threshold {threshold:g}; means over seeds",
        format_table(table),
        trust(table),
        *(f"not analyzed: {run}: {reason}" for run, reason in analysis.collected.missing.items()),
        *(f"figure: {path}" for path in analysis.figures),
    ]
    return "\n".join(line for line in lines if line)


def format_table(table: pd.DataFrame) -> str:
    """Level, log-volume, test accuracy, directions and effective sample size, as text."""
    shown = pd.DataFrame(
        {
            "level": table["level"],
            "seeds": table["seeds"],
            "log-volume": [
                "outside" if pd.isna(mean) else f"{mean:.0f}" if pd.isna(sd) else f"{mean:.0f} ± {sd:.0f}"
                for mean, sd in zip(table["log_volume"], table["log_volume_sd"], strict=True)
            ],
            "test accuracy": table["test_accuracy"].map("{:.3f}".format),
            "test loss": table["test_loss"].map("{:.3f}".format),
            "directions": table["directions"],
            "censored": table["censored"],
            "effective sample size": table["effective_sample_size"].map("{:.1f}".format),
        }
    )
    return shown.to_string(index=False)


def trust(table: pd.DataFrame) -> str:
    """A sentence about the effective sample size."""
    effective = table["effective_sample_size"].mean()
    if pd.isna(effective):
        return "no minimum is inside this landscape: choose a higher threshold or train longer"
    if effective < 10:
        return (
            f"each log-volume rests on {effective:.1f} of {int(table['directions'].min())} directions (effective sample size): it is a lower "
            "bound set by the largest radius, and grows with the number of directions"
        )
    return f"each log-volume rests on {effective:.0f} of {int(table['directions'].min())} directions (effective sample size)"
