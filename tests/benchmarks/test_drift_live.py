"""The page of the live drift benchmark says when an alarm came, and counts from the change."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.drift_live import _LONGER, _SAME, Server, report, twice
from optimize.drift.session import DRIFTED, HOLDS, TOO_EARLY
from optimize.engine.base import Endpoint
from optimize.workload.workload import Workload

TABLE = "| what | in the study | served | holds |\n|---|---|---|---|\n| prompt_tokens | 20 | 41 | no |\n"


def _server(traffic: str, folder: Path) -> Server:
    written = folder / "studies/chat/report/drift.md"
    written.parent.mkdir(parents=True)
    written.write_text(
        f"study chat\n\n{TABLE}\nprompt_tokens no longer holds\n\ntune again: optimize output_dir={folder}\n",
        encoding="utf-8",
    )
    return Server(traffic, [], folder, Endpoint("http://127.0.0.1:1", None, "model"))


@pytest.mark.parametrize(
    ("traffic", "codes", "concluded"),
    [
        (_SAME, [TOO_EARLY], False),
        (_SAME, [TOO_EARLY, HOLDS], True),
        (_SAME, [DRIFTED], True),  # a false alarm
        (_LONGER, [TOO_EARLY, HOLDS], False),
        (_LONGER, [HOLDS, DRIFTED], True),
    ],
)
def test_a_server_has_concluded_once_it_has_said_what_it_should_or_an_alarm(
    traffic: str, codes: list[int], concluded: bool, tmp_path: Path
) -> None:
    server = _server(traffic, tmp_path)
    server.answers = [(float(minute), code) for minute, code in enumerate(codes)]
    assert server.concluded == concluded


def test_the_page_counts_from_the_change(tmp_path: Path) -> None:
    same, longer = _server(_SAME, tmp_path / "a"), _server(_LONGER, tmp_path / "b")
    same.answers = [(7.0, TOO_EARLY), (31.0, HOLDS)]
    longer.answers, longer.changed_min = [(7.0, TOO_EARLY), (31.0, DRIFTED)], 5.0
    page = report([same, longer], "python -m benchmarks.drift_live", 1.0)
    assert f"| {_SAME} | still holds, minute 31 | none |" in page
    assert f"| {_LONGER} | no longer holds, minute 31 | minute 31, 26 min after the change |" in page
    assert page.count("| prompt_tokens | 20 | 41 | no |") == 2 and str(tmp_path) not in page


def test_each_prompt_is_sent_with_itself_before_it() -> None:
    longer = twice(Workload("w", ["a\n", "b\n"], ["A", "B"], 8))
    assert list(longer.prompts) == ["a\na\n", "b\nb\n"]
