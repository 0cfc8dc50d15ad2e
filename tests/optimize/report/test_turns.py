"""The table of a conversation's turns, from the requests of the ledger."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from objectives import RequestRecord
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role
from optimize.report.turns import early_ends, turn_records, turn_table


def request(
    due_s: float, turn: int, dropped: int = 0, error: str | None = None, cached: int | None = 30
) -> RequestRecord:
    return RequestRecord(
        0, due_s, due_s, due_s + 0.1, due_s + 0.5, 60, 5, "text", error,
        turn=turn, last=dropped > 0, dropped=dropped, cached_tokens=cached,
    )  # fmt: skip


def measured(number: int) -> TrialRecord:
    return TrialRecord("s", number, Role.MEASUREMENT, {}, {}, {}, seconds={"warmup": 10.0, "window": 20.0})


def test_requests_of_the_windows_are_shown_by_turn(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in (0, 1):
        requests = [request(5.0, 1), request(12.0, 1), request(13.0, 2), request(30.0, 2)]
        ledger.write_requests(number, requests, {})
    records = turn_records(ledger, [measured(0), measured(1)])
    assert [(r.due_s, r.turn, r.text) for r in records] == [(12.0, 1, ""), (13.0, 2, "")] * 2
    assert turn_table(records) == [
        "| turn | requests | median latency | median TTFT | prompt tokens cached |",
        "| --- | --- | --- | --- | --- |",
        "| 1 | 2 | 500 ms | 100.0 ms | 50 % |",
        "| 2 | 2 | 500 ms | 100.0 ms | 50 % |",
    ]


def test_there_is_no_table_without_later_turns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_requests(0, [request(12.0, 1)], {})
    assert turn_records(ledger, [measured(0), measured(7)]) == [] and turn_table([]) == []


def test_requests_that_an_earlier_version_recorded_have_no_turns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_requests(0, [request(12.0, 2)], {})
    path = ledger.trial_folder(0) / "requests.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["turn", "last", "dropped", "cached_tokens"]), path)
    assert turn_records(ledger, [measured(0)]) == []
    assert [(r.turn, r.last, r.cached_tokens) for r in ledger.read_requests(0)] == [(1, True, None)]


def test_a_server_that_does_not_say_what_it_cached_gives_no_figure() -> None:
    assert turn_table([request(0.0, 2, cached=None)])[2].endswith("| not reported |")


def test_conversations_that_ended_early_are_counted_by_the_reason() -> None:
    requests = [request(0.0, 2), request(0.0, 2, 3), request(0.0, 1, 1, "timeout"), request(0.0, 1, 2)]
    assert early_ends(requests) == (
        "Conversations that ended early: 1 because a turn failed, 2 because the next turn would have exceeded the "
        "model's context."
    )
    assert early_ends(requests[:1]) == "" and turn_table(requests)[-1] == early_ends(requests)
