"""analyze_experiments_data: the tables and figures of a condition, written to its analysis/ folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from minima_volume.analysis.collect import Collected, collect, select
from minima_volume.analysis.tables import Tables
from minima_volume.analysis.words import paragraph
from minima_volume.arguments import as_path
from minima_volume.errors import ConfigError
from minima_volume.files.atomic import write_text
from minima_volume.reports.gallery import WHEN_DRAWN, Drawn, draw

FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Analysis:
    """What was written.

    Attributes:
        condition: the condition folder.
        tables: of the smallest landscape at the headline threshold.
        words: the results in a paragraph.
        drawn: the figures, by name, in the order in which they are read.
        figures: the figure files.
    """

    condition: Path
    tables: Tables
    words: str
    drawn: Mapping[str, Drawn] = field(repr=False)
    figures: list[Path]

    @property
    def collected(self) -> Collected:
        """The tidy table behind everything."""
        return self.tables.collected

    @property
    def table(self) -> pd.DataFrame:
        """Mean and spread over seeds in the smallest landscape at the headline threshold."""
        return self.tables.summary

    def figure(self, name: str) -> Figure | str:
        """One of the figures, or a sentence where these results have nothing to draw it from.

        Raises:
            ConfigError: no analysis has such a figure.
        """
        if name not in WHEN_DRAWN:
            raise ConfigError(f"figure {name!r} is not known; allowed: {', '.join(WHEN_DRAWN)}")
        return self.drawn[name].figure if name in self.drawn else f"not drawn: {WHEN_DRAWN[name]}"


def analyze(
    condition: str | Path,
    *,
    compare_with: Mapping[str, str | Path] | None = None,
    formats: Sequence[str] = ("png", "svg"),
    interval: str = "t",
) -> Analysis:
    """Write the tables, the summary in words and the multi-seed figures of a condition to its analysis/ folder.

    Tables: `all_minima.csv`, `comparisons.csv`, `summary.csv`, `aggregates.csv` (mean with 95 % interval, median and quartiles, ranks),
    `orders.csv` (a row a seed); words: `summary.txt`. Every figure `<name>` has the data it shows in `<name>.csv`.

    Args:
        condition: the condition folder.
        compare_with: further conditions to set beside this one: name -> folder (SAM and its baseline, for example).
        formats: of the figures: png, svg, pdf.
        interval: of means over seeds: `t`, Student's; a bootstrap over so few is refused.

    Raises:
        MissingStageError: no run has results.
        ConfigError: no such format or interval.
    """
    if interval != "t":
        raise ConfigError(
            f"interval {interval!r} is not allowed: means over seeds have Student's t interval, 't'; a bootstrap over 3 to 10 seeds misses "
            "the mean in 25 to 10 % of the cases instead of 5 %. Leave interval out"
        )
    if isinstance(formats, str) or not formats or set(formats) - set(FORMATS):
        raise ConfigError(
            f"formats {formats!r} is not allowed: it must be a list of one or more of {', '.join(FORMATS)}"
        )
    if compare_with is not None and not isinstance(compare_with, Mapping):
        raise ConfigError(
            f"compare_with {compare_with!r} is not allowed: it must name folders, such as {{'SAM': 'experiments/sam/MNIST'}}"
        )
    condition = as_path(condition, "condition folder")
    folder = condition / "analysis"
    collected = collect(condition)
    others = {name: select(collect(path)) for name, path in (compare_with or {}).items()}
    tables = Tables.of(collected)
    words = paragraph(tables)
    quantities = [quantity.column for quantity in tables.quantities]
    written = {
        "all_minima": collected.table,
        "comparisons": collected.comparisons,
        "cutoffs": collected.cutoffs,
        "summary": tables.summary,
        "aggregates": pd.concat(
            [tables.aggregate(c).assign(quantity=c) for c in (*quantities, "test_loss", "test_accuracy")]
            + [tables.ranks(c).assign(quantity=f"rank by {c}") for c in quantities]
        ),
        "orders": pd.concat([tables.orders(c).assign(quantity=c) for c in quantities]),
    }
    for name, content in written.items():
        write_text(folder / f"{name}.csv", content.to_csv(index=False))
    write_text(folder / "summary.txt", words + "\n")
    drawn = draw(tables, {collected.config.experiment.name: tables.rows} | others)
    return Analysis(condition, tables, words, drawn, _save(drawn, folder, formats))


def _save(drawn: Mapping[str, Drawn], folder: Path, formats: Sequence[str]) -> list[Path]:
    from minima_volume.plots.style import save_figure

    files = []
    for name, one in drawn.items():
        for ending in formats:
            files.append(save_figure(one.figure, folder / f"{name}.{ending}"))
        write_text(folder / f"{name}.csv", one.data.to_csv(index=False))
    return files
