"""A saved process continues bit for bit; a process of other sizes refuses it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusion_env.checkpoints import load_checkpoint, save_checkpoint
from diffusion_env.data.dataset import Dataset
from diffusion_env.process import DenoisingProcess
from tests.support import make_process, noise, same


class TestResume:
    def run(self, process: DenoisingProcess, start: int, stop: int) -> list[Tensor]:
        seen = []
        for i in range(start, stop):
            if process.done.any():
                process.reset(process.done)
            outcome = process.step(noise(process, i))
            seen += [outcome.x.clone(), outcome.reward.clone()]
        return seen

    @pytest.mark.parametrize("critic", ["baseline", "gradient_penalty"])
    def test_bit_for_bit_through_a_file(self, ring: Dataset, tmp_path: Path, critic: str) -> None:
        process = make_process(ring, 60, 2, critic)
        self.run(process, 0, 7)
        state = {"process": process.state_dict(), "critic": process.critic.state_dict()}
        path = save_checkpoint(tmp_path / "run", state, {})
        expected = self.run(process, 7, 14)

        loaded, _ = load_checkpoint(path)
        resumed, control = make_process(ring, 60, 2, critic, seed=9), make_process(ring, 60, 2, critic, seed=9)
        for other in (resumed, control):
            other.load_state_dict(loaded["process"])
        resumed.critic.load_state_dict(loaded["critic"])
        assert same(self.run(resumed, 7, 14), expected)
        assert not same(self.run(control, 7, 14), expected)  # control: without the critic's state

    def test_the_state_is_a_copy(self, ring: Dataset) -> None:
        process = make_process(ring, 1)
        process.reset()
        state = process.state_dict()
        kept = state["states"].clone()
        self.run(process, 0, 2)
        assert torch.equal(state["states"], kept)
        process.load_state_dict(state)
        self.run(process, 0, 2)
        assert torch.equal(state["states"], kept) and int(state["k"]) == 0

    def test_other_sizes_are_refused(self, ring: Dataset) -> None:
        state = make_process(ring, 4, 3).state_dict()
        for other in (make_process(ring, 5, 3), make_process(ring, 4, 2), make_process(ring, 4, 3, "baseline")):
            with pytest.raises(ValueError, match="arguments of the saved run"):
                other.load_state_dict(state)
