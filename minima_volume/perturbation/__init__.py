"""Directions, the loss engine, and the losses along directions."""

from minima_volume.perturbation.curves import Curves, trace_curves
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine

__all__ = [
    "Curves",
    "Directions",
    "LossEngine",
    "trace_curves",
]
