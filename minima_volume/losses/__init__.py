"""Losses: per-sample values, margins, and how they read outputs and targets."""
