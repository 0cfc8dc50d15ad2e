"""Configuration files and the demo's files are found in the project and where the user stands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optimize.cli import run_verb
from optimize.config.compose import configuration
from optimize.config.locations import CONF, split_config_dirs, user_folders
from optimize.config.schema import StudyConfig
from optimize.errors import ConfigError
from optimize.files import SOURCE
from tests.conftest import ROOT

STUDY = "# @package _global_\ndefaults:\n  - override /workload: mine\nstudy: {name: %s}\n"
Write = Callable[[str, str], None]
Run = Callable[[list[str]], tuple[int, str, str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of a user who stands in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return write


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb that prints the configuration; returns its exit code, its output and its errors."""

    def shown(config: StudyConfig, config_yaml: str) -> int:
        print(config_yaml)
        return 0

    def run(words: list[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["optimize", *words])
        with pytest.raises(SystemExit) as end:
            run_verb(shown)
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


def test_the_project_has_one_folder_of_configuration_files() -> None:
    assert CONF == ROOT / "conf"
    assert SOURCE == ROOT


@pytest.mark.parametrize("words", [["--config-dir=a", "x=1"], ["x=1", "--config-dir", "a"], ["-cd", "a", "x=1"]])
def test_folders_are_told_from_other_words(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    assert split_config_dirs(words) == ([Path("a")], ["x=1"])


@pytest.mark.parametrize("words", [["--config-dir=a"], ["--config-dir", "a"], ["--config-dir"], ["--config-dir="]])
def test_a_folder_must_exist(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--config-dir=a? is not a folder"):
        split_config_dirs(words)


def test_named_folders_come_before_the_current_one_and_the_projects_own_is_none_of_the_users(write: Write) -> None:
    write("conf/study/mine.yaml", "")
    write("a/study/mine.yaml", "")
    assert user_folders([Path("a"), Path("conf"), CONF]) == [Path("a").resolve(), Path("conf").resolve()]


@pytest.mark.parametrize(("folder", "words"), [("conf", []), ("it's [mine], yes", ["--config-dir=it's [mine], yes"])])
def test_a_study_and_a_workload_of_the_users_own(write: Write, folder: str, words: list[str]) -> None:
    write(f"{folder}/study/own.yaml", STUDY % "own")
    write(f"{folder}/workload/mine.yaml", "name: mine\npath: prompts.jsonl\n")
    config = configuration(["+study=own", "study.trials=7", *words])
    assert (config.study.name, config.study.trials, config.workload.path) == ("own", 7, "prompts.jsonl")


def test_the_demos_files_are_found_from_anywhere(write: Write) -> None:
    config = configuration(["+study=bulk"])
    assert config.model.path == str(ROOT / "demo/model")
    assert config.workload.path == str(ROOT / "demo/workloads/bulk.jsonl")
    random = configuration(["model=llama_1b_random"]).model.random
    assert random is not None and random.tokenizer == str(ROOT / "demo/model")


def test_the_users_own_files_come_first_and_other_paths_stay(write: Write) -> None:
    write("demo/model/config.json", "{}")
    config = configuration(["workload.path=demo/mine.jsonl"])
    assert (config.model.path, config.workload.path) == ("demo/model", "demo/mine.jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+study=onw"], "study has no choice 'onw'; did you mean 'own'?"),
        (["+study=own"], "workload has no choice 'mine'; valid: completions, conversations, demo_abtest"),
        (["+study=chat"], "study=chat names {here}/conf/study/chat.yaml and a file of this project: rename yours"),
        (
            ["+study=bare"],
            "unknown key 'study.study' in the configuration; a YAML file that sets study begins with # @",
        ),
        (["+study=broken"], "a configuration file is not valid YAML: "),
        (["--config-dir=nowhere"], "--config-dir=nowhere is not a folder: give the one that holds study/"),
    ],
)
def test_mistakes_are_answered(write: Write, tmp_path: Path, run: Run, words: list[str], message: str) -> None:
    write("conf/study/own.yaml", STUDY % "own")
    write("conf/study/chat.yaml", STUDY % "own")
    write("conf/study/bare.yaml", "study: {name: own}\n")
    write("conf/study/broken.yaml", "study: {name: [own}\n")
    code, _, error = run(words)
    assert code == 2
    assert error.startswith(f"error: {message.replace('{here}', str(tmp_path))}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["+study=own", "--cfg=job", "--config-dir=a"], ["--config-dir", "a", "--cfg", "job", "+study=own"]]
)
def test_hydras_own_questions_are_answered_with_the_users_files_too(write: Write, run: Run, words: list[str]) -> None:
    write("a/study/own.yaml", "# @package _global_\nstudy: {name: own}\n")
    code, shown, error = run(words)
    assert (code, error) == (0, "")
    assert "\n  name: own\n" in shown


def test_the_commands_words_head_the_configuration(write: Write, run: Run) -> None:
    write("a/study/own.yaml", "# @package _global_\nstudy: {name: own}\n")
    code, shown, _ = run(["--config-dir", "a", "+study=own"])
    assert (code, shown.partition("\n")[0]) == (0, "# given: +study=own --config-dir=a")


def test_the_same_file_twice_is_no_contradiction(write: Write) -> None:
    write("conf/study/chat.yaml", (CONF / "study/chat.yaml").read_text(encoding="utf-8"))
    assert configuration(["+study=chat"]).study.name == "chat"
