"""The Gaussian local volumes of one landscape and their comparisons as tables to read, made from one results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from minima_volume.analysis.run_tables import INDEX_NAMES, interval_text

NOT_MEASURED = (
    "Gaussian local volumes were not measured: set volume.gaussian.sigma (`minima-volume suggest-sigma` proposes one)"
)


def mass_table(results: Mapping[str, Any], by: str = "loss") -> pd.DataFrame:
    """One row a (minimum, sigma): its log mass with interval, how it was measured, and the verdict; empty where not measured.

    Args:
        results: a results.json.
        by: "loss" or "accuracy", the threshold.
    """
    suffix = "" if by == "loss" else "_acc"
    levels, sigmas = results["model_data_levels"], results.get("sigmas", [])
    names = [INDEX_NAMES[results.get("variation", "level")], "sigma"]
    rows = [(i, k) for i in range(len(levels)) for k in range(len(sigmas))]
    if f"log_mass{suffix}_values" not in results:
        rows = []

    def column(key: str) -> list[Any]:
        return [results[f"log_mass{suffix}_{key}"][i][k] for i, k in rows]

    return pd.DataFrame(
        {
            "log mass": [None if value is None else f"{value:.2f}" for value in column("values")],
            "95 % interval": [interval_text(interval) for interval in column("intervals")],
            "method": column("methods"),
            "stages": ["" if value is None else f"{value:.1f}" for value in column("num_stages")],
            "forward passes": ["" if value is None else f"{value:,}" for value in column("num_forward")],
            "note": ["" if value is None else value for value in column("notes")],
        },
        index=pd.MultiIndex.from_tuples([(levels[i], sigmas[k]) for i, k in rows], names=names),
    )


def mass_comparisons(results: Mapping[str, Any], by: str = "loss") -> str:
    """Which minimum is larger, a line a compared pair, at the headline sigma."""
    pairs = results.get(f"log_mass{'' if by == 'loss' else '_acc'}_comparisons")
    return NOT_MEASURED if pairs is None else "\n".join(pair["verdict"] for pair in pairs)
