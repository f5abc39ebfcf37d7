"""Which figures a condition has, in the order in which they are read, each with a caption and the data it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from minima_volume import plots
from minima_volume.analysis.aggregates import native_minima
from minima_volume.analysis.collect import Collected
from minima_volume.analysis.designs import unit
from minima_volume.analysis.quantities import AXIS_LABELS, MASS, MORE, kind_of
from minima_volume.analysis.statistics import FEWEST
from minima_volume.analysis.tables import Tables

SHOWN = ["run", "landscape", "threshold", "level", "train_size", "native"]
STAR_COLUMNS = ["log_volume", "log_volume_lower", "log_volume_upper", "effective_sample_size"]
MASS_COLUMNS = ["sigma", "log_mass", "log_mass_lower", "log_mass_upper"]

UNDEFINED = "accuracy is undefined for the loss on these targets"
WHEN_DRAWN = {  # every figure, and what it needs
    "log_mass_against_data": "Gaussian local volumes were not measured; set volume.gaussian.sigma (`minima-volume suggest-sigma`)",
    "log_volume_against_data": "there are no results",
    "differences": "it needs estimates of two minima or more in the landscape",
    "test_loss_against_log_volume": "there are no results",
    "test_accuracy_against_log_volume": UNDEFINED,
    "ranks_against_data": "it needs estimates of two minima or more in the landscape",
    "loss_ranks_against_volume_ranks": "it needs estimates of two minima or more in the landscape",
    "scaling_law": "it needs native minima of two landscapes or more",
    "minima_across_landscapes": "it needs two landscapes or more",
    "estimators": "it needs Gaussian local volumes and published numbers of the same minima",
    "test_accuracy_against_data": UNDEFINED,
    "conditions": "give compare_with, other conditions to set beside this one",
}


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        figure: of matplotlib.
        caption: what it shows, in a sentence.
        data: what is drawn, one row a point.
    """

    figure: Figure
    caption: str
    data: pd.DataFrame


def draw(results: Collected | Tables, conditions: Mapping[str, pd.DataFrame] | None = None) -> dict[str, Drawn]:
    """All figures over the seeds of a condition, in its smallest landscape at the headline threshold.

    Figures that the results have nothing for (a scaling law of one landscape, an estimator that was not run) are left out.

    Args:
        results: the condition.
        conditions: name -> selected rows of conditions to set side by side; drawn where there are two or more.
    """
    tables = Tables.of(results)
    rows, collected = tables.rows, tables.collected
    table, threshold = collected.table, collected.config.volume.headline
    found: dict[str, Drawn] = {}
    x, volumes = AXIS_LABELS[kind_of(rows)], MASS_COLUMNS * (MASS in tables.quantities) + STAR_COLUMNS

    def add(
        name: str, function: Callable[[pd.DataFrame], Figure], caption: str, columns: list[str], **ranks: pd.Series
    ) -> None:
        found[name] = Drawn(function(rows), caption, rows[SHOWN + columns].assign(**ranks))

    accurate = bool(rows["test_accuracy"].notna().any())
    ranks = {f"rank_by_{quantity.column}": tables.rank_of(quantity.column) for quantity in tables.quantities}

    more = MORE[kind_of(rows)]
    if MASS in tables.quantities:
        add(
            "log_mass_against_data",
            plots.mass_against_data,
            f"Volume of every minimum of one landscape against {x}: the Gaussian local volume with its intervals, and the "
            "published number; hollow, with an arrow: limits of what is no estimate.",
            columns=volumes,
        )
    add(
        "log_volume_against_data",
        plots.volume_against_data,
        f"The published number of every minimum of one landscape against {x}.",
        columns=STAR_COLUMNS,
    )
    if tables.ordered:
        found["differences"] = Drawn(
            plots.differences(rows),
            f"The reference minimum minus every other one, within {unit(rows)}s: above 0 the reference is the larger. Bars are the 95 % interval of "
            f"each difference alone (of two {unit(rows)}s their range); filled points are clear after Holm's procedure over all points of a panel.",
            pd.concat([tables.differences(q.column).assign(quantity=q.column) for q in tables.ordered]),
        )
    add(
        "test_loss_against_log_volume",
        plots.loss_against_volume,
        "Test loss against volume.",
        columns=[*volumes, "test_loss"],
    )
    if accurate:
        add(
            "test_accuracy_against_log_volume",
            plots.accuracy_against_volume,
            "Test accuracy against volume.",
            columns=[*volumes, "test_accuracy"],
        )
    if tables.ordered:
        add(
            "ranks_against_data",
            plots.ranks_against_data,
            f"Average rank by volume against {x}; the dotted line is the order in which more {more} always means a smaller volume.",
            columns=volumes,
            **ranks,
        )
        add(
            "loss_ranks_against_volume_ranks",
            plots.loss_ranks_against_volume_ranks,
            "Average rank by test loss against average rank by volume.",
            columns=[*volumes, "test_loss"],
            **ranks,
            rank_by_test_loss=tables.rank_of("test_loss"),
        )
    native = native_minima(table, threshold)
    if native["landscape"].nunique() > 1:
        found["scaling_law"] = Drawn(
            plots.scaling(table, threshold),
            f"Volume of native minima against {x}"
            + (
                ", with the line log V = a log N + b if three seeds or more have one."
                if kind_of(rows) == "level"
                else "."
            ),
            native[SHOWN + volumes],
        )
        found["minima_across_landscapes"] = Drawn(
            plots.minima_across_landscapes(table, collected.cutoffs, threshold),
            "Every minimum in the landscapes it is in, and where it leaves.",
            table.loc[table["threshold"] == threshold, SHOWN + volumes],
        )
    if MASS in tables.quantities and rows[["log_mass", "log_volume"]].notna().all(axis=1).any():
        add(
            "estimators",
            plots.estimators,
            "The two ways to measure a volume against each other, minimum by minimum; hollow, with an arrow: lower limits of what is no estimate.",
            columns=volumes,
        )
    if accurate:
        add(
            "test_accuracy_against_data",
            plots.accuracy_against_data,
            f"Test accuracy against {x}.",
            columns=["test_accuracy"],
        )
    if conditions and len(conditions) > 1:
        joined = pd.concat([part.assign(condition=name) for name, part in conditions.items()])
        found["conditions"] = Drawn(
            plots.conditions_against_data(conditions),
            f"Conditions side by side: {', '.join(conditions)}.",
            joined[["condition", *SHOWN, *MASS_COLUMNS, *STAR_COLUMNS, "test_loss"]],
        )
    # what all minima of a seed share cancels in the differences: with intervals over seeds they say more than the means
    first = ["differences"] if "differences" in found and rows["run"].nunique() >= FEWEST else []
    return {name: found[name] for name in (*first, *(name for name in found if name not in first))}
