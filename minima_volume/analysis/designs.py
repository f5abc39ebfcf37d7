"""Which seeds the runs of a condition share, and so which of their values are independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

SEEDS = {"model_seed": "model seed", "data_seed": "data seed"}  # columns of the tidy table, and what they are called


def independent(seeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sources of chance by which a mean over runs is judged.

    Each kind of seed divides the runs into those that share one. A kind of which all runs have the same seed is left out: everything is said
    for that seed. So is one that only divides further what another kind divides already, such as data seeds of which each has one model seed:
    the coarser kind tells how many independent runs there are.

    Args:
        seeds: (N,) labels for each kind, of the N runs.

    Returns:
        (N,) numbers from 0 for each that is kept: one for pairs 0:10, 1:11, 2:12, and for many model seeds with one data seed; two where
        every model seed has every data seed; none if all runs share all seeds.

    >>> model, data = np.array([0, 0, 1, 1]), np.array([10, 11, 10, 11])
    >>> [kept.tolist() for kept in independent([model, data])]
    [[0, 0, 1, 1], [0, 1, 0, 1]]
    >>> [kept.tolist() for kept in independent([np.arange(4), data])]
    [[0, 1, 0, 1]]
    """
    numbered = [np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1) for labels in seeds]
    divided = [labels for labels in numbered if labels.max(initial=0) > 0]
    return [
        labels
        for i, labels in enumerate(divided)
        if not any(
            _refines(labels, other) and (j < i or not _refines(other, labels))
            for j, other in enumerate(divided)
            if j != i
        )
    ]


def _refines(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether runs that share a label of the first share one of the second, too."""
    return len(set(zip(fine.tolist(), coarse.tolist(), strict=True))) == len(set(fine.tolist()))


def seeds_in(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """What the runs of a tidy table were made with: column -> (rows,) seeds."""
    return {name: rows[name].to_numpy() for name in SEEDS if name in rows}


def described(seeds: Mapping[str, np.ndarray], count: int) -> str:
    """How many runs there are, and what is independent in them.

    Args:
        seeds: column -> (N,) seeds of the N runs, as of `seeds_in`.
        count: N.

    >>> described({"model_seed": np.array([0, 1, 2]), "data_seed": np.array([10, 11, 12])}, 3)
    '3 seeds'
    >>> described({"model_seed": np.array([0, 0, 1, 1]), "data_seed": np.array([10, 11, 10, 11])}, 4)
    '4 runs (2 model seeds x 2 data seeds)'
    >>> described({"model_seed": np.array([0, 0, 1]), "data_seed": np.array([10, 11, 10])}, 3)
    '3 runs (2 model seeds and 2 data seeds)'
    """
    if _one_by_one(list(seeds.values()), count):
        return _counted(count, "seed")
    sizes = [len(np.unique(labels)) for labels in seeds.values()]
    full = int(np.prod(sizes)) == count
    parts = [_counted(size, SEEDS[name]) for name, size in zip(seeds, sizes, strict=True)]
    return f"{_counted(count, 'run')} ({(' x ' if full else ' and ').join(parts)})"


def runs_text(rows: pd.DataFrame) -> str:
    """`described` of the runs of a tidy table."""
    runs = rows.drop_duplicates("run")
    return described(seeds_in(runs), len(runs))


def unit(rows: pd.DataFrame) -> str:
    """What there is one value of: a seed, or a run where runs share their seeds with others."""
    runs = rows.drop_duplicates("run")
    return "seed" if _one_by_one(list(seeds_in(runs).values()), len(runs)) else "run"


def fewest_seeds(rows: pd.DataFrame) -> int:
    """The smallest number of independent values over which a mean over these runs is judged."""
    runs = rows.drop_duplicates("run")
    return min((int(labels.max()) + 1 for labels in independent(list(seeds_in(runs).values()))), default=len(runs))


def _one_by_one(seeds: Sequence[np.ndarray], count: int) -> bool:
    """Whether every run is independent of every other."""
    kept = independent(seeds)
    return not kept or (len(kept) == 1 and int(kept[0].max()) + 1 == count)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
