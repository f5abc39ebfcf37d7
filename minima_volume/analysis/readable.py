"""Tables to read: words for column names, numbers with a few digits, a dash for what is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

NOTHING = "–"
WORDS = {  # column -> what people read
    "log_mass": "Gaussian local volume (log mass)",
    "log_volume": "published number (log volume)",
    "log_exp_r_n": "log mean r^n",
    "train_size": "training samples",
    "p_adjusted": "p, Holm",
    "spearman_data": "rho, volume and data",
    "spearman_loss": "rho, volume and test loss",
}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people: every value as text, see `cell`; columns and index in words.

    >>> readable(pd.DataFrame({"train_size": [1012.0, None], "told_apart": [True, False]}))
      training samples told apart
    0            1,012        yes
    1                –         no
    """
    shown = pd.DataFrame(
        {column: [cell(value) for value in table[column]] for column in table}, index=table.index, columns=table.columns
    )
    return shown.rename(columns=heading).rename_axis(
        index=None if table.index.name is None else heading(table.index.name)
    )


def heading(name: Any) -> str:
    """A column's name in words.

    >>> heading("log_mass_lower"), heading("test_loss"), heading("log_volume")
    ('log mass lower', 'test loss', 'published number (log volume)')
    """
    return WORDS.get(str(name), str(name).replace("_", " "))


def cell(value: Any) -> str:
    """A value to read: whole numbers with separators, others with four digits, a dash for nothing.

    >>> [cell(value) for value in (1012.0, 0.123456, -11855.4, float("nan"), None, True, "text")]
    ['1,012', '0.1235', '-11,855', '–', '–', 'yes', 'text']
    """
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if str(value) in ("True", "False"):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return str(value)
    number = float(value)
    if number == int(number) if math.isfinite(number) else False:
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
