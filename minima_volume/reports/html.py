"""A condition as one self-contained HTML page: settings, words, table, figures, verdicts, how to reproduce."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from minima_volume.analysis.collect import Collected, collect
from minima_volume.analysis.designs import runs_text, unit
from minima_volume.analysis.quantities import AXIS_LABELS, kind_of, x_of
from minima_volume.analysis.readable import cell
from minima_volume.analysis.tables import Tables
from minima_volume.analysis.words import paragraph
from minima_volume.arguments import as_path
from minima_volume.errors import MinimaVolumeError
from minima_volume.files.atomic import write_text
from minima_volume.reports.gallery import draw
from minima_volume.reports.terminal import left_out, shown_table, trust
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import CONFIG_NAME, find_runs, read_run

DPI = 110
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid #ddd; }
p.sub { color: #555; margin-top: .2rem; } figure { margin: 1.5rem 0; } figcaption { color: #444; font-size: .92rem; }
img { max-width: 100%; height: auto; } pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e3e3e3; vertical-align: top; }
th { border-bottom: 2px solid #999; } td.text, th.text { text-align: left; } .warn { background: #fdf0e6; padding: .6rem .9rem; }
details { margin: .6rem 0; } summary { cursor: pointer; } nav a { margin-right: 1rem; }
"""
SECTIONS = {
    "words": "In words",
    "table": "Table",
    "figures": "Figures",
    "verdicts": "Verdicts",
    "settings": "Settings",
    "reproduce": "How to reproduce",
}


def write_report(condition: str | Path, path: str | Path | None = None) -> Path:
    """Write a condition's report: one HTML file that opens offline and can be mailed.

    Args:
        condition: the condition folder.
        path: the file; `analysis/report.html` of the condition by default.

    Raises:
        MissingStageError: no run has results.
    """
    condition = as_path(condition, "condition folder")
    collected = collect(condition)
    target = condition / "analysis" / "report.html" if path is None else as_path(path)
    return write_text(target, render(condition, collected))


def render(condition: Path, collected: Collected) -> str:
    """The page."""
    tables = Tables.of(collected)
    rows, table, config = tables.rows, tables.summary, collected.config
    body = {
        "words": _missing(collected) + _words(paragraph(tables)),
        "table": f"{_table(shown_table(table, kind_of(rows), unit(rows)))}<p>{_escape(trust(table))}</p><p>{_escape(left_out(table))}</p>",
        "figures": "".join(
            _figure(name, drawn.figure, drawn.caption, drawn.data) for name, drawn in draw(tables).items()
        ),
        "verdicts": _verdicts(tables),
        "settings": _settings(condition, rows),
        "reproduce": _reproduce(condition, rows),
    }
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in SECTIONS.items())
    parts = "".join(f'<section id="{key}"><h2>{SECTIONS[key]}</h2>{content}</section>' for key, content in body.items())
    name = _escape(config.experiment.name)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1>"
        f"<p class=sub>How large are these minima? {runs_text(rows)}, measured with minima_volume.</p>"
        f"<nav>{links}</nav>{parts}</body></html>\n"
    )


def _words(text: str) -> str:
    """The paragraph; a new one where the other volume begins, and for what follows."""
    for start in ("Gaussian local volume", "Published number", "Scaling law of native minima by the Gaussian"):
        text = text.replace(f" {start}", f"\n{start}", 1)
    return "".join(f"<p>{_escape(part)}</p>" for part in text.split("\n"))


def _missing(collected: Collected) -> str:
    lines = [f"not analyzed: {run}: {reason}" for run, reason in collected.missing.items()]
    lines += [f"note on {run}: {reason}" for run, reason in collected.partial.items()]
    return f"<div class=warn>{'<br>'.join(map(_escape, lines))}</div>" if lines else ""


def _figure(name: str, figure: Figure, caption: str, data: pd.DataFrame) -> str:
    from minima_volume.plots.style import figure_bytes

    encoded = base64.b64encode(figure_bytes(figure, dpi=DPI)).decode()
    shown = f"<details><summary>the data ({len(data)} rows)</summary>{_table(data.head(200))}</details>"
    return (
        f'<figure id="{name}"><img alt="{_escape(caption)}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{_escape(caption)}</figcaption>{shown}</figure>"
    )


def _verdicts(tables: Tables) -> str:
    """Of every minimum and pair of the shown landscape, the trustworthy number first."""
    rows = tables.rows
    columns = {"run": rows["run"], AXIS_LABELS[kind_of(rows)]: x_of(rows)}
    if rows["log_mass_verdict"].notna().any():
        columns["Gaussian local volume"] = rows["log_mass_verdict"].fillna("not measured")
    columns["published number"] = rows["verdict"]
    pairs = pd.concat([tables.pairs(quantity.column) for quantity in tables.quantities])
    shown = [
        "run",
        "quantity",
        "first",
        "second",
        "difference",
        "lower",
        "upper",
        "p_value",
        "p_adjusted",
        "told_apart",
    ]
    caption = (
        "First minus second, with the 95 % interval of each pair alone; p_adjusted and told_apart: Holm over all pairs of a quantity "
        "in this table. Pairs that cannot be compared are left out."
    )
    return (
        f"{_table(pd.DataFrame(columns))}<details><summary>pairs of minima ({len(pairs)})</summary>"
        f"<p>{_escape(caption)}</p>{_table(pairs[shown])}</details>"
    )


def _settings(condition: Path, rows: pd.DataFrame) -> str:
    path = condition / CONFIG_NAME
    path = path if path.is_file() else condition / str(rows["run"].iloc[0]) / CONFIG_NAME
    return f"<pre>{_escape(path.read_text(encoding='utf-8'))}</pre>"


def _reproduce(condition: Path, rows: pd.DataFrame) -> str:
    runs = rows[["run", "model_seed", "data_seed"]].drop_duplicates()
    pairs = " ".join(f"--pair {m}:{d}" for m, d in zip(runs["model_seed"], runs["data_seed"], strict=True))
    commands = (
        "# a folder with the settings above as config.yaml\n"
        f"minima-volume new {condition.name} {pairs}\n"
        f"minima-volume pipeline {condition.name}\n"
        f"minima-volume report {condition.name}\n"
    )
    made = _provenance(condition)
    return f"<pre>{_escape(commands)}</pre>{_table(made) if len(made) else ''}"


def _provenance(condition: Path) -> pd.DataFrame:
    """What each run was made with: versions, device, threads, revision."""
    found = []
    for folder in find_runs(condition):
        try:
            run = read_run(folder)
            path = run.results_file(run.config.data.levels[0], run.config.volume.headline)
            made = load_results(path).get("provenance")
        except MinimaVolumeError:
            continue
        if made:
            versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
            row = {"run": folder.name, "versions": versions, "device": made["device"]}
            found.append(row | {"threads": made["threads"], "revision": made["git_revision"] or "unknown"})
    return pd.DataFrame(found)


def _table(table: pd.DataFrame) -> str:
    """A table in HTML: numbers to the right, text to the left."""
    text = [not pd.api.types.is_numeric_dtype(table[column]) for column in table]
    heads = "".join(
        f"<th{' class=text' * left}>{_escape(str(c).replace('_', ' '))}</th>"
        for c, left in zip(table, text, strict=True)
    )
    lines = []
    for row in table.itertuples(index=False):
        cells = (
            f"<td{' class=text' * left}>{_escape(cell(value))}</td>" for value, left in zip(row, text, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
