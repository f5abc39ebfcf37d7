"""Training, checkpoints and loading."""

from minima_volume.training.second_moments import adam_second_moments
from minima_volume.training.supervised import History, train_model

__all__ = [
    "History",
    "adam_second_moments",
    "train_model",
]
