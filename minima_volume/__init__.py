"""minima_volume: how large are the minima of a neural network's loss?

Notebooks and scripts need only this namespace::

    import minima_volume as mv

    run = mv.open_run(".", stage="train")      # a run folder
    trained = mv.train_models(run)             # models_and_data/
    mv.sweep(run)                              # data_<landscape>/
    mv.estimate_volumes(run)                   # data_<landscape>/loss_<t>/

    mv.measure_volume(model, x, y, threshold=0.1)   # a model of your own
"""

from minima_volume import plots
from minima_volume.analysis import analyze, describe, select
from minima_volume.config import Config, load_config
from minima_volume.errors import MinimaVolumeError
from minima_volume.files import read_json, read_npz
from minima_volume.perturbation import estimate_sweep, load_wiggle_results, read_sweep, sweep
from minima_volume.perturbation.test_set import test_set_curves
from minima_volume.runs import find_runs, new_runs, open_run, seed_pairs, stage_states
from minima_volume.runs.pipeline import outcome_table, raise_failures, run_pipeline
from minima_volume.training import load_models_and_data, test_accuracies, train_models
from minima_volume.training.train import prepare_data
from minima_volume.volume import VolumeEstimate, cutoffs, estimate_volumes, load_results, measure_volume

__all__ = [
    "Config",
    "MinimaVolumeError",
    "VolumeEstimate",
    "analyze",
    "cutoffs",
    "describe",
    "estimate_sweep",
    "estimate_volumes",
    "find_runs",
    "load_config",
    "load_models_and_data",
    "load_results",
    "load_wiggle_results",
    "measure_volume",
    "new_runs",
    "open_run",
    "outcome_table",
    "plots",
    "prepare_data",
    "raise_failures",
    "read_json",
    "read_npz",
    "read_sweep",
    "run_pipeline",
    "seed_pairs",
    "select",
    "stage_states",
    "sweep",
    "test_accuracies",
    "test_set_curves",
    "train_models",
]
