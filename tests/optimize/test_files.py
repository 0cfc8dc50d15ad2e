"""Files are checked before a study relies on them, and children import the package that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from optimize.errors import ConfigError
from optimize.files import SOURCE, check_writable, locked, path_part, python_path, to_csv_lines
from tests.optimize.config.test_names import UNFIT


def test_a_folder_is_made_where_that_is_possible(tmp_path: Path) -> None:
    check_writable("output_dir", tmp_path / "a/b")
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/b"] and not list((tmp_path / "a/b").iterdir())


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConfigError, match=r"^output_dir: cannot write to .*/a/b \(Not a directory\): choose a folder"):
        check_writable("output_dir", tmp_path / "a/b")


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    check_writable("output_dir", tmp_path / "研究")
    with pytest.raises(ConfigError, match="output_dir: the name of .* is not UTF-8"):
        check_writable("output_dir", tmp_path / "n\udcff")
    assert [path.name for path in tmp_path.iterdir()] == ["研究"]


def test_a_child_imports_this_package_wherever_it_starts(tmp_path: Path) -> None:
    code = "import optimize; print(optimize.__file__)"
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert Path(done.stdout.strip()).parent == SOURCE / "optimize"


def test_what_is_inherited_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    assert python_path() == f"{SOURCE}{os.pathsep}/theirs"


def test_site_packages_are_not_put_before_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    monkeypatch.setattr("optimize.files.SOURCE", Path(sysconfig.get_path("purelib")).resolve())
    assert python_path() == "/theirs"


@pytest.mark.parametrize("name", [*UNFIT, "org/name", "../../x", "x" * 1000])
def test_any_name_becomes_part_of_a_files_name(tmp_path: Path, name: str) -> None:
    part = path_part(name)
    (tmp_path / part).touch()
    assert [path.name for path in tmp_path.iterdir()] == [part]


def test_a_fit_name_stays_as_it_is_in_a_files_name() -> None:
    assert path_part("llama_1b-instruct.v2") == "llama_1b-instruct.v2"


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(TimeoutError), locked(tmp_path / "lock", wait=False):
        pass
    with locked(tmp_path / "lock", wait=False):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"^cannot lock .*/lock \(.*\): remove that file"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_lock_of_another_user_is_named(tmp_path: Path) -> None:
    """As nobody, where the tests run as root."""
    tmp_path.chmod(0o777)
    (tmp_path / "lock").touch(mode=0o444)
    code = (
        "import os, sys; from pathlib import Path; from optimize.errors import ConfigError\n"
        "from optimize.files import locked\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "try:\n with locked(Path(sys.argv[1])): print('locked')\n"
        "except ConfigError as error: print(error)"
    )
    folder = Path("/proc/self/fd") / str(os.open(tmp_path, os.O_RDONLY))  # no way through the folders above it
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "lock")], capture_output=True, text=True, pass_fds=[int(folder.name)]
    )
    os.close(int(folder.name))
    assert done.stdout.startswith("cannot lock ") and "(Permission denied)" in done.stdout, done.stderr


def test_a_spreadsheet_computes_no_text_of_a_table() -> None:
    lines: list[dict[str, object]] = [
        {"=knob": '=HYPERLINK("http://x")', "qps": -1.5, "c": "+1"},
        {"qps": "@x", "c": None},
    ]
    assert to_csv_lines(lines).splitlines() == [
        "'=knob,qps,c", '"\'=HYPERLINK(""http://x"")",-1.5,\'+1', ",'@x,",
    ]  # fmt: skip
