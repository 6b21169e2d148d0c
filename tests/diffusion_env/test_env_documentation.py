"""The single environment's docstring: Gymnasium's sections, an example that runs, every argument and name."""

import doctest
import inspect

import diffusion_env.env as env_module
from diffusion_env.critics import CRITICS
from diffusion_env.data.named import DATASET_NAMES
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.samplers.named import SAMPLERS
from diffusion_env.vector_env import DDPMShortcutVectorEnv


class TestDocumentation:
    SECTIONS = (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    )

    def test_the_sections_in_order(self) -> None:
        lines = inspect.getdoc(DDPMShortcutEnv).splitlines()  # type: ignore[union-attr]
        assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == list(self.SECTIONS)

    def test_the_example_runs(self) -> None:
        failed, tried = doctest.testmod(env_module)
        assert failed == 0 and tried >= 10

    def test_every_argument_is_described_with_its_default(self) -> None:
        doc = inspect.getdoc(DDPMShortcutEnv)
        assert doc is not None
        text = " ".join(doc.split("## Arguments")[1].split())
        for name, parameter in inspect.signature(DDPMShortcutVectorEnv).parameters.items():
            shown = f'"{parameter.default}"' if isinstance(parameter.default, str) else str(parameter.default)
            assert name == "num_envs" or f"`{name}` = {shown}" in text
        assert set(inspect.signature(DDPMShortcutEnv).parameters) < set(
            inspect.signature(DDPMShortcutVectorEnv).parameters
        )

    def test_every_name_is_listed(self) -> None:
        text = inspect.getdoc(DDPMShortcutEnv)
        assert text is not None
        shown = [f'"{name}"' for name in (*DATASET_NAMES, *SAMPLERS, *CRITICS) if name != "frozen"]
        assert [name for name in (*shown, '"frozen:PATH"') if name not in text] == []
