"""Training, checkpoints and loading."""

from minima_volume.training.accuracy import measure_test_accuracies
from minima_volume.training.loop import History, train_model
from minima_volume.training.second_moments import adam_second_moments
from minima_volume.training.train import Trained, load_models_and_data, train_models

__all__ = [
    "History",
    "Trained",
    "adam_second_moments",
    "load_models_and_data",
    "measure_test_accuracies",
    "train_model",
    "train_models",
]
