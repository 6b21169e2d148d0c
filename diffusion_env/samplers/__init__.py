"""Samplers: noise schedules, step tables, the Gaussian law of a step, and the walk from noise to data."""
