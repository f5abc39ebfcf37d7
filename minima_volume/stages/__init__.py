"""The stages of a run: everything that knows a run folder."""
