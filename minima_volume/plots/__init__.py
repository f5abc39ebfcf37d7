"""Every figure, a function each, taking results and returning a matplotlib Figure."""

from minima_volume.plots.conditions import conditions_against_data, estimators
from minima_volume.plots.either import log_masses, radius_histogram, volume_profiles, volumes
from minima_volume.plots.growth import growth_with_directions
from minima_volume.plots.landscape import cutoff_curves, held_out_curves, loss_curves
from minima_volume.plots.predictions import predictions
from minima_volume.plots.radii import radius_details
from minima_volume.plots.ranks import differences, loss_ranks_against_volume_ranks, ranks_against_data
from minima_volume.plots.run_figures import save_cutoff_figure, save_volume_figures
from minima_volume.plots.samples import samples
from minima_volume.plots.scaling import cliff, minima_across_landscapes, scaling
from minima_volume.plots.seeds import (
    accuracy_against_data,
    accuracy_against_volume,
    loss_against_volume,
    mass_against_data,
    volume_against_data,
)
from minima_volume.plots.slices import lines, planes
from minima_volume.plots.style import save_figure
from minima_volume.plots.training import accuracies, training_curves
from minima_volume.plots.views import views

__all__ = [
    "accuracies",
    "accuracy_against_data",
    "accuracy_against_volume",
    "cliff",
    "conditions_against_data",
    "cutoff_curves",
    "differences",
    "estimators",
    "growth_with_directions",
    "held_out_curves",
    "lines",
    "log_masses",
    "loss_against_volume",
    "loss_curves",
    "loss_ranks_against_volume_ranks",
    "mass_against_data",
    "minima_across_landscapes",
    "planes",
    "predictions",
    "radius_details",
    "radius_histogram",
    "ranks_against_data",
    "samples",
    "save_cutoff_figure",
    "save_figure",
    "save_volume_figures",
    "scaling",
    "training_curves",
    "views",
    "volume_against_data",
    "volume_profiles",
    "volumes",
]
