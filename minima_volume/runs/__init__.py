"""Run folders: create, execute, look at, clean. What lies where in one: `stages.run`."""

from minima_volume.runs.create import new_folder, new_runs, seed_pairs, sync_notebooks
from minima_volume.runs.states import stage_states

__all__ = ["new_folder", "new_runs", "seed_pairs", "stage_states", "sync_notebooks"]
