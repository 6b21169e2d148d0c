"""The shape of the code, held by walking its syntax trees: who imports whom, what nobody uses, how long it is.

A rule is a function of one module's dotted name and source that returns its violations. Every rule is shown
to find what it forbids in a made-up module, and to leave a similar allowed one alone.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest

from agents.algorithms.presets import AGENTS
from agents.zoo import agent_class

ROOT = Path(__file__).resolve().parent.parent
CODE = ("diffusion_env", "agents", "benchmarks")

FLOORS: dict[str, tuple[str, ...]] = {
    "diffusion_env": (
        "checkpoints fields seeds shards",
        "samplers",
        "config",
        "networks",
        "data",
        "denoisers",
        "critics",
        "evaluation",
        "checks scores step_counts unseen_samples",
        "process",
        "assembly",
        "rendering",
        "env vector_env",
    ),
    "diffusion_env.checkpoints": ("atomic", "format restoring", "foreign"),
    "diffusion_env.data": (
        "distributions archives pictures pixels places batches",
        "dataset files idx cifar",
        "celeba",
        "image_sets",
        "named",
    ),
    "diffusion_env.evaluation": ("metrics two_sample refitted", "protocol"),
    "diffusion_env.networks": ("layers", "conv spectral", "bodies"),
    "diffusion_env.critics": (
        "base",
        "trained mmd frozen keywords",
        "energy wasserstein baseline",
        "factory",
    ),
    "diffusion_env.samplers": ("schedules", "law predictions", "tables", "named", "denoiser", "walk"),
    "diffusion_env.denoisers": (
        "base features",
        "mlp mixture unet dit",
        "diffusers_folder official",
        "loading exporting",
        "pretraining",
    ),
    "agents": ("core", "algorithms", "runs", "sb3", "zoo", "tuning", "commands", "cli"),
    "agents.core": (
        "task spaces config compilation logs ranks sanity shapes value headers",
        "policy",
        "advantages losses optimization rollout",
        "diagnostics learning persistence",
        "together",
        "ipm_agent algorithm",
        "stacking",
        "many",
    ),
    "agents.algorithms": ("config", "presets spaces stein", "policy_gradient dxdp pathwise entry"),
    "agents.runs": (
        "clock figures divergence lock logs saving signals",
        "callbacks processes untouched",
        "folder function report",
    ),
    "agents.sb3": (
        "vec_env samplers callbacks spaces",
        "counting policies relabelling starts",
        "registry saving",
        "run",
        "entry",
    ),
    "agents.tuning": ("trials", "study"),
    "agents.commands": ("options", "evaluate pretrain train", "data demo export sample tune"),
    "benchmarks": ("seeds", "comparison", "speed", "compare toy"),
    "benchmarks.comparison": (
        "markdown manifest pool statistics results options tuned",
        "grid",
        "record protocol samplers",
        "grids toy_grid scores runner",
        "tables toy_report",
        "figures stranger",
        "report",
    ),
    "benchmarks.speed": ("iteration official", "native sb3 many", "__main__"),
}
"""The rooms of a folder from the ground up; those of one floor, separated by a space, know nothing of each other."""
ABOVE = {
    "diffusion_env": ("agents", "benchmarks", "tests"),
    "agents": ("benchmarks", "tests", "diffusion_env.process"),
    "benchmarks": ("tests",),
    "tests": ("tests",),
}
SHARED_BY_TESTS = ("tests.support",)
WITHOUT_TORCHVISION = ("torchvision", "torch_fidelity", "pytorch_fid", "cleanfid", "lpips")
UNSAFE = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "torch.load", "torch.save")
HEAVY = ("sklearn", "matplotlib", "ot", "torchmetrics", "diffusers", "tensorboard", "stable_baselines3")
MAX_FILE_LINES = 300
ONE_IDEA = {
    "agents.core.ipm_agent": "every algorithm is one class above this one, so its joints and the verbs are one class",
}
"""Files that may be longer, `MAX_ONE_IDEA_LINES`, and why they are not cut."""
MAX_ONE_IDEA_LINES = 570
MAX_ALGORITHM_LINES = 265
MAX_SHARED_LINES = 10

MAX_FUNCTION_LINES = 60

Rule = Callable[[str, str], list[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def within(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def imports(module: str, source: str) -> set[str]:
    """Absolute dotted names imported anywhere in the source, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, node.module] if node.module else parents)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def imports_point_down(module: str, source: str) -> list[str]:
    above = ABOVE[module.split(".")[0]]
    return [name for name in imports(module, source) if within(name, above) and not within(name, SHARED_BY_TESTS)]


def no_arrow_runs_back_up(module: str, source: str) -> list[str]:
    """A room imports what lies below it in its folder, and never the room itself through its package."""
    found = []
    for folder, floors in FLOORS.items():
        if within(module, (folder,)) and module != f"{folder}.__init__":
            own = floor_of(module, folder, floors)
            for name in imports(module, source):
                if within(name, (folder,)) and name.count(".") > folder.count("."):
                    theirs = floor_of(name, folder, floors)
                    if theirs[0] > own[0] or (theirs[0] == own[0] and theirs[1] != own[1]):
                        found.append(name)
    return found


def floor_of(name: str, folder: str, floors: tuple[str, ...]) -> tuple[int, str]:
    """Number of the floor, and the room; a room in no list stands above all, so that it must be put into one."""
    room = name.removeprefix(f"{folder}.").split(".")[0]
    return next((i for i, floor in enumerate(floors) if room in floor.split()), len(floors)), room


def submodules_do_not_import_the_package_root(module: str, source: str) -> list[str]:
    """``from diffusion_env import make_critic`` inside the package is a cycle, and hides what is used."""
    if not within(module, ("diffusion_env",)):
        return []
    known = {module_name(path).removesuffix(".__init__") for path in sources("diffusion_env")}
    own = {name for name in imports(module, source) if within(name, ("diffusion_env",))}
    return [name for name in own if name.count(".") < 2 and name not in known - {"diffusion_env"}]


def nothing_needs_torchvision(module: str, source: str) -> list[str]:
    return [name for name in imports(module, source) if within(name, WITHOUT_TORCHVISION)]


def nothing_unpickles(module: str, source: str) -> list[str]:
    """`torch.load` only as a call with ``weights_only=True`` written out: it then rebuilds tensors and containers."""
    nodes = list(ast.walk(ast.parse(source)))
    keywords = [node for node in nodes if isinstance(node, ast.keyword)]
    safe = {id(node.func) for node in nodes if isinstance(node, ast.Call) and loads_weights_alone(node)}
    read = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and id(node) not in safe]
    used = [name for name in [*imports(module, source), *read] if within(name, UNSAFE)]
    allowed = [f"line {node.value.lineno}" for node in keywords if ast.unparse(node) == "allow_pickle=True"]
    return used + allowed


def loads_weights_alone(call: ast.Call) -> bool:
    return ast.unparse(call.func) == "torch.load" and "weights_only=True" in map(ast.unparse, call.keywords)


def files_are_short(module: str, source: str) -> list[str]:
    lines, limit = len(source.splitlines()), MAX_ONE_IDEA_LINES if module in ONE_IDEA else MAX_FILE_LINES
    return [f"{lines} lines"] if lines > limit else []


def an_algorithm_is_short(module: str, source: str) -> list[str]:
    lines = len(source.splitlines())
    return [f"{lines} lines"] if within(module, ("agents.algorithms",)) and lines > MAX_ALGORITHM_LINES else []


def functions_are_short(module: str, source: str) -> list[str]:
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f"{f.name}: {lines_of(f)} lines" for f in functions if lines_of(f) > MAX_FUNCTION_LINES]


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    return length(function) - (length(docstring) if docstring else 0)


def length(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def files_are_named_for_what_they_hold(module: str, source: str) -> list[str]:
    name = module.split(".")[-1]
    return [name] if name in {"utils", "util", "helpers", "misc", "common"} else []


def nobody_compares_the_name_of_a_critic(module: str, source: str) -> list[str]:
    """What must be known of a critic is an attribute of it: a comparison with a name excludes every other critic."""
    if within(module, ("diffusion_env.critics",)):
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        compared += [node.subject] if isinstance(node, ast.Match) else []
        names = [ast.unparse(one) for one in compared if isinstance(one, ast.Attribute) and one.attr == "name"]
        found += [name for name in names if "critic" in name.lower()]
    return found


def function_of(statements: int, docstring_lines: int = 0) -> str:
    docstring = [f'    """{"x" + chr(10) * docstring_lines}"""'] if docstring_lines else []
    return "\n".join(["def f():", *docstring, *["    a = 1"] * statements])


ENV, AGENT, IPM_AGENT = "diffusion_env.env", "agents.algorithms.policy_gradient", "agents.core.ipm_agent"
# rule: (a module that breaks it, its source), (a module that does not, its source)
CASES: dict[Rule, list[tuple[tuple[str, str], tuple[str, str]]]] = {
    imports_point_down: [
        ((ENV, "from agents.core.config import Config"), (AGENT, "from agents.core.config import Config")),
        ((ENV, "def f():\n    import benchmarks.toy"), (ENV, "import agentsmith")),
        ((AGENT, "import benchmarks"), ("benchmarks.run", "import benchmarks.comparison.grids, agents.cli")),
        ((AGENT, "from diffusion_env import process"), (AGENT, "from diffusion_env import samplers")),
        (("benchmarks.run", "from tests import x"), ("tests.benchmarks.test_a", "import benchmarks.run")),
        (("tests.agents.test_a", "from .test_b import f"), ("tests.agents.test_a", "from agents import f")),
        (("tests.agents.test_a", "from tests.agents import f"), ("tests.agents.test_a", "from tests.support import f")),
    ],
    no_arrow_runs_back_up: [
        (("diffusion_env.data.named", "from ..critics import base"), (ENV, "from . import critics")),
        (
            ("diffusion_env.samplers.walk", "from .. import process"),
            ("diffusion_env.samplers.walk", "from . import law"),
        ),
        (("diffusion_env.checks", "from .new import A"), ("diffusion_env.checks", "import new")),
        ((ENV, "from .vector_env import A"), (ENV, "from .process import A")),
        (("diffusion_env.critics.mmd", "from ..env import A"), ("diffusion_env.critics.mmd", "from .base import A")),
        (
            ("diffusion_env.samplers.law", "from .tables import A"),
            ("diffusion_env.samplers.tables", "from .law import A"),
        ),
        ((IPM_AGENT, "from agents.zoo import A"), ("agents.zoo", "from agents.core.ipm_agent import A")),
        (("agents.core.rollout", "from .ipm_agent import A"), (IPM_AGENT, "from .rollout import A")),
        ((AGENT, "from .pathwise import A"), (AGENT, "from .presets import A")),
        (("diffusion_env.data.files", "from .named import A"), ("diffusion_env.data.named", "from .files import A")),
    ],
    submodules_do_not_import_the_package_root: [
        ((ENV, "from diffusion_env import make_critic"), (ENV, "from diffusion_env import checkpoints")),
        ((ENV, "import diffusion_env"), (AGENT, "import diffusion_env")),
    ],
    nothing_needs_torchvision: [
        ((AGENT, "def f():\n    from torchvision.utils import make_grid"), (AGENT, "import torch.nn")),
    ],
    nothing_unpickles: [
        ((AGENT, "import pickle"), (AGENT, "import pickles")),
        ((AGENT, "import torch\ntorch.load('a')"), (AGENT, "import json\njson.load('a')")),
        ((AGENT, "torch.load('a', weights_only=only)"), (AGENT, "torch.load('a', weights_only=True)")),
        (
            (AGENT, "f(torch.load, weights_only=True)"),
            (AGENT, "a = torch.load('a', mmap=True, weights_only=True)['b']"),
        ),
        ((AGENT, "from torch import load"), (AGENT, "from json import load")),
        ((AGENT, "np.load(a, allow_pickle=True)"), (AGENT, "np.load(a, allow_pickle=False)")),
    ],
    files_are_short: [
        ((AGENT, "\n" * (MAX_FILE_LINES + 1)), (AGENT, "\n" * MAX_FILE_LINES)),
        ((IPM_AGENT, "\n" * (MAX_ONE_IDEA_LINES + 1)), (IPM_AGENT, "\n" * (MAX_FILE_LINES + 1))),
    ],
    an_algorithm_is_short: [
        ((AGENT, "\n" * (MAX_ALGORITHM_LINES + 1)), (AGENT, "\n" * MAX_ALGORITHM_LINES)),
        ((AGENT, "\n" * (MAX_ALGORITHM_LINES + 1)), (ENV, "\n" * (MAX_ALGORITHM_LINES + 1))),
    ],
    functions_are_short: [
        ((AGENT, function_of(MAX_FUNCTION_LINES)), (AGENT, function_of(MAX_FUNCTION_LINES - 1))),
        ((AGENT, function_of(MAX_FUNCTION_LINES, 9)), (AGENT, function_of(MAX_FUNCTION_LINES - 1, 9))),
    ],
    nobody_compares_the_name_of_a_critic: [
        (
            (AGENT, "if self.envs.critic.name == 'baseline': a = 1"),
            (AGENT, "if self.envs.critic.wants_trajectory: a = 1"),
        ),
        ((AGENT, "a = 'mmd' != critic.name"), (AGENT, "a = 'mmd' != dataset.name")),
        ((ENV, "a = made_critic.name in ('mmd', 'energy')"), (ENV, "a = made_critic.name")),
        (
            (ENV, "match critic.name:\n    case 'mmd': a = 1"),
            ("diffusion_env.critics.factory", "a = critic.name == 'b'"),
        ),
    ],
    files_are_named_for_what_they_hold: [(("agents.utils", ""), ("agents.core.losses", ""))],
}
CONTROLS = [(rule, *case) for rule, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.__name__)
def test_the_code_keeps(rule: Rule) -> None:
    folders = (*CODE, "tests") if rule is imports_point_down else CODE
    assert {
        name: violations
        for path in sources(*folders)
        if (violations := rule(name := module_name(path), path.read_text(encoding="utf-8")))
    } == {}


@pytest.mark.parametrize(("rule", "broken", "fine"), CONTROLS)
def test_negative_control(rule: Rule, broken: tuple[str, str], fine: tuple[str, str]) -> None:
    assert rule(*broken)
    assert not rule(*fine)


def test_the_walk_sees_the_code() -> None:
    names = {module_name(path) for path in sources(*CODE)}
    assert {"diffusion_env.__init__", "diffusion_env.samplers.tables", "diffusion_env.critics.base"} <= names


def code_lines(source: str) -> list[str]:
    """The lines that count: neither blank, nor part of an import."""
    imported = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return [line.strip() for i, line in enumerate(source.splitlines(), 1) if line.strip() and i not in imported]


def passages(source: str) -> set[tuple[str, ...]]:
    """Every run of just more than `MAX_SHARED_LINES` lines."""
    lines, size = code_lines(source), MAX_SHARED_LINES + 1
    return {tuple(lines[i : i + size]) for i in range(len(lines) - size + 1)}


def own_floors(cls: type) -> list[str]:
    """The classes of this project that ``cls`` is made of, itself first."""
    return [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__ if within(base.__module__, CODE)]


@pytest.mark.parametrize("name", AGENTS)
def test_an_algorithm_is_one_class_above_the_agent(name: str) -> None:
    cls = agent_class(name)
    assert own_floors(cls) == [AGENTS[name].replace(":", "."), "agents.core.ipm_agent.IPMAgent"]


def test_negative_control_a_third_floor_is_seen() -> None:
    class Third(agent_class("sft_pg")):  # type: ignore[misc]
        __module__ = "agents.third"

    assert len(own_floors(Third)) == 3


def test_no_two_agents_share_a_passage() -> None:
    paths = [path for path in sources("agents") if path.parent.name in ("core", "algorithms", "sb3")]
    assert {"policy_gradient.py", "vec_env.py"} <= {path.name for path in paths}
    found = {module_name(path): passages(path.read_text(encoding="utf-8")) for path in paths}
    shared = {(a, b): sorted(run[0] for run in found[a] & found[b]) for a, b in combinations(found, 2)}
    assert {pair: first_lines for pair, first_lines in shared.items() if first_lines} == {}


def test_negative_control_a_copied_passage_is_found() -> None:
    def text(lines: int, before: str = "", between: str = "") -> str:
        return before + between.join(f"a{i} = {i}\n" for i in range(lines))

    limit = MAX_SHARED_LINES
    assert passages(text(limit + 1)) & passages(text(limit + 1, "import os\nb = 1\n", "\n"))
    assert not passages(text(limit)) & passages(text(limit + 1))
    names = ",\n".join(f"name{i}" for i in range(2 * limit))
    assert not passages(f"from a import ({names})")


def loaded_after(statement: str) -> set[str]:
    """Top-level modules of `HEAVY` that a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_environment_is_light() -> None:
    assert loaded_after("import diffusion_env") == set()


def test_negative_control_of_the_light_import() -> None:
    assert "matplotlib" in loaded_after("import diffusion_env, matplotlib")
