"""Rows of the study's tables, in its own columns first; rows of several runs merge by typed keys."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minima_volume.config.noise import HEADLINE
from minima_volume.errors import DamagedFileError
from minima_volume.robustness.architectures import BUILDERS
from minima_volume.robustness.curve import curve_of
from minima_volume.robustness.evaluate import Sweep
from minima_volume.robustness.study import REGIMES, Network, Study

SUMMARY_KEY: dict[str, type] = {"architecture": str, "regime": str, "seed": int}
SWEEP_KEY: dict[str, type] = {**SUMMARY_KEY, "alpha_test": float}
SUMMARY = (*SUMMARY_KEY, "acc_0", "acc_01", "drop_at_01")  # as published; the columns after them are ours
SWEEP = (*SWEEP_KEY, "acc", "loss")

Row = dict[str, Any]


def summary_row(study: Study, network: Network, sweep: Sweep) -> Row:
    """One network in a line."""
    at_0, at_01 = (float(sweep.at(alpha).mean()) for alpha in (0.0, HEADLINE))
    row = {**vars(network), "acc_0": at_0, "acc_01": at_01, "drop_at_01": at_0 - at_01, **_ours(study, network, sweep)}
    columns: Row = {"acc_0_recalibrated": None, "acc_01_recalibrated": None, "drop_at_01_recalibrated": None}
    if sweep.recalibrated is not None:
        first, last = (float(sweep.at(alpha, recalibrated=True).mean()) for alpha in (0.0, HEADLINE))
        columns = dict(zip(columns, (first, last, first - last), strict=True))
    curve = curve_of(sweep, study.config.noise.accuracy)
    numbers = {"accuracy_asked": study.config.noise.accuracy, "alpha_50": curve.alpha_50, "area": curve.area}
    return {**row, **columns, **numbers, "alpha_lost_1_percent": curve.alpha_lost, "largest_alpha": curve.largest}


def sweep_rows(study: Study, network: Network, sweep: Sweep) -> list[Row]:
    """One network under one alpha in a line: means over draws."""
    rows = []
    for a, alpha in enumerate(sweep.alphas.tolist()):
        accuracies = sweep.correct[a].mean(1)
        row = {
            **vars(network),
            "alpha_test": alpha,
            "acc": float(accuracies.mean()),
            "loss": _mean_loss(sweep.loss[a]),
        }
        row |= _ours(study, network, sweep)
        row |= {
            "acc_std": float(accuracies.std(ddof=1)),
            "acc_min": float(accuracies.min()),
            "acc_max": float(accuracies.max()),
        }
        row |= {"acc_recalibrated": None, "loss_recalibrated": None}
        if sweep.recalibrated is not None and sweep.recalibrated_loss is not None:
            row["acc_recalibrated"] = float(sweep.recalibrated[a].mean())
            row["loss_recalibrated"] = _mean_loss(sweep.recalibrated_loss[a])
        rows.append(row)
    return rows


def _mean_loss(losses: np.ndarray) -> float | None:
    """Over draws; None if the noise is so large that outputs leave the range of their type."""
    mean = float(losses.mean())
    return mean if np.isfinite(mean) else None


def _ours(study: Study, network: Network, sweep: Sweep) -> Row:
    return {
        "dataset": study.config.data.source,
        "alpha_train": study.alpha_train(network),
        "draws": len(sweep.seeds),
        "test_images": sweep.correct.shape[2],
        "recalibrated": sweep.recalibrated is not None,
    }


def merged(old: Sequence[Mapping[str, Any]], new: Sequence[Row], key: Mapping[str, type], where: str) -> list[Row]:
    """Old rows of other networks and the new rows, in the order of architecture, regime, seed and alpha.

    A network's new rows replace all of its old ones. Keys are typed, so that a seed read as text is the same seed.

    Args:
        old: rows of an earlier run.
        new: rows of this one.
        key: column -> type.
        where: what an error message calls the old rows.

    Raises:
        DamagedFileError: an old row lacks a key, or holds something else in it.

    >>> merged([{"architecture": "mlp", "regime": "clean", "seed": "0"}], [dict(architecture="mlp", regime="clean", seed=0)], SUMMARY_KEY, "")
    [{'architecture': 'mlp', 'regime': 'clean', 'seed': 0}]
    """
    rows: dict[tuple[Any, ...], Row] = {}
    replaced = {_typed(row, SUMMARY_KEY, "the new rows") for row in new}
    for row in old:
        if _typed(row, SUMMARY_KEY, where) not in replaced:
            values = _typed(row, key, where)
            rows[values] = {**row, **dict(zip(key, values, strict=True))}
    for row in new:
        rows[_typed(row, key, "the new rows")] = row
    return [rows[values] for values in sorted(rows, key=_place)]


def _typed(row: Mapping[str, Any], key: Mapping[str, type], where: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(row[column]) for column, kind in key.items())
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{where}: a row has no usable {', '.join(key)}: {dict(row)}") from error


def _place(values: tuple[Any, ...]) -> tuple[Any, ...]:
    architecture, regime, *rest = values
    return (
        *architecture_place(architecture),
        REGIMES.index(regime) if regime in REGIMES else len(REGIMES),
        regime,
        *rest,
    )


def architecture_place(name: str) -> tuple[int, str]:
    """Where an architecture stands in a table."""
    known = list(BUILDERS)
    return known.index(name) if name in known else len(known), name


def csv_text(rows: Sequence[Row]) -> str:
    """A table; what is undefined is an empty cell."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: "" if value is None else value for column, value in row.items()} for row in rows)
    return buffer.getvalue()
