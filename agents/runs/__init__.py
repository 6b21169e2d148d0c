"""Runs: what watches a training run and what it leaves on disk."""
