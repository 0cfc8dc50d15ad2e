from pathlib import Path

import pytest

from optimize.certify.cgroups import Denied, MemoryGroup, own_group


def test_the_group_of_version_1_is_that_of_its_controller(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    lines = ["4:memory:/a/b", "1:cpu,cpuacct:/", "0::/"]
    assert own_group(lines, "memory", tmp_path) == (tmp_path / "memory/a/b", 1)


def test_the_group_of_version_2_is_the_one_of_all(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    assert own_group(["0::/user.slice"], "memory", tmp_path) == (tmp_path / "user.slice", 2)


def test_where_none_is_mounted_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(Denied, match="no control group of 'memory'"):
        own_group(["0::/"], "memory", tmp_path)


@pytest.mark.parametrize(("version", "name", "lifted"), [(1, "memory.limit_in_bytes", "-1"), (2, "memory.max", "max")])
def test_a_limit_is_set_and_lifted(tmp_path: Path, version: int, name: str, lifted: str) -> None:
    group = MemoryGroup(tmp_path, version)
    group.limit(1 << 20)
    assert (tmp_path / name).read_text() == "1048576"
    group.limit(None)
    assert (tmp_path / name).read_text() == lifted
