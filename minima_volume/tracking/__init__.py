"""Telling an experiment tracker (MLflow) what happens: written to a journal first, sent by a process of its own, or later."""
