from pathlib import Path

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
