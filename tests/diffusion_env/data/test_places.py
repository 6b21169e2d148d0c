"""The cache folder, and names with a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_env.data.places import CACHE_VARIABLE, cache_folder, name_and_place


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ddpm-shortcut"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "ddpm-shortcut"


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("cifar10:/data/cifar.tar.gz", ("cifar10", Path("/data/cifar.tar.gz"))),
        ("fashion_mnist_16:here", ("fashion_mnist_16", Path("here"))),
        (Path("cifar10:a:b"), ("cifar10", Path("a:b"))),
        ("digits", ("digits", None)),
        ("C:\\points.npz", ("C:\\points.npz", None)),
        ("a/b:c", ("a/b:c", None)),
        ("cifar10:", ("cifar10:", None)),
        ("", ("", None)),
    ],
)
def test_a_name_with_a_path(dataset: str | Path, expected: tuple[str, Path | None]) -> None:
    assert name_and_place(dataset) == expected
