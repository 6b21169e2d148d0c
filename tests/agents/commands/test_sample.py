"""The subcommand sample: what it writes is what the agent draws, and a data set again."""

from pathlib import Path

import numpy as np
import pytest

from agents.cli import main
from agents.zoo import load_agent
from diffusion_env.data.named import load_dataset


def call(words: str) -> int:
    return main(f"sample {words}".split())


def test_the_file_holds_the_samples_of_the_seed(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {seed: tmp_path / f"new/{seed}.npz" for seed in (0, 1)}
    for seed, path in paths.items():
        assert call(f"--checkpoint {checkpoint} --n 9 --seed {seed} --output {path}") == 0
        np.testing.assert_array_equal(np.load(path)["x"], load_agent(checkpoint).sample(9, seed).numpy())
    assert not np.array_equal(np.load(paths[0])["x"], np.load(paths[1])["x"])
    assert "float32 (9, 2), data units" in capsys.readouterr().out


def test_the_ending_is_added_and_an_older_file_is_replaced(checkpoint: Path, tmp_path: Path) -> None:
    for n in (3, 4):
        assert call(f"--checkpoint {checkpoint} --n {n} --output {tmp_path}/drawn") == 0
        assert len(np.load(tmp_path / "drawn.npz")["x"]) == n
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.npz"]


def test_the_file_is_a_data_set(checkpoint: Path, tmp_path: Path) -> None:
    assert call(f"--checkpoint {checkpoint} --n 300 --output {tmp_path}/drawn") == 0
    assert load_dataset(str(tmp_path / "drawn.npz")).shape == (2,)


@pytest.mark.parametrize("n", [0, -1])
def test_no_samples_are_refused(n: int, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"--checkpoint {checkpoint} --n {n} --output {tmp_path}/drawn") == 2
    assert f"at least 1; received {n}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
