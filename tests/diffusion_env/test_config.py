"""Configurations of pretraining and evaluation: frozen, described, checked, and loaded without torch."""

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from diffusion_env.config import EvaluationConfig, PretrainConfig
from diffusion_env.denoisers.loading import DENOISERS
from diffusion_env.samplers.predictions import PREDICTIONS
from diffusion_env.samplers.schedules import SCHEDULES


@pytest.mark.parametrize("change", [{"seeds": ()}, {"num_samples": 1}, {"w1_samples": 0}, {"sample_batch": 0}])
def test_an_empty_protocol_is_refused(change: dict[str, Any]) -> None:
    message = "at least one seed" if "seeds" in change else r"must be an integer (>= 2|in \[2, 16777216\]); received"
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**change)
    with pytest.raises(ValueError, match=message):
        replace(EvaluationConfig(), **change)


@pytest.mark.parametrize("config", [EvaluationConfig(), PretrainConfig()])
def test_they_are_frozen(config: EvaluationConfig | PretrainConfig) -> None:
    with pytest.raises(AttributeError):
        setattr(config, fields(config)[0].name, 3)


def test_the_default_names_are_in_the_tables() -> None:
    config = PretrainConfig()
    assert config.kind in DENOISERS and config.schedule in SCHEDULES and config.prediction in PREDICTIONS


@pytest.mark.parametrize(("statement", "loads"), [("import diffusion_env.config", False), ("import torch", True)])
def test_it_is_loaded_without_torch(statement: str, loads: bool) -> None:
    script = f"{statement}\nimport sys\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loads)
