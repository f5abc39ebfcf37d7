"""Where samples come from, and how they are varied."""

from minima_volume.data.dataset import SOURCES, Dataset, load_dataset, make_dataset, save_dataset
from minima_volume.data.pool import Pool

__all__ = ["SOURCES", "Dataset", "Pool", "load_dataset", "make_dataset", "save_dataset"]
