"""What a condition tells a person: tables, gallery, terminal text and page."""

from minima_volume.reports.analyze import Analysis, analyze
from minima_volume.reports.run import describe_run
from minima_volume.reports.terminal import describe

__all__ = ["Analysis", "analyze", "describe", "describe_run"]
