from . import plots
from .analysis import (
    aggregate,
    collect,
    comparison_table,
    cutoff_table,
    describe_order,
    mass_comparisons,
    mass_table,
    order_table,
    paired_differences,
    readable,
    scaling_law,
    select,
    subject,
    training_table,
    verdicts,
    volume_table,
)
from .config.run import Config, load_config
from .curvature import OtherViews, ViewSettings, other_views
from .errors import MinimaVolumeError
from .files.atomic import read_json, read_npz
from .perturbation.slices import LineSlice, PlaneSlice, slice_line, slice_plane
from .reports import analyze, describe, describe_run
from .reports.thresholds import describe_thresholds
from .runs import new_runs, seed_pairs, stage_states
from .runs.clean import clean_all, describe_cleaning
from .runs.conditions import find_condition
from .runs.pipeline import outcome_table, raise_failures, run_pipeline
from .runs.propagate import describe_propagation, propagate
from .runs.status import status_table
from .runs.update import describe_differences, describe_updates, differences, update_runs
from .stages.accuracy import measure_test_accuracies
from .stages.cliff import masses_across
from .stages.cutoffs import cutoffs
from .stages.held_out import held_out_curves
from .stages.masses import estimate_masses, measure_masses
from .stages.open import open_run
from .stages.plane import run_plane, three_of
from .stages.radii import estimate_volumes
from .stages.results.older_formats import load_results
from .stages.run import find_runs
from .stages.sigma import suggest_run_sigma
from .stages.sweep import estimate_sweep, sweep
from .stages.sweep_files import load_wiggle_results, read_sweep
from .stages.train import prepare_data, train_models
from .stages.trained import load_models_and_data
from .stages.views import views_table
from .volume import (
    Gaussian,
    LocalVolume,
    Rays,
    VolumeComparison,
    VolumeEstimate,
    VolumeProfile,
    Volumes,
    compare,
    compare_all,
    load,
    measure_volume,
    measure_volumes,
    suggest_sigma,
    table,
    trivial_loss,
)

__version__: str

__all__ = [
    "Config",
    "Gaussian",
    "LineSlice",
    "LocalVolume",
    "MinimaVolumeError",
    "OtherViews",
    "PlaneSlice",
    "Rays",
    "ViewSettings",
    "VolumeComparison",
    "VolumeEstimate",
    "VolumeProfile",
    "Volumes",
    "aggregate",
    "analyze",
    "clean_all",
    "collect",
    "compare",
    "compare_all",
    "comparison_table",
    "cutoff_table",
    "cutoffs",
    "describe",
    "describe_cleaning",
    "describe_differences",
    "describe_order",
    "describe_propagation",
    "describe_run",
    "describe_thresholds",
    "describe_updates",
    "differences",
    "estimate_masses",
    "estimate_sweep",
    "estimate_volumes",
    "find_condition",
    "find_runs",
    "held_out_curves",
    "load",
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
    "measure_volumes",
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
    "readable",
    "run_pipeline",
    "run_plane",
    "scaling_law",
    "seed_pairs",
    "select",
    "slice_line",
    "slice_plane",
    "stage_states",
    "status_table",
    "subject",
    "suggest_run_sigma",
    "suggest_sigma",
    "sweep",
    "table",
    "three_of",
    "train_models",
    "training_table",
    "trivial_loss",
    "update_runs",
    "verdicts",
    "views_table",
    "volume_table",
]
