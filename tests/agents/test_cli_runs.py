"""Every subcommand end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents import SFTPG
from agents.algorithms.presets import PRESETS
from agents.cli import main
from agents.commands.train import recorded_options
from agents.runs.callbacks import Checkpoint, SamplerEvaluation
from agents.runs.folder import RunFolder
from agents.zoo import find, load_agent
from diffusion_env.checkpoints import load_checkpoint
from diffusion_env.denoisers.mlp import EpsMLP

ITERATION = 4 * 2 * 5  # environment steps: 4 environments, K = 2, n_critic = 5


@pytest.fixture(scope="module")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A user's own .npz of small pictures, and the network pretrained on it from the command line."""
    folder = tmp_path_factory.mktemp("images")
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images)
    sizes = "--num-updates 3 --batch-size 8 --width 8 --num-levels 20"
    assert call("pretrain", "--dataset", folder / "images.npz", "--output", folder / "net", *sizes.split()) == 0
    return folder / "images.npz", folder / "net.safetensors"


def call(*words: object) -> int:
    return main([str(word) for word in words])


def train_words(dataset: Path, denoiser: Path, output: Path, iterations: int = 4) -> list[str]:
    sizes = f"--num-envs 4 --num-steps 2 --total-timesteps {iterations * ITERATION}"
    intervals = "--measure-every 2 --measure-samples 20 --checkpoint-every 2 --log-interval 1 --no-progress-bar"
    paths = f"--dataset {dataset} --denoiser {denoiser} --output {output}"
    return ["train", *paths.split(), *sizes.split(), *intervals.split()]


def test_pretrain_writes_a_network_that_says_where_it_comes_from(image_files: tuple[Path, Path]) -> None:
    assert EpsMLP.load(image_files[1]).shape == (1, 8, 8)
    _, metadata = load_checkpoint(image_files[1])
    assert metadata["dataset"] == "images"
    assert (metadata["pretrain"]["num_updates"], metadata["pretrain"]["width"]) == (3, 8)


def test_train_evaluate_and_sample_a_users_images(
    image_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result, samples = tmp_path / "run", tmp_path / "result.json", tmp_path / "samples.npz"
    assert main([*train_words(*image_files, run), "--algo", "sft_pg_paper", "--gae-lambda", "0.5"]) == 0
    config = RunFolder(run).config
    assert config["command"].startswith("ddpm-shortcut train --dataset")
    assert (config["seed"], config["options"]["task"]["num_steps"]) == (0, 2)
    assert (config["options"]["algorithm"]["minibatch_size"], config["options"]["algorithm"]["gae_lambda"]) == (
        128,
        0.5,
    )
    assert [line["time/iterations"] for line in RunFolder(run).metrics() if "time/iterations" in line] == [1, 2, 3, 4]

    sizes = "--seeds 0 1 --num-samples 20 --w1-samples 20 --refit-steps 5 --samplers ddpm-5 ddim-2"
    assert call("evaluate", "--checkpoint", run, *sizes.split(), "--output", result) == 0
    written = json.loads(result.read_text())
    assert [row["name"] for row in written["rows"]] == ["DDPM-5", "DDIM-2", "SFT-PG-2"]
    assert written["floor"]["sw2_low"] <= written["floor"]["sw2_mean"] <= written["floor"]["sw2_high"]
    assert "floor" in capsys.readouterr().out

    assert call("sample", "--checkpoint", run, "--n", 7, "--output", samples) == 0
    drawn = np.load(samples)["x"]
    assert drawn.shape == (7, 1, 8, 8)
    np.testing.assert_array_equal(drawn, SFTPG.load(run / "checkpoint", trust_paths=True).sample(7, seed=0).numpy())


@pytest.mark.parametrize(("algo", "name"), [("pathwise", "PATHWISE-2"), ("sft_pg_paper", "SFT-PG-2")])
def test_every_family_is_trained_evaluated_and_sampled(
    points_file: Path, denoiser_file: Path, tmp_path: Path, algo: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([*train_words(points_file, denoiser_file, run, 1), "--algo", algo]) == 0
    assert PRESETS[algo].config == recorded_options(RunFolder(run)).algorithm
    sizes = "--seeds 0 --num-samples 50 --w1-samples 20 --refit-steps 5"
    assert call("evaluate", "--checkpoint", run, *sizes.split()) == 0
    assert name in capsys.readouterr().out
    assert call("sample", "--checkpoint", run, "--n", 5, "--output", tmp_path / "samples") == 0
    drawn = np.load(tmp_path / "samples.npz")["x"]
    agent = load_agent(run / "checkpoint.safetensors", trust_paths=True)
    assert agent.name == PRESETS[algo].agent
    np.testing.assert_array_equal(drawn, agent.sample(5, seed=0).numpy())


FIVE = "--n-critic 5 --n-critic-exponent 0"  # the iteration of ITERATION steps
FAMILIES = [
    f"--gae-lambda 0.9 {FIVE}",
    "--algo dxdp --velocity-coef 0.1 --std learned",
    f"--algo pathwise --backprop-steps 1 --gradient-checkpointing {FIVE}",
]


@pytest.mark.parametrize("words", FAMILIES)
def test_resume_equals_the_uninterrupted_run(
    points_file: Path, denoiser_file: Path, tmp_path: Path, words: str
) -> None:
    for name in ("whole", "killed"):
        assert main([*train_words(points_file, denoiser_file, tmp_path / name), *words.split()]) == 0
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    interrupt_in_iteration_3(killed)
    assert load_checkpoint(killed.checkpoint)[0]["counters"][1] == 2
    assert call("train", "--resume", killed.path) == 0
    assert killed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    seconds = ("time/fps", "time/time_elapsed", "time/train_seconds", "time/train_cpu_seconds")
    lines = [[{k: v for k, v in line.items() if k not in seconds} for line in run.metrics()] for run in (whole, killed)]
    assert lines[0] == lines[1]


def interrupt_in_iteration_3(run: RunFolder) -> None:
    """Start the run in this folder anew, with its own options, and stop it as a kill would."""

    class Kill(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps > 3 * iteration:
                raise KeyboardInterrupt
            return True

    options = recorded_options(run)
    algorithm = find(options.algo).make(options.task, options.seed, options.changes)
    iteration = algorithm.iteration_timesteps
    algorithm.set_logger(run.logger())
    with pytest.raises(KeyboardInterrupt):
        algorithm.learn(
            options.total_timesteps,
            [SamplerEvaluation(2 * iteration, 20), Checkpoint(run.path, 2 * iteration), Kill()],
            options.log_interval,
        )


def test_resume_of_a_finished_run_does_nothing(
    points_file: Path, denoiser_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_words(points_file, denoiser_file, tmp_path / "run", 1)) == 0
    before = (tmp_path / "run" / "progress.json").read_text()
    assert call("train", "--resume", tmp_path / "run") == 0
    assert "already trained to its end" in capsys.readouterr().out
    assert (tmp_path / "run" / "progress.json").read_text() == before


def test_runs_are_numbered(
    points_file: Path, denoiser_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = train_words(points_file, denoiser_file, Path("unused"), 1)
    del words[words.index("--output") : words.index("--output") + 2]
    assert main(words) == main(words) == main([*words, "--algo", "rwr"]) == 0
    found = sorted(path.name for path in Path("runs").iterdir())
    assert found == ["rwr-points-2-1", "sft_pg-points-2-1", "sft_pg-points-2-2"]


def test_a_fixed_critic_stays_as_it_is(points_file: Path, denoiser_file: Path, tmp_path: Path) -> None:
    states = []
    for flag in ("--no-train-critic", "--train-critic"):
        for iterations in (1, 3):
            run = tmp_path / f"{flag}{iterations}"
            assert main([*train_words(points_file, denoiser_file, run, iterations), flag]) == 0
            state = load_checkpoint(run / "checkpoint.safetensors")[0]["critic"]
            states.append(next(v for k, v in state.items() if k.endswith("weight")))
    assert (states[0] == states[1]).all()
    assert (states[2] != states[3]).any()  # negative control


@pytest.mark.parametrize("algo", ["sft_pg", "ppo"])
def test_keywords_of_the_critic_reach_it_and_are_resumed(
    algo: str, points_file: Path, denoiser_file: Path, tmp_path: Path
) -> None:
    words = [*train_words(points_file, denoiser_file, tmp_path / "run", 1), "--algo", algo]
    assert main([*words, "--critic-kwargs", "gamma=0.3", "width=24"]) == 0
    assert call("train", "--resume", tmp_path / "run") == 0
    critic = load_agent(tmp_path / "run").critic
    assert (critic.config["gamma"], critic.config["width"]) == (0.3, 24)


def test_a_run_of_stable_baselines3_is_resumed_like_any_other(
    points_file: Path, denoiser_file: Path, tmp_path: Path
) -> None:
    for name in ("whole", "killed"):
        assert main([*train_words(points_file, denoiser_file, tmp_path / name), "--algo", "ppo"]) == 0
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    interrupt_in_iteration_3(killed)
    assert load_agent(killed.path).num_timesteps == 2 * ITERATION
    assert call("train", "--resume", killed.path) == 0
    assert torch.equal(load_agent(killed.path).sample(20, 0), load_agent(whole.path).sample(20, 0))
    curves = [
        [(line["time/total_timesteps"], line["eval/sw2"]) for line in run.metrics() if "eval/sw2" in line]
        for run in (whole, killed)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 3
