"""analyze_experiments_data: the tables and figures of a condition, written to its analysis/ folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from minima_volume.analysis.tables import Collected, collect, select, summary
from minima_volume.files import write_text
from minima_volume.plots.masses import mass_against_data
from minima_volume.plots.seeds import accuracy_against_data, loss_against_volume, volume_against_data
from minima_volume.plots.style import save_figure


@dataclass(frozen=True)
class Analysis:
    """What was written.

    Attributes:
        collected: the tidy table behind everything.
        table: mean and spread over seeds in the smallest landscape at the headline threshold.
        figures: the figure files.
    """

    collected: Collected
    table: pd.DataFrame
    figures: list[Path]


def analyze(condition: str | Path) -> Analysis:
    """Write `all_minima.csv`, `comparisons.csv`, `summary.csv` and the multi-seed figures of a condition to its analysis/ folder.

    Args:
        condition: the condition folder.

    Raises:
        MissingStageError: no run has results.
    """
    folder = Path(condition) / "analysis"
    collected = collect(condition)
    rows = select(collected)
    table = summary(rows)
    write_text(folder / "all_minima.csv", collected.table.to_csv(index=False))
    write_text(folder / "comparisons.csv", collected.comparisons.to_csv(index=False))
    write_text(folder / "summary.csv", table.to_csv(index=False))
    draw: dict[str, Callable[[pd.DataFrame], Figure]] = {
        "log_volume_against_data": volume_against_data,
        "test_loss_against_log_volume": loss_against_volume,
        "test_accuracy_against_data": accuracy_against_data,
    }
    if rows["log_mass"].notna().any():
        draw = {"log_mass_against_data": mass_against_data} | draw
    figures = [save_figure(function(rows), folder / f"{name}.png") for name, function in draw.items()]
    return Analysis(collected, table, figures)
