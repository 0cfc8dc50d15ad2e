from pathlib import Path

import pytest

from optimize.serve.restart_log import Restart, RestartLog


def restart(generation: int) -> Restart:
    return Restart(generation, "crash", "killed", "warm", 1e9, 0.1, 1.5, 1, 0.0, "engine-0001.log")


def test_restarts_are_appended_and_read_back(tmp_path: Path) -> None:
    RestartLog(tmp_path / "sub/restarts.jsonl").write(restart(1))
    log = RestartLog(tmp_path / "sub/restarts.jsonl")
    log.write(restart(2))
    assert list(log.read()) == [restart(1), restart(2)]


def test_an_incomplete_line_hides_no_other(tmp_path: Path) -> None:
    log = RestartLog(tmp_path / "restarts.jsonl")
    log.write(restart(1))
    with log.path.open("a") as file:
        file.write('{"generation": 2, "cau')
    assert list(log.read()) == [restart(1)]


def test_a_new_log_is_empty(tmp_path: Path) -> None:
    assert list(RestartLog(tmp_path / "restarts.jsonl").read()) == []


def test_restarts_that_could_not_be_written_are_read_and_written_with_the_next(tmp_path: Path) -> None:
    log = RestartLog(tmp_path / "restarts.jsonl")
    log.path.mkdir()  # nothing can be appended to a folder, whoever tries
    for generation in (1, 2):
        with pytest.raises(IsADirectoryError):
            log.write(restart(generation))
    assert list(log.read()) == [restart(1), restart(2)]
    log.path.rmdir()
    log.flush()
    assert list(RestartLog(log.path).read()) == [restart(1), restart(2)]
    log.write(restart(3))
    assert list(log.read()) == list(RestartLog(log.path).read()) == [restart(1), restart(2), restart(3)] == log.own


def test_a_line_that_was_cut_off_costs_no_line_after_it(tmp_path: Path) -> None:
    log = RestartLog(tmp_path / "restarts.jsonl")
    log.path.write_text('{"generation": 1, "cau')
    log.write(restart(2))
    assert list(RestartLog(log.path).read()) == [restart(2)]
