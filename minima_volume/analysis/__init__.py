"""Many seeds together: tables and the figures drawn from them."""

from minima_volume.analysis.analyze import Analysis, analyze
from minima_volume.analysis.mass_tables import mass_comparisons, mass_table
from minima_volume.analysis.report import describe
from minima_volume.analysis.run_tables import comparison_table, verdicts, volume_table
from minima_volume.analysis.tables import Collected, collect, select, summary

__all__ = [
    "Analysis",
    "Collected",
    "analyze",
    "collect",
    "comparison_table",
    "describe",
    "mass_comparisons",
    "mass_table",
    "select",
    "summary",
    "verdicts",
    "volume_table",
]
