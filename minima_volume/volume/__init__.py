"""Radii, estimators and results."""

from minima_volume.volume.cutoffs import cutoffs
from minima_volume.volume.estimate import estimate_volumes
from minima_volume.volume.local import LocalVolume, VolumeProfile
from minima_volume.volume.masses import estimate_masses, measure_masses
from minima_volume.volume.measure import measure_volume
from minima_volume.volume.rays import VolumeEstimate
from minima_volume.volume.results import load_results
from minima_volume.volume.suggest import suggest_run_sigma, suggest_sigma
from minima_volume.volume.trivial import describe_thresholds, trivial_loss

__all__ = [
    "LocalVolume",
    "VolumeEstimate",
    "VolumeProfile",
    "cutoffs",
    "describe_thresholds",
    "estimate_masses",
    "estimate_volumes",
    "load_results",
    "measure_masses",
    "measure_volume",
    "suggest_run_sigma",
    "suggest_sigma",
    "trivial_loss",
]
