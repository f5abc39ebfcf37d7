"""Every figure, a function each, taking results and returning a matplotlib Figure."""

from minima_volume.plots.landscape import cutoff_curves, held_out_curves, loss_curves, radius_histogram, volumes
from minima_volume.plots.masses import log_masses, mass_against_data, volume_profiles
from minima_volume.plots.predictions import predictions
from minima_volume.plots.run_figures import save_cutoff_figure, save_volume_figures
from minima_volume.plots.samples import samples
from minima_volume.plots.seeds import accuracy_against_data, loss_against_volume, volume_against_data
from minima_volume.plots.style import save_figure
from minima_volume.plots.training import accuracies, training_curves
from minima_volume.plots.trust import growth_with_directions

__all__ = [
    "accuracies",
    "accuracy_against_data",
    "cutoff_curves",
    "growth_with_directions",
    "held_out_curves",
    "log_masses",
    "loss_against_volume",
    "loss_curves",
    "mass_against_data",
    "predictions",
    "radius_histogram",
    "samples",
    "save_cutoff_figure",
    "save_figure",
    "save_volume_figures",
    "training_curves",
    "volume_against_data",
    "volume_profiles",
    "volumes",
]
