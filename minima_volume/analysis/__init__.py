"""Many seeds together: tables and the figures drawn from them."""

from minima_volume.analysis.aggregates import (
    across_landscapes,
    aggregate,
    order_table,
    paired_differences,
    rank_table,
    scaling_law,
)
from minima_volume.analysis.collect import Collected, collect, select, summary
from minima_volume.analysis.readable import readable
from minima_volume.analysis.run_tables import (
    comparison_table,
    cutoff_table,
    mass_comparisons,
    mass_table,
    training_table,
    verdicts,
    volume_table,
)
from minima_volume.analysis.run_words import describe_order
from minima_volume.analysis.subjects import subject
from minima_volume.analysis.words import paragraph

__all__ = [
    "Collected",
    "across_landscapes",
    "aggregate",
    "collect",
    "comparison_table",
    "cutoff_table",
    "describe_order",
    "mass_comparisons",
    "mass_table",
    "order_table",
    "paired_differences",
    "paragraph",
    "rank_table",
    "readable",
    "scaling_law",
    "select",
    "subject",
    "summary",
    "training_table",
    "verdicts",
    "volume_table",
]
