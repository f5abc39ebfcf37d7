"""Shares of the loss engine's time by operation, whole curves on one thread, and how far they are from matrix products alone.

    python benchmarks/where_time_goes.py [WORKLOAD ...]

Prints a table and, where all workloads were measured, writes it to docs/engine.md.
"""

from __future__ import annotations

import re
import sys

import torch
from engine import ROOT, WHOLE, baseline, whole_curves
from pages import between
from torch.profiler import ProfilerActivity, profile
from workloads import NAMES, build

PRODUCTS = re.compile(r"mm$|convolution|conv2d|linear$")
SHOWN = 4  # other operations named
PAGE = ROOT / "docs" / "engine.md"


def row(name: str) -> list[str]:
    """Workload, share of matrix products, the largest other shares, the ratio, and the ratio if only the products took time."""
    work = build(name)
    count = max(2, work.directions // 3)
    whole_curves(work, 1)
    ratio = WHOLE * baseline(work, 1) / whole_curves(work, count)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        whole_curves(work, count)
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(times.values())
    products = sum(time for key, time in times.items() if PRODUCTS.search(key)) / total
    others = sorted(((time, key) for key, time in times.items() if not PRODUCTS.search(key)), reverse=True)[:SHOWN]
    rest = ", ".join(f"{key} {time / total:.0%}" for time, key in others)
    return [name, f"{products:.0%}", rest, f"{ratio:.1f}x", f"{ratio / products:.1f}x"]


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    if unknown := set(names) - set(NAMES):
        sys.exit(f"{sorted(unknown)[0]!r} is not a workload; allowed: {', '.join(NAMES)}")
    header = ["workload", "matrix products", "the largest other shares", "whole curves", "by its products alone"]
    lines = [header, ["---"] * len(header)]
    for name in names or NAMES:
        lines.append(row(name))
        print(" | ".join(lines[-1]), flush=True)
    if not names:
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        PAGE.write_text(between(PAGE.read_text(encoding="utf-8"), "profile", table), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
