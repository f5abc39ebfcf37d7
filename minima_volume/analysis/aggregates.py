"""Tables over seeds: means and medians, ranks, orders, paired differences, the scaling law, one minimum across landscapes.

Intervals ask which runs are independent: those that share a model seed or a data seed are not, see `designs`.
Only estimates go into them, see `quantities.estimated`; how many numbers were left out is in a column of its own.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import scipy

from minima_volume.analysis.designs import seeds_in
from minima_volume.analysis.quantities import bounded, estimated, kind_of, measured_variance, possible, x_of
from minima_volume.analysis.statistics import Line, fit_line, mean_interval, quartiles
from minima_volume.stages.results.star_keys import disagreement_keys
from minima_volume.volume.claims import clear, holm


def aggregate(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column over seeds, a row for each minimum.

    Args:
        rows: one landscape at one threshold, from `analysis.select`.
        column: of the tidy table.

    Returns:
        Columns `x` (what figures draw on the axis), `level`, `seeds` (runs with an estimate), `left_out` (runs whose number is bounded from
        one side only), `runs`, `mean`, `lower` and `upper` (95 % interval of the mean, within possible values, see
        `statistics.mean_interval`; NaN below two runs, and where values without known errors are all equal), `sd`,
        `median`, `lower_quartile`, `upper_quartile`; one row an x, ascending as numbers.
    """
    found = []
    placed = rows.assign(x=x_of(rows), value=estimated(rows, column), bounded=bounded(rows, column))
    placed = placed.assign(measured=measured_variance(rows, column))
    for (x, level), part in placed.groupby(["x", "level"], sort=True):
        values = part["value"].to_numpy(dtype=float)
        mean = mean_interval(
            values, possible(column), seeds=list(seeds_in(part).values()), measured=part["measured"].to_numpy()
        )
        low, middle, high = quartiles(values)
        found.append(
            {
                "x": x,
                "level": level,
                "seeds": mean.count,
                "left_out": int(part["bounded"].sum()),
                "runs": part["run"].nunique(),
                "mean": mean.value,
                "lower": mean.lower,
                "upper": mean.upper,
                "sd": float(np.nanstd(values, ddof=1)) if mean.count > 1 else math.nan,
                "median": middle,
                "lower_quartile": low,
                "upper_quartile": high,
            }
        )
    return pd.DataFrame(found)


def add_ranks(rows: pd.DataFrame, column: str, descending: bool = True) -> pd.Series:
    """The rank of each estimate among those of its run: 1 = largest (or smallest), ties share the average; NaN for what is no estimate."""
    return estimated(rows, column).groupby(rows["run"]).rank(method="average", ascending=not descending)


def rank_table(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`aggregate` of ranks within each run: 1 = largest."""
    return aggregate(rows.assign(rank=add_ranks(rows, column)), "rank")


def order_table(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """How a volume orders the minima of each run, a row a seed.

    Returns:
        Columns `run`; `minima` with an estimate; `left_out`: those with a number that is none; `spearman_data`: Spearman's rho of volume and x (-1: more data, smaller volume,
        without exception); `wrong_pairs` of `pairs`: pairs in which the minimum of more data has the larger volume; `exact`: no such pair;
        `native_is_largest`; `spearman_loss`: rho of volume and test loss; `violations` and `discordant_pairs`: how often the order by
        volume disagrees with the order by test loss, as results.json defines it. Undefined values are NaN, None or pd.NA.
    """
    numbers = rows.assign(x=x_of(rows), volume=estimated(rows, column), bounded=bounded(rows, column))
    numbers = numbers.sort_values("x", kind="stable")
    x, volume, loss = (
        numbers[name].to_numpy(dtype=float) for name in ("x", "volume", "test_loss")
    )  # 100 runs as fast as one
    is_native, is_bounded = (numbers[name].to_numpy(dtype=bool) for name in ("native", "bounded"))
    found = []
    places = numbers.groupby("run", sort=False).indices
    for run in rows["run"].unique():
        at = places[run]
        volumes = [None if math.isnan(v) else v for v in volume[at].tolist()]
        known = [v for v in volumes if v is not None]
        disagreement = disagreement_keys("loss", volumes, [None if math.isnan(v) else v for v in loss[at].tolist()])
        native = volume[at][is_native[at]]
        is_largest = None
        if len(native) == 1 and len(known) > 1 and not math.isnan(native[0]):
            is_largest = bool(native[0] == max(known))
        found.append(
            {
                "run": run,
                "minima": len(known),
                "left_out": int(is_bounded[at].sum()),
                "spearman_data": _spearman(volume[at], x[at]),
                "wrong_pairs": sum(a < b for a, b in combinations(known, 2)),
                "pairs": math.comb(len(known), 2),
                "exact": all(a > b for a, b in combinations(known, 2)) if len(known) > 1 else None,
                "native_is_largest": is_largest,
                "spearman_loss": _spearman(volume[at], loss[at]),
                "violations": disagreement["loss_ordering_violations"],
                "discordant_pairs": disagreement["loss_discordant_pairs"],
            }
        )
    return pd.DataFrame(found).astype(dict.fromkeys(("violations", "discordant_pairs"), "Int64"))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rho over the pairs that are known; NaN where it is undefined (as `ordering.spearman`, but fast)."""
    known = np.isfinite(first) & np.isfinite(second)
    ranks = [scipy.stats.rankdata(values[known]) for values in (first, second)]
    if any(len(values) < 2 or values.min() == values.max() for values in ranks):
        return math.nan
    centred = [values - values.mean() for values in ranks]
    return float(centred[0] @ centred[1] / math.sqrt((centred[0] @ centred[0]) * (centred[1] @ centred[1])))


def paired_differences(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The reference minimum minus every other one, seed by seed: what all minima of a seed share cancels.

    The reference is the native minimum of the landscape; in a series the one of the smallest x. The comparisons of a table are one family:
    `clear` is by Holm's procedure, while `lower` and `upper` are each difference's own.

    Returns:
        Columns `x`, `level`, `seeds` (runs with both estimates), `mean`, `lower`, `upper` (95 % interval, see `statistics.mean_interval`),
        `larger` (runs in which the reference is the larger one), `reference`, its x; `p_value` (paired t test; of crossed seeds that of
        Howe's interval; NaN where differences without known errors are all equal), `p_adjusted` (Holm, over the rows with a p-value),
        and `clear`: 1 where the reference is the larger one, -1 where it is the smaller, 0 where neither is clear; empty with a single
        minimum.
    """
    placed = rows.assign(
        x=x_of(rows), value=estimated(rows, column), measured=measured_variance(rows, column, together=True)
    )
    native = placed[placed["native"]]
    reference = (native if len(native) else placed)["x"].min()
    base = placed[placed["x"] == reference].set_index("run")
    found = []
    for (x, level), part in placed[placed["x"] != reference].groupby(["x", "level"], sort=True):
        difference = part["run"].map(base["value"]).to_numpy(dtype=float) - part["value"].to_numpy(dtype=float)
        measured = part["run"].map(base["measured"]).to_numpy(dtype=float) + part["measured"].to_numpy(dtype=float)
        mean = mean_interval(difference, seeds=list(seeds_in(part).values()), measured=measured)
        found.append(
            {
                "x": x,
                "level": level,
                "reference": reference,
                "seeds": mean.count,
                "mean": mean.value,
                "lower": mean.lower,
                "upper": mean.upper,
                "larger": int((difference > 0).sum()),
                "p_value": mean.p_value,
            }
        )
    columns = ("x", "level", "reference", "seeds", "mean", "lower", "upper", "larger", "p_value")
    table = pd.DataFrame(found, columns=list(columns))
    adjusted = holm(table["p_value"].to_numpy(dtype=float))
    signs = np.sign(table["mean"].to_numpy(dtype=float)) * clear(adjusted)
    return table.assign(p_adjusted=adjusted, clear=np.nan_to_num(signs).astype(int))


def native_minima(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The minima of a tidy table that are native to their landscape, at one threshold."""
    return table[table["native"] & (table["threshold"] == threshold)]


def scaling_law(table: pd.DataFrame, threshold: float, column: str) -> Line | None:
    """log V = a log N + b over the native minima of all landscapes and seeds; N is the number of training samples.

    Args:
        table: the tidy table, all landscapes.
        threshold: of the loss.
        column: `log_mass` or `log_volume`.

    Returns:
        The line (slope a, intercept b, natural logarithms), or None with fewer than three seeds (of each kind, where runs share
        them) that have estimates in three landscapes each, or where what was added is wrong labels or noise, not data.
    """
    native = native_minima(table, threshold)
    if native.empty or kind_of(native) != "level":
        return None
    size = np.log(native["train_size"].to_numpy(dtype=float))
    measured = measured_variance(native, column, together=True).to_numpy()
    values = estimated(native, column).to_numpy(dtype=float)
    return fit_line(size, values, native["run"].tolist(), seeds=seeds_in(native), measured=measured)


def across_landscapes(table: pd.DataFrame, threshold: float, level: int | None = None) -> pd.DataFrame:
    """One minimum in all landscapes it is in, for every seed.

    Args:
        table: the tidy table.
        threshold: of the loss.
        level: which minimum; the one trained on the most data by default, which is measured in every landscape.

    Returns:
        The rows of the table with `landscape_size` beside, ascending.
    """
    level = int(table["level"].max()) if level is None else level
    rows = table[(table["level"] == level) & (table["threshold"] == threshold)]
    size = rows["train_size"] - rows["level"] + rows["landscape"]
    return rows.assign(landscape_size=size).sort_values(["run", "landscape"])
