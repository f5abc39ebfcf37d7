"""What a study tells a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minima_volume.files.atomic import read_pt
from minima_volume.numerals import fixed
from minima_volume.robustness.study import Network, Study

HEADER = ("Architecture", "Regime", "Seed", "Acc(0)", "Acc(0.1)", "Drop")


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Aligned columns.

    >>> print(table([("mlp", 0.5)], ("name", "x")))
    name  x
    mlp   0.5000
    """
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [header, *cells]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def describe_results(content: Mapping[str, Any]) -> str:
    """Summary table, mean drops with intervals, verdicts."""
    rows = [
        (r["architecture"], r["regime"], r["seed"], r["acc_0"], r["acc_01"], r["drop_at_01"])
        for r in content["summary"]
    ]
    drops = []
    for row in content["mean_drops"]:
        drop = row["drop"]
        interval = f"{fixed(drop['low'], 4, '+')} to {fixed(drop['high'], 4, '+')}"
        drops.append((row["architecture"], row["regime"], len(row["seeds"]), fixed(drop["mean"], 4, "+"), interval))
    header = ("Architecture", "Regime", "Seeds", "Mean drop at 0.1", "95 % interval")
    verdicts = [row["words"] for row in content["verdicts"]]
    return "\n\n".join(filter(None, [table(rows, HEADER), table(drops, header), "\n".join(verdicts)]))


def describe_status(study: Study, architectures: Sequence[str] | None = None) -> str:
    """Where each network of a study stands."""
    networks = study.networks(architectures)
    rows = [(n.architecture, n.regime, n.seed, *_state(study, n)) for n in networks]
    return table(rows, ("Architecture", "Regime", "Seed", "Trained", "Measured"))


def _state(study: Study, network: Network) -> tuple[str, str]:
    measured = "yes" if study.sweep(network).is_file() else "no"
    path, started = study.checkpoint(network), study.unfinished(network)
    found = path if path.is_file() else started
    if not found.is_file():
        return "no", measured
    content = read_pt(found)
    if content["settings"] != study.training_settings(network):
        return "with other settings", measured
    if found is path:
        return "yes", measured
    return f"epoch {content['progress']['epoch']} of {study.config.training.epochs}", measured
