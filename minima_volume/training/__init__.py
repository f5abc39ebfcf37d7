"""Training, checkpoints and loading."""

from minima_volume.training.loop import History, train_model
from minima_volume.training.second_moments import adam_second_moments

__all__ = [
    "History",
    "adam_second_moments",
    "train_model",
]
