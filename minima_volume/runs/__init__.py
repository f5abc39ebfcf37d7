"""Run folders: create, open, execute, look at, clean."""

from minima_volume.layout import find_runs
from minima_volume.runs.create import new_folder, new_runs, seed_pairs, sync_notebooks
from minima_volume.runs.folder import open_run
from minima_volume.runs.stages import stage_states

__all__ = ["find_runs", "new_folder", "new_runs", "open_run", "seed_pairs", "stage_states", "sync_notebooks"]
