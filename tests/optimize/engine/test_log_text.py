"""Escape sequences of an engine's log reach neither its readers nor a trial's record."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.engine.failures import decisive_lines
from optimize.engine.log_text import plain, read_log
from optimize.engine.startup import LOADING, LogFollower

COLOURED = "\x1b[0;36m(EngineCore pid=7)\x1b[0;0m "


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2K\x1b[1A\r50 %", "\r50 %"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\picture", "picture"),
        ("\x1b(Bset\x1bc", "set"),
        ("end\x1b", "end"),
        ("[0m \u2028 ü is text", "[0m \u2028 ü is text"),
    ],
)
def test_only_the_text_is_left(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_log_is_read_without_them_whatever_its_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(f"{COLOURED}ValueError: no such flag\n".encode() + b"\xff\n")
    assert read_log(log) == "(EngineCore pid=7) ValueError: no such flag\n\ufffd\n"
    assert decisive_lines(read_log(log)) == ("ValueError: no such flag",)


def test_a_phase_is_recognized_between_colours_and_escapes_that_come_in_two_parts(tmp_path: Path) -> None:
    log, phases = tmp_path / "log", list[str]()
    follower = LogFollower(log, phases.append)
    log.write_text(f"{COLOURED}Starting \x1b[1")
    follower.follow()
    with log.open("a") as file:
        file.write("mto load model m...\n")
    follower.follow()
    assert phases == [LOADING]
