"""Radii, estimators and results."""

from minima_volume.volume.cutoffs import cutoffs
from minima_volume.volume.estimate import estimate_volumes
from minima_volume.volume.measure import measure_volume
from minima_volume.volume.rays import VolumeEstimate
from minima_volume.volume.results import load_results

__all__ = ["VolumeEstimate", "cutoffs", "estimate_volumes", "load_results", "measure_volume"]
