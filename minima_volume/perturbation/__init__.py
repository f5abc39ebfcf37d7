"""Directions, the loss engine, the sweep and its files."""

from minima_volume.perturbation.curves import Curves, trace_curves
from minima_volume.perturbation.directions import Directions
from minima_volume.perturbation.engine import LossEngine
from minima_volume.perturbation.sweep import estimate_sweep, sweep
from minima_volume.perturbation.sweep_files import Sweep, load_wiggle_results, read_sweep

__all__ = [
    "Curves",
    "Directions",
    "LossEngine",
    "Sweep",
    "estimate_sweep",
    "load_wiggle_results",
    "read_sweep",
    "sweep",
    "trace_curves",
]
