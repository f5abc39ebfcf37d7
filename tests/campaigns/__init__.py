"""Attacks on run folders, files and processes, counted: tried, right, wrong."""
