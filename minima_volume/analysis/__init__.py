"""Many seeds together: tables and the figures drawn from them."""

from minima_volume.analysis.analyze import Analysis, analyze
from minima_volume.analysis.report import describe
from minima_volume.analysis.tables import Collected, collect, select, summary

__all__ = ["Analysis", "Collected", "analyze", "collect", "describe", "select", "summary"]
