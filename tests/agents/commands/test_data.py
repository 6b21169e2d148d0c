"""The subcommand data: the list, and fetching with stand-ins of apt-get and dpkg-deb."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.cli import main
from agents.commands.data import PACKAGE, fetch_fashion_mnist, listing
from diffusion_env.data.idx import IMAGE_FILES
from diffusion_env.data.image_sets import FASHION_MNIST, SYSTEM_FOLDER
from diffusion_env.data.named import DATASET_NAMES, load_dataset
from diffusion_env.data.places import CACHE_VARIABLE
from tests.support import idx_bytes

DOWNLOADED = f"import sys; assert sys.argv[1:] == ['download', '{PACKAGE}']; open('{PACKAGE}_1_all.deb', 'w').close()"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; no set is found elsewhere and no tool of Debian is here."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(
        "diffusion_env.data.image_sets.ImageSet.candidates", lambda one: [tmp_path / "cache" / FASHION_MNIST]
    )
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    (tmp_path / "tools").mkdir()
    return tmp_path / "cache"


def tool(cache: Path, name: str, code: str) -> None:
    path = cache.parent / "tools" / name
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)


def unpacking(cache: Path) -> str:
    """Code of a dpkg-deb whose package holds ten images each for training and test."""
    package = cache.parent / "package" / SYSTEM_FOLDER.relative_to("/")
    package.mkdir(parents=True)
    for name in IMAGE_FILES:
        (package / name).write_bytes(idx_bytes(np.zeros((10, 28, 28), np.uint8)))
    return (
        "import shutil, sys; assert sys.argv[1] == '-x' and sys.argv[2].endswith('.deb'); "
        f"shutil.copytree('{cache.parent}/package', sys.argv[3])"
    )


def test_the_list_has_every_name_and_where_it_was_found(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / FASHION_MNIST).mkdir(parents=True)
    assert main(["data"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(DATASET_NAMES) < set(lines)
    assert lines["fashion_mnist"].split("  ")[-1].strip() == str(cache / FASHION_MNIST)
    assert "60,000" in lines["fashion_mnist"] and "(3, 64, 64)" in lines["celeba"]
    assert lines["digits"].endswith("installed") and lines["moons"].endswith("generated")
    (cache / FASHION_MNIST).rmdir()
    assert "not here" in listing()


def test_the_package_is_fetched_once_without_root(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool(cache, "apt-get", DOWNLOADED)
    tool(cache, "dpkg-deb", unpacking(cache))
    assert main(["data", "fashion_mnist"]) == 0
    out = capsys.readouterr().out
    assert f"Wrote {cache / FASHION_MNIST}" in out and "10 training and 10 held-out points of shape (1, 28, 28)" in out
    assert [path.name for path in cache.iterdir()] == [FASHION_MNIST]
    tool(cache, "apt-get", "raise SystemExit(1)")  # never asked again
    assert main(["data", "fashion_mnist_16"]) == 0 and "Wrote" not in capsys.readouterr().out


def test_where_a_tool_is_missing_it_says_what_to_do(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fashion_mnist"]) == 2
    assert "this machine has no apt-get and no dpkg-deb. On Debian" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('E: Unable to locate package')", r"failed \(E: Unable to locate package\).*apt-get update"),
        ("raise SystemExit(1)", "no reason given"),
        ("", "left 0 packages"),
    ],
)
def test_a_fetch_that_fails_leaves_nothing(cache: Path, code: str, message: str) -> None:
    tool(cache, "apt-get", code)
    tool(cache, "dpkg-deb", "raise SystemExit(1)")
    with pytest.raises(ValueError, match=message):
        fetch_fashion_mnist()
    assert not list(cache.iterdir())


def test_celeba_is_decoded_once_into_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "faces").mkdir()
    for index in range(10):
        Image.new("RGB", (178, 218), (index, 0, 0)).save(tmp_path / "faces" / f"{index}.jpg")
    assert main(["data", f"celeba:{tmp_path}/faces"]) == 0
    assert [path.name for path in (tmp_path / "cache" / "celeba").iterdir()] == ["train.npy"]
    assert load_dataset("celeba").shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("name", "message"), [("mnist", "Unknown data set 'mnist'"), ("cifar10", "cifar10 are not here")]
)
def test_other_names_end_with_a_paragraph(
    cache: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert main(["data", name]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
