"""The numbers of one run, for a terminal."""

from __future__ import annotations

import pandas as pd

from minima_volume.analysis.quantities import AXIS_LABELS, MASS, STAR
from minima_volume.analysis.results import Limits, Mass, Results, Star
from minima_volume.analysis.run_tables import interval_text
from minima_volume.analysis.run_words import describe_order
from minima_volume.errors import ConfigError
from minima_volume.numerals import fixed
from minima_volume.stages.results.older_formats import load_results
from minima_volume.stages.run import Run


def describe_run(run: Run, landscape: int | None = None, threshold: float | None = None) -> str:
    """A run's volumes, test losses and accuracies in one landscape, how far to trust them, and where more is.

    Args:
        run: a run with results.
        landscape: its level; the smallest by default.
        threshold: of the loss; the headline by default.

    Raises:
        ConfigError: the run has no such landscape or threshold.
        MissingStageError: there are no results yet.
    """
    levels, thresholds = run.config.data.levels, run.config.volume.loss_thresholds
    landscape = levels[0] if landscape is None else landscape
    threshold = run.config.volume.headline if threshold is None else threshold
    if landscape not in levels:
        raise ConfigError(f"landscape {landscape} is not in {run.folder.name}; it has {', '.join(map(str, levels))}")
    if threshold not in thresholds:
        have = ", ".join(f"{one:g}" for one in thresholds)
        raise ConfigError(f"threshold {threshold:g} is not in {run.folder.name}; it has {have}")
    path = run.results_file(landscape, threshold)
    read = Results(load_results(path))
    others = len(levels) * len(thresholds) - 1
    lines = [
        f"{run.folder.name} · {read.title}",
        run_table(read).to_string(index=False),
        *_trust(read),
        describe_order(read.content),
        *([f"threshold {threshold:g}: {read.threshold_verdict}"] if read.threshold_verdict else []),
        f"all of it: {path}, figures beside it" + (f"; {others} more: --landscape, --threshold" if others else ""),
    ]
    return "\n".join(lines)


def run_table(read: Results) -> pd.DataFrame:
    """A row per minimum: both volumes with their intervals or bounds, test loss and accuracy."""
    masses = read.headline_masses if read.has_masses() else []
    marks = [label + " (native)" * (i == read.native) for i, label in enumerate(read.labels)]
    columns: dict[str, list[str]] = {AXIS_LABELS[read.kind]: marks}
    if masses:
        columns[f"{MASS.name} ({MASS.noun})"] = [mass_text(mass) for mass in masses]
    columns[f"{STAR.name} ({STAR.noun})"] = [star_text(star) for star in read.stars()]
    columns["test loss"] = [f"{loss:.3f}" for loss in read.test_losses]
    accuracies = read.content["test_accuracy_values"]
    columns["test accuracy"] = ["undefined" if value is None else f"{value:.3f}" for value in accuracies]
    return pd.DataFrame(columns)


def mass_text(mass: Mass) -> str:
    """Value and interval, or what is known of it."""
    if mass.outside:
        return "outside"
    return _text(mass.value, mass.limits, mass.is_estimate) if mass.method else "not measured"


def star_text(star: Star) -> str:
    """Value and interval, or what is known of it."""
    return "outside" if star.log_volume is None else _text(star.log_volume, star.limits, star.is_estimate)


def _text(value: float | None, limits: Limits, is_estimate: bool) -> str:
    """Value and interval of an estimate, else its bounds.

    >>> _text(-2.0, (-2.25, -1.75), True), _text(-11855.0, (-11858.7, None), False)
    ('-2.00 (-2.25 to -1.75)', '-11,859 or more')
    """
    interval = interval_text(limits)
    if not is_estimate or value is None:
        return interval
    return f"{f'{value:,.0f}' if abs(value) >= 1000 else fixed(value)} ({interval})"


def _trust(read: Results) -> list[str]:
    """How far the two columns can be trusted."""
    lines = []
    if read.has_masses():
        pairs = read.mass_comparisons()
        told = sum(pair.told_apart for pair in pairs)
        apart = f"; {told} of {len(pairs)} compared pairs are told apart (Holm)" if pairs else ""
        lines.append(f"{MASS.name} at sigma {read.sigma:g}, with 95 % intervals{apart}")
    else:
        lines.append(f"{MASS.name}: not measured (`minima-volume suggest-sigma`, then volume.gaussian.sigma)")
    stars = read.stars()
    estimates = sum(star.is_estimate for star in stars)
    outside = sum(star.log_volume is None for star in stars)
    gone = f"; {outside} of {len(stars)} are outside and have no volume" if outside else ""
    bounds = len(stars) - estimates - outside
    limits = "; the others are lower limits (97.5 %), which do not tell which is larger" if bounds else ""
    lines.append(f"{STAR.name}: {estimates} of {len(stars)} are estimates{gone}{limits}")
    return lines
