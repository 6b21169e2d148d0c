"""Grids of runs: algorithms, tasks, seeds, and their reports."""
