from . import plots
from .analysis import analyze, comparison_table, describe, mass_comparisons, mass_table, select, verdicts, volume_table
from .config import Config, load_config
from .curvature import OtherViews, ViewSettings, other_views, views_table
from .errors import MinimaVolumeError
from .files import read_json, read_npz
from .perturbation import estimate_sweep, load_wiggle_results, read_sweep, sweep
from .perturbation.held_out import held_out_curves
from .runs import find_runs, new_runs, open_run, seed_pairs, stage_states
from .runs.clean import clean_all, describe_cleaning
from .runs.pipeline import outcome_table, raise_failures, run_pipeline
from .runs.propagate import describe_propagation, propagate
from .runs.status import status_table
from .training import load_models_and_data, measure_test_accuracies, train_models
from .training.train import prepare_data
from .volume import (
    LocalVolume,
    VolumeEstimate,
    VolumeProfile,
    cutoffs,
    estimate_masses,
    estimate_volumes,
    load_results,
    measure_masses,
    measure_volume,
    suggest_sigma,
)

__all__ = [
    "Config",
    "LocalVolume",
    "MinimaVolumeError",
    "OtherViews",
    "ViewSettings",
    "VolumeEstimate",
    "VolumeProfile",
    "analyze",
    "clean_all",
    "comparison_table",
    "cutoffs",
    "describe",
    "describe_cleaning",
    "describe_propagation",
    "estimate_masses",
    "estimate_sweep",
    "estimate_volumes",
    "find_runs",
    "held_out_curves",
    "load_config",
    "load_models_and_data",
    "load_results",
    "load_wiggle_results",
    "mass_comparisons",
    "mass_table",
    "measure_masses",
    "measure_test_accuracies",
    "measure_volume",
    "new_runs",
    "open_run",
    "other_views",
    "outcome_table",
    "plots",
    "prepare_data",
    "propagate",
    "raise_failures",
    "read_json",
    "read_npz",
    "read_sweep",
    "run_pipeline",
    "seed_pairs",
    "select",
    "stage_states",
    "status_table",
    "suggest_sigma",
    "sweep",
    "train_models",
    "verdicts",
    "views_table",
    "volume_table",
]
