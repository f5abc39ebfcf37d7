"""Radii, estimators and results."""

from minima_volume.volume.gaussian.estimate import LocalVolume, VolumeProfile
from minima_volume.volume.gaussian.settings import Gaussian
from minima_volume.volume.gaussian.sigma import suggest_sigma
from minima_volume.volume.measure import measure_volume
from minima_volume.volume.star.estimate import VolumeEstimate
from minima_volume.volume.star.settings import Rays
from minima_volume.volume.trivial import trivial_loss

__all__ = [
    "Gaussian",
    "LocalVolume",
    "Rays",
    "VolumeEstimate",
    "VolumeProfile",
    "measure_volume",
    "suggest_sigma",
    "trivial_loss",
]
