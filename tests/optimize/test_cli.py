"""What all commands share: exit codes, one line for an error, and names that come first."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optimize.cli import BAD_INPUT, FAILED, INTERRUPTED, run_named, run_verb
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError, OptimizeError

NAMES = ("batch_size", "quantization")
Run = Callable[[list[str], Callable[[], None]], tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with these words; returns its exit code, its output and its errors."""

    def run(words: list[str], main: Callable[[], None]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["optimize", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def _verb(error: BaseException | None = None) -> Callable[[StudyConfig, str], int]:
    def verb(config: StudyConfig, config_yaml: str) -> int:
        if error is not None:
            raise error
        print(config.study.name)
        return 0

    return verb


def _table(name: str, config: StudyConfig, config_yaml: str) -> int:
    print(name, config.study.name)
    return 0


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a rule\nis broken"), BAD_INPUT, "error: a rule is broken\n"),
        (OptimizeError("no measurement"), FAILED, "error: no measurement\n"),
        (KeyboardInterrupt(), INTERRUPTED, "error: interrupted\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(run: Run, error: BaseException, code: int, line: str) -> None:
    assert run([], lambda: run_verb(_verb(error))) == (code, "", line)


def test_what_the_verb_returns_is_the_exit_code(run: Run) -> None:
    assert run(["+study=bulk"], lambda: run_verb(_verb())) == (0, "bulk\n", "")


def test_warnings_of_this_project_are_seen_where_hydras_own_command_line_composes(run: Run) -> None:
    """Its `disabled` silences every logger that was made before, and all warnings."""
    logger = logging.getLogger("optimize.ticker")
    assert run(["--run", "+study=smoke"], lambda: run_verb(_verb()))[0] == 0
    assert logger.isEnabledFor(logging.WARNING) and not logger.disabled


def test_an_invalid_configuration_never_reaches_the_verb(run: Run) -> None:
    line = "error: study.trials must not be negative, got -1\n"
    assert run(["study.trials=-1"], lambda: run_verb(_verb())) == (BAD_INPUT, "", line)


def test_a_question_for_hydra_never_reaches_the_verb(run: Run) -> None:
    code, out, _ = run(["--cfg", "job", "--package", "study"], lambda: run_verb(_verb(AssertionError())))
    assert code == 0 and out.startswith("# @package study\nname: ")


def test_a_name_comes_before_the_overrides(run: Run) -> None:
    main = lambda: run_named(_table, NAMES, "table")  # noqa: E731
    assert run(["batch_size", "+study=bulk"], main) == (0, "batch_size bulk\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["batchsize"], "no such table: 'batchsize'; did you mean 'batch_size'?"),
        (["+study=chat"], "no table given; name it first, valid: batch_size, quantization"),
        ([], "no table given; name it first, valid: batch_size, quantization"),
    ],
)
def test_a_missing_or_misspelled_name_is_answered(run: Run, words: list[str], line: str) -> None:
    assert run(words, lambda: run_named(_table, NAMES, "table")) == (BAD_INPUT, "", f"error: {line}\n")


@pytest.fixture
def uncomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs get the defaults of the schema, without the time that Hydra takes."""
    for name, answer in (("composed", None), ("to_typed", StudyConfig()), ("validate", None), ("as_yaml", "")):
        monkeypatch.setattr(f"optimize.cli.{name}", lambda *_, answer=answer: answer or object())


def _saying(*texts: str) -> Callable[[], None]:
    def verb(config: StudyConfig, config_yaml: str) -> int:
        for text in texts:
            print(text, flush=len(texts) > 1)
        return 0

    return lambda: run_verb(verb)


@pytest.mark.usefixtures("uncomposed")
@pytest.mark.parametrize(
    ("texts", "code", "line"),
    [(["all"], 0, ""), (["one", "more"], FAILED, "error: nobody reads the output any more: the same command then ")],
)
def test_a_reader_that_has_enough_gets_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, texts: list[str], code: int, line: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:  # its end would raise, too
        monkeypatch.setattr(sys, "stdout", out)
        ended, _, errors = run([], _saying(*texts))
    assert ended == code and errors.startswith(line) and errors.count("\n") == bool(line)


@pytest.mark.usefixtures("uncomposed")
def test_a_disk_that_is_full_for_the_output_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        ended, _, errors = run([], _saying("all"))
    assert ended == FAILED and errors.startswith("error: No space left on device: free some space")


@pytest.mark.usefixtures("uncomposed")
def test_a_text_that_the_output_cannot_encode_is_escaped(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run([], _saying("1.2× \udcff"))[0] == 0
    assert (tmp_path / "out").read_text() == "1.2\\xd7 \\udcff\n"


@pytest.mark.usefixtures("uncomposed")
def test_a_closed_output_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run([], _saying("all"))[0] == 0
    sys.stdout.close()
