"""The two volumes that tables and figures show, the trustworthy one first, and what they are drawn against."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from minima_volume.volume.claims import is_estimate
from minima_volume.volume.gaussian.mass import NORMAL


@dataclass(frozen=True)
class Quantity:
    """A column of the tidy table.

    Attributes:
        column: its name; limits are in `<column>_lower` and `<column>_upper`.
        name: what figures and sentences call it.
        label: of an axis, with its unit.
        noun: the number itself, in a sentence.
    """

    column: str
    name: str
    label: str
    noun: str


MASS = Quantity("log_mass", "Gaussian local volume", "log mass (nats)", "log mass")
STAR = Quantity("log_volume", "published number", "log volume of the star region (nats)", "log volume")
QUANTITIES = (MASS, STAR)


def possible(column: str) -> tuple[float, float]:
    """The smallest and the largest value that a column can have; a mass is a probability, its logarithm at most 0."""
    bounds = {"log_mass": (-math.inf, 0.0), "test_accuracy": (0.0, 1.0), "test_loss": (0.0, math.inf)}
    return bounds.get(column, (-math.inf, math.inf))


def measured(rows: pd.DataFrame) -> list[Quantity]:
    """The quantities of which a table has values or limits, the Gaussian local volume first; the published number always."""
    columns = {q: [q.column, f"{q.column}_lower", f"{q.column}_upper"] for q in QUANTITIES}
    return [q for q in QUANTITIES if q is STAR or rows[columns[q]].notna().any(axis=None)]


LIMITED = {"log_mass": "log_mass", "log_volume": "log_volume", "log_exp_r_n": "log_volume"}  # whose limits a column has


def estimated(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column as floats, NaN where the number is no estimate: what is put in order, fitted or averaged.

    The rule is that of `volume.claims`: an estimate has a lower and an upper limit. Columns without limits (test losses, ranks) are whole.
    """
    values = rows[column].astype(float)
    name = LIMITED.get(column)
    if name is None:
        return values
    limits = zip(values, rows[f"{name}_lower"], rows[f"{name}_upper"], strict=True)
    return values.where(np.array([is_estimate(value, (low, high)) for value, low, high in limits], dtype=bool))


def measured_variance(rows: pd.DataFrame, column: str, together: bool = False) -> pd.Series:
    """The variance of each number's own measurement, squared units of the column: (half of its 95 % interval / 1.96)^2.

    Args:
        rows, column: of the tidy table.
        together: whether numbers of one run are subtracted from each other or put on a line. Star regions of one run share their directions,
            and what a direction does to all of them cancels: their errors say nothing about a difference.

    Returns:
        NaN where it is not known: in columns without limits, where a limit is missing, and of star regions `together`.
    """
    name = LIMITED.get(column)
    if name is None or (together and column != MASS.column):
        return pd.Series(math.nan, index=rows.index)
    width = rows[f"{name}_upper"].astype(float) - rows[f"{name}_lower"].astype(float)
    return (width / (2 * NORMAL)) ** 2


def bounded(rows: pd.DataFrame, column: str) -> pd.Series:
    """Where a volume is known from one side only: no estimate, but not undefined."""
    name = LIMITED.get(column)
    if name is None:
        return pd.Series(False, index=rows.index)
    return rows[[f"{name}_lower", f"{name}_upper"]].notna().any(axis=1) & estimated(rows, column).isna()


def with_estimates(rows: pd.DataFrame) -> list[Quantity]:
    """The measured quantities of which two minima or more have estimates, so that something can be said about their order."""
    return [q for q in measured(rows) if rows.loc[estimated(rows, q.column).notna(), "level"].nunique() > 1]


def left_out(rows: pd.DataFrame, quantity: Quantity) -> str:
    """A note on the values that are not estimates; empty if all are."""
    count, total = int(bounded(rows, quantity.column).sum()), int(estimated(rows, quantity.column).count())
    if not count:
        return ""
    which = f"{count} of {total + count} values have a limit on one side only and are left out"
    return f"{which if total else 'none of the values is an estimate'}: they are not averaged, fitted or ranked"


def x_of(rows: pd.DataFrame) -> pd.Series:
    """What tells the minima of a table apart, to be drawn on an axis.

    Training samples; the number of poisoned or random samples among them; the epoch or the batch size in a series on one data set.
    """
    return rows["train_size"] if kind_of(rows) == "level" else rows["level"]


def kind_of(rows: pd.DataFrame) -> str:
    """level, poison, noise, epoch or batch_size."""
    variation, variant = str(rows["variation"].iloc[0]), str(rows["variant"].iloc[0])
    return variant if variation == "level" and variant != "data" else variation


AXIS_LABELS = {
    "level": "training samples",
    "poison": "wrongly labelled training samples",
    "noise": "random training samples",
    "epoch": "epoch",
    "batch_size": "batch size",
}


def axis_point(kind: str, x: float) -> str:
    """One point of the axis of a `kind_of` minima, in a sentence.

    >>> axis_point("level", 1200), axis_point("batch_size", 20)
    ('1,200 training samples', 'batch size 20')
    """
    label = AXIS_LABELS[kind]
    return f"{label} {x:,.0f}" if kind in ("epoch", "batch_size") else f"{x:,.0f} {label}"


MORE = {  # of what there is more from left to right, in a sentence
    "level": "data",
    "poison": "wrongly labelled samples",
    "noise": "random samples",
    "epoch": "epochs",
    "batch_size": "samples in a batch",
}
