"""Write what a weight-noise study found into docs/weight_noise.md, and its figures into figs/.

    python benchmarks/weight_noise.py RESULTS [VOLUMES]

RESULTS and VOLUMES are results.json: of the accuracies, and of the run that measured volumes, if that is another one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from pages import between

from minima_volume.files.atomic import read_json, write_text
from minima_volume.numerals import fixed
from minima_volume.plots.robustness import accuracy_under_noise, drops, layer_profile, volume_beside_robustness
from minima_volume.plots.style import save_figure

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/weight_noise.md"
FIGURES = ROOT / "figs"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of a page."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def mean_or_beyond(values: pd.Series, largest: float) -> str:
    """The mean over seeds; if a seed has none, the largest alpha that was measured."""
    return f"> {largest:g}" if values.isna().any() else f"{values.mean():.2f}"


def signed(estimate: Mapping[str, float]) -> str:
    """A mean with its interval."""
    mean, low, high = (fixed(estimate[name], 4, "+") for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def group_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A line per architecture and regime."""
    summary, rows = pd.DataFrame(results["summary"]), []
    for mean in results["mean_drops"]:
        some = summary[(summary["architecture"] == mean["architecture"]) & (summary["regime"] == mean["regime"])]
        drop, largest = mean["drop"], float(some["largest_alpha"].min())
        rows.append(
            [
                mean["architecture"],
                mean["regime"],
                str(len(some)),
                f"{some['acc_0'].mean():.4f}",
                f"{some['acc_01'].mean():.4f}",
                signed(drop),
                mean_or_beyond(some["alpha_lost_1_percent"], largest),
                mean_or_beyond(some["alpha_50"], largest),
            ]
        )
    return rows


def alpha_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """Noisy minus clean accuracy of each architecture, a line per alpha."""
    rows = []
    for verdict in results["verdicts"]:
        for one in verdict["alphas"]:
            cells = [signed(estimate) for estimate in (one["drop"], one["accuracy"])]
            rows.append([verdict["architecture"], f"{one['alpha']:g}", *cells])
    return rows


def volume_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A line per volume."""
    return [
        [
            row["architecture"],
            row["regime"],
            f"{row['alpha']:g}",
            f"{row['accuracy']:g}",
            row["words"],
            str(row["method"]),
        ]
        for row in results["volumes"]
    ]


def accuracies(results: Mapping[str, Any]) -> str:
    """What the page says of accuracy under noise."""
    first = results["summary"][0]
    figures = {"accuracy": accuracy_under_noise(results), "drops": drops(results)}
    parts = [
        f"Measured on {first['dataset']}, {first['test_images']:,} test images, {first['draws']} draws, "
        f"{results['settings']['training.epochs']} epochs, alpha_train {results['settings']['noise.alpha_train']:g}. Means over seeds; "
        "95 % intervals over draws and images, and over seeds if there are several.",
        table(
            ["architecture", "regime", "seeds", "acc(0)", "acc(0.1)", "drop at 0.1", "α that loses 0.01", "α₅₀"],
            group_rows(results),
        ),
        "\n".join(f"* {verdict['words']}" for verdict in results["verdicts"]),
        table(["architecture", "α", "drop, noisy − clean", "accuracy, noisy − clean"], alpha_rows(results)),
        *pictures(figures),
    ]
    return "\n\n".join(parts)


def volumes(results: Mapping[str, Any]) -> str:
    """What the page says of volumes and layers."""
    subset = results["volumes"][0]["subset"]
    title = f"log P[accuracy ≥ a \\| α] on {subset:,} test images"
    figures = {}
    for name in dict.fromkeys(row["architecture"] for row in results["volumes"]):
        figures[f"volume_{name}"] = volume_beside_robustness(results, name)
    for name in dict.fromkeys(row["architecture"] for row in results["layers"]):
        figures[f"layers_{name}"] = layer_profile(results, name)
    return "\n\n".join(
        [table(["architecture", "regime", "α", "a", title, "method"], volume_rows(results)), *pictures(figures)]
    )


def pictures(figures: Mapping[str, Figure]) -> list[str]:
    """Save figures; the lines that show them."""
    found = [save_figure(figure, FIGURES / f"weight_noise_{name}.png") for name, figure in figures.items()]
    return [f"![{path.stem.replace('_', ' ')}](../{path.relative_to(ROOT)})" for path in found]


def main() -> None:
    """Rewrite the page."""
    found = [read_json(Path(name)) for name in sys.argv[1:]]
    text = between(PAGE.read_text(encoding="utf-8"), "results", accuracies(found[0]))
    if found[-1]["volumes"]:
        text = between(text, "volumes", volumes(found[-1]))
    print(write_text(PAGE, text))


if __name__ == "__main__":
    main()
