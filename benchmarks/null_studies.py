"""How often do studies make a claim in which all minima are equally large?

    python benchmarks/null_studies.py [STUDIES]

STUDIES (2,000) of five levels and the native one, whose minima differ by chance alone, judged by the package's own tables: a claim is any minimum that is called
larger or smaller than the native one over seeds, or any pair of minima of one landscape that is told apart. "one by one" is what each comparison at
its own 95 % would claim. The table is written between the marks of docs/measuring.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pages import between

from minima_volume.analysis.aggregates import paired_differences
from minima_volume.confidence import CLEAR
from minima_volume.stages.results.mass_keys import compare_all
from minima_volume.stages.results.star_keys import comparison_keys
from minima_volume.volume.gaussian.mass import splitting_estimate
from minima_volume.volume.gaussian.splitting import Repeat
from minima_volume.volume.star.radii import Radii
from minima_volume.volume.star.volume import star_volume

PAGE = Path(__file__).parents[1] / "docs" / "measuring.md"
LEVELS = (0, 100, 300, 1000, 3000, 10000)


def study(random: np.random.Generator, seeds: int, cross: bool = False) -> pd.DataFrame:
    """Rows of a condition: log masses of `seeds` runs, which share what a seed does to all its minima, and scatter by 0.5 around it.

    With `cross` every model seed has every data seed; each minimum's scatter is 1 over data seeds, 0.3 over model seeds and 0.3 over runs.
    """
    shared, levels = random.normal(-6.0, 1.0, (seeds, 1)), len(LEVELS)
    if cross:
        parts = ((1.0, (1, seeds, levels)), (0.3, (seeds, 1, levels)), (0.3, (seeds, seeds, levels)))
        values = -6.0 + sum(random.normal(0.0, spread, shape) for spread, shape in parts).reshape(-1, levels)
        pairs = [(model, data) for model in range(seeds) for data in range(seeds)]
    else:
        values = shared + random.normal(0.0, 0.5, (seeds, levels))
        pairs = [(seed, seed) for seed in range(seeds)]
    return pd.DataFrame(
        [
            {
                "run": f"model_{model}_data_{data}",
                "model_seed": model,
                "data_seed": data,
                "level": level,
                "train_size": 60 + level,
                "native": level == 0,
                "variation": "level",
                "variant": "data",
                "log_mass": values[run, i],
                "log_mass_lower": values[run, i] - 0.2,
                "log_mass_upper": values[run, i] + 0.2,
            }
            for run, (model, data) in enumerate(pairs)
            for i, level in enumerate(LEVELS)
        ]
    )


def measured_pairs(random: np.random.Generator, spread: float = 0.4) -> list[dict[str, Any]]:
    """The compared pairs of one landscape whose six masses are e^-10: eight repeats of splitting each, whose logs scatter by `spread`."""
    masses = [
        splitting_estimate(
            [Repeat(i, log, (), 5, 100) for i, log in enumerate(random.normal(-10.0, spread, 8).tolist())]
        )
        for _ in LEVELS
    ]
    return compare_all(0, LEVELS, masses)


def ray_pairs(random: np.random.Generator, n: int = 4, directions: int = 200) -> list[dict[str, Any]]:
    """The compared pairs of one landscape whose six star regions are turned copies of one ellipsoid, along shared directions."""
    curvature = np.geomspace(1.0, 3.0, n)
    xi = random.standard_normal((directions, n))
    u = xi / np.linalg.norm(xi, axis=1, keepdims=True)
    flags = np.zeros(directions, dtype=bool)
    volumes = []
    for _ in LEVELS:
        turned = u @ np.linalg.qr(random.standard_normal((n, n)))[0]
        radius = (turned**2 @ curvature) ** -0.5
        radii = Radii(radius, radius, flags, flags, False, 0.01, np.arange(directions), 1e-6)
        volumes.append(star_volume(radii, n, 0.0))
    pairs: list[dict[str, Any]] = comparison_keys("", 0, LEVELS, volumes)["comparisons"]
    return [pair | {"p_value": pair["log_volume_p_value"]} for pair in pairs]


def share_of_pairs(
    draw: Callable[[np.random.Generator], Sequence[Mapping[str, Any]]], studies: int
) -> tuple[float, float]:
    """Shares of landscapes with a claim: pairs one by one, and after Holm's procedure."""
    random = np.random.default_rng(0)
    found = [draw(random) for _ in range(studies)]
    alone = np.mean(
        [any(pair["p_value"] is not None and pair["p_value"] <= CLEAR for pair in pairs) for pairs in found]
    )
    return float(alone), float(np.mean([any(pair["told_apart"] for pair in pairs) for pairs in found]))


def share_of_studies(seeds: int, studies: int, cross: bool = False) -> tuple[float, float]:
    """The same over seeds: a minimum that differs from the native one."""
    random = np.random.default_rng(seeds)
    tables = [paired_differences(study(random, seeds, cross), "log_mass") for _ in range(studies)]
    alone = np.mean([(table["p_value"] <= CLEAR).any() for table in tables])
    return float(alone), float(np.mean([(table["clear"] != 0).any() for table in tables]))


def main() -> None:
    """Print the table and write it to the page."""
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    rows = [
        *(
            (f"five levels with the native minimum, {seeds} seeds", share_of_studies(seeds, studies))
            for seeds in (3, 5, 10)
        ),
        *(
            (f"the same, {seeds} model seeds x {seeds} data seeds", share_of_studies(seeds, studies, cross=True))
            for seeds in (3, 5)
        ),
        ("nine pairs of one landscape, Gaussian local volumes", share_of_pairs(measured_pairs, studies)),
        ("nine pairs of one landscape, published number in 4 dimensions", share_of_pairs(ray_pairs, studies)),
    ]
    lines = ["| compared | one by one at 95 % | after Holm |", "|---|---|---|"]
    lines += [f"| {name} | {alone:.1%} | {holm:.1%} |" for name, (alone, holm) in rows]
    table = "\n".join(lines)
    print(table)
    if studies == 2000:
        PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), "null studies", table), encoding="utf-8")


if __name__ == "__main__":
    main()
