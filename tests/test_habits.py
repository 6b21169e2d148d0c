"""Habits of tests, names and docstrings, held by walking syntax trees.

A rule is a function of a file's path inside the repository and its source that returns what breaks it. Every rule is
shown to find what it forbids in a made-up file, and to leave a similar allowed one alone.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("diffusion_env", "agents", "benchmarks")
Rule = Callable[[str, str], list[str]]

# --- a module x/y.py has tests/x/test_y.py ---------------------------------------------------------------------------


def python_files(*folders: str) -> list[str]:
    """Paths inside the repository, with slashes."""
    return sorted(path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py"))


def mirrored(module: str) -> str:
    """``x/y.py`` -> ``tests/x/test_y.py``; the underscores of ``__main__`` are left out."""
    path = PurePosixPath(module)
    return f"tests/{path.parent}/test_{path.stem.strip('_')}.py"


def modules_without_a_test(modules: Iterable[str], tests: Iterable[str]) -> list[str]:
    known = set(tests)
    return [one for one in modules if not one.endswith("/__init__.py") and mirrored(one) not in known]


def files_without_a_module(modules: Iterable[str], tests: Iterable[str]) -> list[str]:
    """A test file is called test_y.py, test_y_topic.py, or test_readme.py for the README of its folder."""
    stems = {mirrored(one).removesuffix(".py") for one in modules}
    return [
        one
        for one in tests
        if PurePosixPath(one).stem.startswith("test_") and not one.endswith("/test_readme.py")
        if not any(one.removesuffix(".py") == stem or one.startswith(f"{stem}_") for stem in stems)
    ]


def test_every_module_has_a_test_and_every_test_a_module() -> None:
    modules, tests = python_files(*CODE), python_files(*(f"tests/{folder}" for folder in CODE))
    assert len(modules) > 50 < len(tests)
    assert modules_without_a_test(modules, tests) == []
    assert files_without_a_module(modules, tests) == []


def test_negative_control_of_the_mirror() -> None:
    modules = ["a/b.py", "a/__main__.py", "a/__init__.py", "a/c/d.py"]
    assert modules_without_a_test(modules, ["tests/a/test_b.py", "tests/a/test_d.py"]) == ["a/__main__.py", "a/c/d.py"]
    tests = ["tests/a/test_b_topic.py", "tests/a/test_main.py", "tests/a/test_readme.py", "tests/a/conftest.py"]
    assert files_without_a_module(modules, [*tests, "tests/a/test_bad.py", "tests/a/test_d.py"]) == [
        "tests/a/test_bad.py",
        "tests/a/test_d.py",
    ]


# --- rules of one file -----------------------------------------------------------------------------------------------

NAMEDTUPLE = {"_asdict", "_replace", "_fields", "_make", "_field_defaults"}  # public, in spite of the underscore
NUMBERS = {"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"}
NUMBERS |= {"fourteen", "fifteen", "sixteen", "twenty", "thirty", "hundred", "dozen"}
NOT_COUNTS = ("two_sample", "no_two")  # the name of a statistical test; "no pair"
SHAPE = re.compile(r"\([^()\n]*[*,][^()\n]*\)|\b0-d\b|\bscalars?\b|\b(any|same) shape\b|\bshape of\b")


def nothing_private_is_called(path: str, source: str) -> list[str]:
    """Neither ``object._name`` nor ``from module import _name``, nor by a string; a class may use its own."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found += [alias.name for alias in node.names if is_private(alias.name.split(".")[-1])]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("getattr", "setattr", "patch"):
            words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            found += [word for word in words if is_private(word.split(".")[-1])]
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_" and name not in NAMEDTUPLE


def no_name_counts(path: str, source: str) -> list[str]:
    """The next one that is added makes the number false. Digits that are a constant of the thing itself may stay."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [name for name in [PurePosixPath(path).stem, *names] if counts(name)]


def counts(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for allowed in NOT_COUNTS:
        words = words.replace(allowed, "")
    return bool(NUMBERS & set(words.split("_")))


def tensors_have_shapes(path: str, source: str) -> list[str]:
    """The docstring of a public function names a shape; of ``forward`` and ``__init__`` the class's docstring may."""
    return [
        f"{'' if cls is None else f'{cls.name}.'}{function.name}"
        for function, cls in public_functions(ast.parse(source).body)
        if takes_or_returns_a_tensor(function) and not SHAPE.search(docstring(function, cls))
    ]


def public_functions(
    body: list[ast.stmt], cls: ast.ClassDef | None = None
) -> Iterator[tuple[ast.FunctionDef, ast.ClassDef | None]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, node)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            yield node, cls


def takes_or_returns_a_tensor(function: ast.FunctionDef) -> bool:
    found = function.args
    arguments = [*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg]
    annotations = [function.returns, *(one.annotation for one in arguments if one is not None)]
    return any(re.search(r"\bTensor\b", ast.unparse(one)) for one in annotations if one is not None)


def docstring(function: ast.FunctionDef, cls: ast.ClassDef | None) -> str:
    own = ast.get_docstring(function) or ""
    shared = cls is not None and function.name in ("__init__", "forward")
    return f"{own}\n{ast.get_docstring(cls) or ''}" if shared and cls is not None else own


TEST, MODULE = "tests/agents/test_a.py", "agents/a.py"
RULES: dict[Rule, tuple[str, ...]] = {
    nothing_private_is_called: ("tests",),
    no_name_counts: (*CODE, "tests"),
    tensors_have_shapes: CODE,
}
"""A rule and the folders that keep it."""
CASES: list[tuple[Rule, tuple[str, str], tuple[str, str]]] = [
    (nothing_private_is_called, (TEST, "agent._step()"), (TEST, "agent.step()")),
    (nothing_private_is_called, (TEST, "from agents.a import _step"), (TEST, "from agents.a import step as _step")),
    (nothing_private_is_called, (TEST, "import agents._a"), (TEST, "import agents.a")),
    (nothing_private_is_called, (TEST, "patch.setattr('agents.a._f', 1)"), (TEST, "patch.setattr('agents._a.f', 1)")),
    (nothing_private_is_called, (TEST, "getattr(agent, '_step')"), (TEST, "getattr(agent, 'step')")),
    (nothing_private_is_called, (TEST, "self.agent._step()"), (TEST, "self._step()")),
    (nothing_private_is_called, (TEST, "point._private()"), (TEST, "point._asdict(), point.__dict__")),
    (no_name_counts, (TEST, "def test_all_eight_agents(): pass"), (TEST, "def test_all_agents(): pass")),
    (no_name_counts, (MODULE, "class ThreeCritics: pass"), (MODULE, "class Critics: pass\ndef weighted(): pass")),
    (no_name_counts, ("agents/two_agents.py", ""), ("agents/two_sample.py", "def no_two_are_equal(): pass")),
    (
        tensors_have_shapes,
        (MODULE, 'def f(x: Tensor) -> int:\n    """Of x."""'),
        (MODULE, 'def f(x: Tensor) -> int:\n    """Of x (N, *shape)."""'),
    ),
    (
        tensors_have_shapes,
        (MODULE, 'class A:\n    """Takes (B, D)."""\n    def f(self) -> "torch.Tensor | None":\n        """Of A."""'),
        (MODULE, 'class A:\n    """Takes (B, D)."""\n    def forward(self, x: Tensor): pass\n    def g(self): pass'),
    ),
    (
        tensors_have_shapes,
        (MODULE, 'def f(*xs: Tensor):\n    """A rule (a, sentence.\n    Of) xs (or more)."""'),
        (
            MODULE,
            'def _f(x: Tensor): 1\ndef g() -> Tensor:\n    """A scalar."""\nclass _A:\n    def f(x: Tensor): ...',
        ),
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_files_keep(rule: Rule) -> None:
    found = {path: rule(path, (ROOT / path).read_text(encoding="utf-8")) for path in python_files(*RULES[rule])}
    assert len(found) > 50
    assert {path: broken for path, broken in found.items() if broken} == {}


@pytest.mark.parametrize(("rule", "broken", "fine"), CASES)
def test_negative_control(rule: Rule, broken: tuple[str, str], fine: tuple[str, str]) -> None:
    assert rule(*broken)
    assert not rule(*fine)


# --- what stands in several test files is in tests/support.py --------------------------------------------------------

MIN_LENGTH = 40
"""Characters of a body that is worth a place of its own."""


def copied_helpers(files: dict[str, str]) -> list[list[str]]:
    """Functions and classes, no tests, whose bodies without docstring are the same in several files."""
    places: dict[str, set[str]] = defaultdict(set)
    for path, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("test_"):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                text = "\n".join(ast.unparse(statement) for statement in body)
                if len(text) >= MIN_LENGTH:
                    places[text].add(f"{path}:{node.name}")
    return [sorted(one) for one in places.values() if len({place.split(":")[0] for place in one}) > 1]


def test_no_helper_stands_in_several_files() -> None:
    files = {path: (ROOT / path).read_text(encoding="utf-8") for path in python_files("tests")}
    assert copied_helpers(files) == []


def test_negative_control_a_copied_helper_is_found() -> None:
    body = "return torch.randn(3, generator=torch.Generator().manual_seed(seed))"
    one, other = f"def draw(seed):\n    {body}", f'def noise(seed):\n    """Other words."""\n    {body}'
    assert copied_helpers({"a.py": one, "b.py": other}) == [["a.py:draw", "b.py:noise"]]
    different = {"a.py": f"{one}\n{other}", "b.py": one.replace("3", "4"), "c.py": "def test_it():\n    return 1"}
    assert copied_helpers(different) == []
