"""Writes that the system refuses, and texts with line breaks: one line, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from optimize.cli import run_verb
from optimize.config.command_words import head_of, words_of
from optimize.errors import one_line
from optimize.files import replacing, write_atomically
from optimize.formatting import printable
from optimize.ledger import Ledger
from tests.conftest import Run
from tests.made import QUICK, make_study

REFUSALS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", REFUSALS)
def test_a_refused_write_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    path = tmp_path / "trial.json"
    write_atomically(path, "before")

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr({"fsync": os, "replace": Path}[step], step, refuse)
        with pytest.raises(OSError, match="trial.json"):
            write_atomically(path, "after")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "permission"), (errno.EROFS, "writable"), (errno.EIO, "disk")],
)
def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, remedy: str
) -> None:
    def verb(*_: Any) -> int:
        raise OSError(number, os.strerror(number), "/data/trial.json")

    monkeypatch.setattr("sys.argv", ["optimize", "+study=chat", "engine=simulated"])
    with pytest.raises(SystemExit) as ended:
        run_verb(verb)
    message = capsys.readouterr().err
    assert ended.value.code == 1 and message.startswith(f"error: {os.strerror(number)} (/data/trial.json): ")
    assert remedy in message and message.count("\n") == 1 and "the same command then goes on from here" in message


@pytest.mark.parametrize(
    "words", [["a=1", "b=two words"], ["a=two\nlines"], ["a='\x1b[31m'", "b=\u2028", "c=研究"], ["[a"], []]
)
def test_the_words_of_a_command_survive_on_one_line(words: list[str]) -> None:
    line = head_of(words)
    assert words_of(line + "a: 1\n") == words
    assert line.endswith("\n") and line[:-1].isprintable()


def test_a_line_break_in_an_override_does_not_break_the_report(
    optimize: Run, tmp_path: Path, empty_mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_mlflow_db, tmp_path / "mlflow.db")
    monkeypatch.setattr("optimize.report.page.write_png", lambda drawing, path: path)
    words = ["+study=chat", *QUICK, f"output_dir={tmp_path}", f"cache_dir={tmp_path}/cache", "confirm.candidates=0"]
    make_study([*words, "scenario.title='two\nlines | and \x1b[31m red'", "study.trials=0"])
    shown = optimize(["+study=chat", "engine=simulated", f"output_dir={tmp_path}"], "optimize.report")
    assert shown.returncode == 0, shown.stderr
    assert any("two\nlines" in word for word in Ledger(tmp_path / "studies/chat").overrides())
    (row,) = [line for line in (tmp_path / "matrix.md").read_text().splitlines() if line.startswith("| two")]
    assert row.count(" | ") > 3 and "\x1b" not in row


def test_what_ends_a_line_is_written_out() -> None:
    assert printable("a\tb\x1b[31m\u2028\x00é") == r"a\tb\x1b[31m\u2028\x00é"
    assert printable("two\nlines", keep="\n") == "two\nlines"
    assert one_line(RuntimeError("")) == "RuntimeError" and one_line(ValueError("a\n b")) == "a b"
    assert one_line(ValueError("disk is full\n[SQL: insert into runs]")) == "disk is full"
