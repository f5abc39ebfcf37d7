"""The tables over seeds of one landscape at one threshold, each computed once and handed to words, figures and page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from minima_volume.analysis.aggregates import (
    add_ranks,
    aggregate,
    order_table,
    paired_differences,
    rank_table,
    scaling_law,
)
from minima_volume.analysis.collect import Collected, compared, select, summary
from minima_volume.analysis.quantities import Quantity, measured, with_estimates
from minima_volume.analysis.statistics import Line


@dataclass(frozen=True)
class Tables:
    """What is computed from a condition's results.

    Attributes:
        collected: the condition.
        rows: of the landscape and threshold that are shown.
    """

    collected: Collected
    rows: pd.DataFrame
    _kept: dict[tuple[str, str], pd.DataFrame] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, collected: Collected | Tables, landscape: int | None = None, threshold: float | None = None) -> Tables:
        """The tables of the smallest landscape at the headline threshold by default, see `select`."""
        return collected if isinstance(collected, Tables) else cls(collected, select(collected, landscape, threshold))

    @property
    def threshold(self) -> float:
        return float(self.rows["threshold"].iloc[0])

    @property
    def quantities(self) -> list[Quantity]:
        """Those with values or limits."""
        return measured(self.rows)

    @property
    def ordered(self) -> list[Quantity]:
        """Those of which two minima or more have estimates."""
        return with_estimates(self.rows)

    @property
    def summary(self) -> pd.DataFrame:
        return self._once("summary", "", lambda rows, _: summary(rows))

    def aggregate(self, column: str) -> pd.DataFrame:
        return self._once("aggregate", column, aggregate)

    def ranks(self, column: str) -> pd.DataFrame:
        return self._once("ranks", column, rank_table)

    def orders(self, column: str) -> pd.DataFrame:
        return self._once("orders", column, order_table)

    def differences(self, column: str) -> pd.DataFrame:
        return self._once("differences", column, paired_differences)

    def pairs(self, column: str) -> pd.DataFrame:
        """The compared pairs of minima within each seed."""
        return self._once("pairs", column, lambda rows, name: compared(self.collected, rows, name))

    def rank_of(self, column: str) -> pd.Series:
        """The rank of each row's estimate within its run."""
        return add_ranks(self.rows, column)

    def law(self, column: str) -> Line | None:
        """The scaling law of native minima, over all landscapes."""
        return scaling_law(self.collected.table, self.threshold, column)

    def _once(self, name: str, column: str, compute: Callable[[pd.DataFrame, str], pd.DataFrame]) -> pd.DataFrame:
        if (name, column) not in self._kept:
            self._kept[name, column] = compute(self.rows, column)
        return self._kept[name, column]
