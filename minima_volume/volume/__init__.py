"""Radii, estimators and results."""

from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.gaussian.sigma import suggest_sigma
from minima_volume.volume.measure import measure_volume
from minima_volume.volume.pairs import VolumeComparison, compare, compare_all
from minima_volume.volume.several import Volumes, load, measure_volumes
from minima_volume.volume.star.estimate import VolumeEstimate
from minima_volume.volume.star.settings import Rays
from minima_volume.volume.tables import table
from minima_volume.volume.trivial import trivial_loss

__all__ = [
    "Gaussian",
    "LocalVolume",
    "Rays",
    "VolumeComparison",
    "VolumeEstimate",
    "VolumeProfile",
    "Volumes",
    "compare",
    "compare_all",
    "load",
    "measure_volume",
    "measure_volumes",
    "suggest_sigma",
    "table",
    "trivial_loss",
]
