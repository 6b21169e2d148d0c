"""Evaluation: one protocol that measures any sampler against fresh data, and the floor of fresh data itself."""

from diffusion_env.config import EvaluationConfig
from diffusion_env.evaluation.protocol import FreshPoints, Sample, draw_fresh, evaluate, floor, mean_interval

__all__ = ["EvaluationConfig", "FreshPoints", "Sample", "draw_fresh", "evaluate", "floor", "mean_interval"]
