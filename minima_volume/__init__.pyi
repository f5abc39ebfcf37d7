from . import plots
from .analysis import (
    aggregate,
    analyze,
    collect,
    comparison_table,
    describe,
    mass_comparisons,
    mass_table,
    order_table,
    paired_differences,
    scaling_law,
    select,
    verdicts,
    volume_table,
)
from .config import Config, load_config
from .curvature import OtherViews, ViewSettings, other_views, views_table
from .errors import MinimaVolumeError
from .files import read_json, read_npz
from .perturbation import estimate_sweep, load_wiggle_results, read_sweep, sweep
from .perturbation.held_out import held_out_curves
from .perturbation.plane import run_plane, three_of
from .runs import find_runs, new_runs, open_run, seed_pairs, stage_states
from .runs.clean import clean_all, describe_cleaning
from .runs.pipeline import outcome_table, raise_failures, run_pipeline
from .runs.propagate import describe_propagation, propagate
from .runs.status import status_table
from .runs.update import describe_differences, describe_updates, differences, update_runs
from .training import load_models_and_data, measure_test_accuracies, train_models
from .training.train import prepare_data
from .volume import (
    LocalVolume,
    VolumeEstimate,
    VolumeProfile,
    cutoffs,
    describe_thresholds,
    estimate_masses,
    estimate_volumes,
    load_results,
    measure_masses,
    measure_volume,
    suggest_run_sigma,
    suggest_sigma,
    trivial_loss,
)
from .volume.across import masses_across

__all__ = [
    "Config",
    "LocalVolume",
    "MinimaVolumeError",
    "OtherViews",
    "ViewSettings",
    "VolumeEstimate",
    "VolumeProfile",
    "aggregate",
    "analyze",
    "clean_all",
    "collect",
    "comparison_table",
    "cutoffs",
    "describe",
    "describe_cleaning",
    "describe_differences",
    "describe_propagation",
    "describe_thresholds",
    "describe_updates",
    "differences",
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
    "masses_across",
    "measure_masses",
    "measure_test_accuracies",
    "measure_volume",
    "new_runs",
    "open_run",
    "order_table",
    "other_views",
    "outcome_table",
    "paired_differences",
    "plots",
    "prepare_data",
    "propagate",
    "raise_failures",
    "read_json",
    "read_npz",
    "read_sweep",
    "run_pipeline",
    "run_plane",
    "scaling_law",
    "seed_pairs",
    "select",
    "stage_states",
    "status_table",
    "suggest_run_sigma",
    "suggest_sigma",
    "sweep",
    "three_of",
    "train_models",
    "trivial_loss",
    "update_runs",
    "verdicts",
    "views_table",
    "volume_table",
]
