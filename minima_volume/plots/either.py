"""Figures of volumes that take a results.json of a run as well as results of your own models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from minima_volume.errors import ConfigError
from minima_volume.plots import landscape, masses, own


def log_masses(results: Any) -> Figure | str:
    """Gaussian local volumes side by side, with 95 % intervals.

    Args:
        results: a results.json, for which the published log volumes stand beside; or name -> LocalVolume, or one, or `Volumes`.
    """
    found = own.estimates_in(results)
    return masses.log_masses(results) if found is None else own.volumes_of(found)


def volume_profiles(results: Any) -> Figure | str:
    """Log mass against sigma, a curve per minimum with its 95 % band.

    Args:
        results: a results.json, or name -> VolumeProfile, or one, or `Volumes`.
    """
    found = own.estimates_in(results)
    return masses.volume_profiles(results) if found is None else own.volumes_of(found)


def volumes(results: Any) -> Figure | str:
    """Log volumes of star regions side by side, or what is known of them.

    Args:
        results: a results.json, for which they are drawn against data and test loss; or name -> VolumeEstimate, or one, or `Volumes`.
    """
    found = own.estimates_in(results)
    return landscape.volumes(results) if found is None else own.volumes_of(found)


def radius_histogram(results: Any, radii: Mapping[str, np.ndarray] | None = None) -> Figure | str:
    """The distribution of the radii of each minimum.

    Args:
        results: a results.json; or name -> VolumeEstimate, or one, or `Volumes`, which have their radii.
        radii: of a results.json, the arrays of its radii.npz.
    """
    found = own.estimates_in(results)
    if found is not None:
        return own.volumes_of(found)
    if radii is None:
        raise ConfigError("a results.json does not hold the radii: give the arrays of its radii.npz as well")
    return landscape.radius_histogram(results, radii)
