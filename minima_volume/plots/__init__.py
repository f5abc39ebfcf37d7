"""Every figure, a function each, taking results and returning a matplotlib Figure."""

from minima_volume.plots.landscape import cutoff_curves, loss_curves, radius_histogram, test_curves, volumes
from minima_volume.plots.run_figures import save_cutoff_figure, save_volume_figures
from minima_volume.plots.seeds import accuracy_against_data, loss_against_volume, volume_against_data
from minima_volume.plots.style import save_figure
from minima_volume.plots.training import samples, test_accuracy, training_curves

__all__ = [
    "accuracy_against_data",
    "cutoff_curves",
    "loss_against_volume",
    "loss_curves",
    "radius_histogram",
    "samples",
    "save_cutoff_figure",
    "save_figure",
    "save_volume_figures",
    "test_accuracy",
    "test_curves",
    "training_curves",
    "volume_against_data",
    "volumes",
]
