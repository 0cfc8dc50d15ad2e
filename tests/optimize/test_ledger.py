"""The study on disk."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from objectives import Estimate, RequestRecord
from optimize.files import write_atomically
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Role, State

RECORD = TrialRecord(
    study="chat", number=3, role=Role.SEARCH, params={"batch_size": 8, "quantization": "fp16", "block_size": None},
    config={"flags": {"max_num_seqs": 8}}, signature={"machine": "two cores"}, state=State.COMPLETED,
    evidence=["ValueError: naïve"], estimates={"qps": Estimate(10.0, 9.0, 11.5, 40, "1/s")},
    violations={"runs": -1.0, "bleu >= 0.95 x baseline": 0.1}, feasible=True, seconds={"total": 12.5},
    started_at=1.25, ended_at=None,
)  # fmt: skip
STREAMED = RequestRecord(0, 1.0, 1.25, 1.5, 2.0, 7, 9, "Grüße\nan alle", None)
FAILED = RequestRecord(1, 1.5, 1.5, None, 3.0, 7, 0, "", "timeout")
FULL = replace(
    RECORD, baseline=True, answers_key="model", confirms=1, reason="too slow", paired={"bleu": {"p": 0.5}},
    dtype="float16", new_engine=False, audit={"sent": 3}, pace={"answer_s": 0.5}, capacity={"value": 9.0, "probes": []},
    disturbed=["steal"],
    cut_short="beaten", repeated=["drift"], ended_at=2.5,
)  # fmt: skip


def test_a_record_survives_the_disk_with_all_its_fields(tmp_path: Path) -> None:
    bare = TrialRecord("smoke", 0, Role.BASELINE, {}, {}, {})
    assert [f.name for f in fields(bare) if getattr(bare, f.name) == getattr(FULL, f.name)] == []
    ledger = Ledger(tmp_path)
    ledger.write(FULL)
    assert ledger.read(3) == FULL
    assert TrialRecord.from_json(FULL.to_json()) == FULL


EARLIER = """{
 "study": "smoke", "number": 1, "role": "search", "params": {"batch_size": 11},
 "config": {"engine_key": "f3bf272226ad"},
 "signature": {"machine": "two cores"}, "state": "completed", "baseline": false,
 "answers_key": "[\\"m\\", {}, [1, []]]",
 "confirms": null, "reason": "", "evidence": [], "paired": {"bleu": {"difference": {}, "ratio": null, "p": 1.0}},
 "violations": {"runs": -1.0}, "feasible": true, "new_engine": true, "audit": {"sent": 63, "asked": null},
 "disturbed": ["other programs used 93% of the processors"], "cut_short": "", "repeated": ["requests pile up"],
 "seconds": {"ask": 0.07, "engine_start": 1.9, "total": 10.7, "wall": 11.1}, "started_at": 1795.5, "ended_at": 1806.5,
 "estimates": {"qps": {"value": 51.0, "low": 47.1, "high": 54.9, "n": 203, "unit": "1/s"}}
}"""
"""A trial.json as version 1d575b7 wrote it, shortened; its names are those of every later version."""


def test_trials_of_earlier_versions_are_read_and_written_under_the_same_names() -> None:
    record = TrialRecord.from_json(EARLIER)
    assert record.role is Role.SEARCH and record.state is State.COMPLETED
    assert record.estimates == {"qps": Estimate(51.0, 47.1, 54.9, 203, "1/s")}
    assert json.loads(record.to_json()) == {**json.loads(EARLIER), "capacity": {}, "dtype": "", "pace": {}}


def test_a_later_state_replaces_the_earlier(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for state in (State.RUNNING, State.INFEASIBLE):
        ledger.write(replace(RECORD, state=state))
    assert [r.state for r in ledger.records()] == ["infeasible"]


def test_records_come_by_number(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in (12, 0, 7, 100):
        ledger.write(replace(RECORD, number=number))
    ledger.trial_folder(50)  # opened, nothing written yet
    assert [r.number for r in ledger.records()] == [0, 7, 12, 100]


def test_what_was_never_written_is_not_there(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not yet")
    assert ledger.read(0) is None
    assert list(ledger.records()) == []
    assert ledger.read_series(0) == {}
    assert not ledger.folder.exists()


def test_raw_requests_and_telemetry_are_kept_as_they_were(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    series = {"cpu_cores": [(0.5, 1.25), (1.0, 2.0)], "kv_cache_use": [(0.5, 0.0)]}
    ledger.write_requests(3, [STREAMED, FAILED], series)
    rows = pq.read_table(ledger.trial_folder(3) / "requests.parquet").to_pylist()
    assert [RequestRecord(**row) for row in rows] == [STREAMED, FAILED]
    assert ledger.read_series(3) == series


@pytest.mark.parametrize("records", [[], [FAILED]])
def test_a_load_without_answers_or_telemetry_can_be_kept_too(tmp_path: Path, records: list[RequestRecord]) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_requests(0, records, {})
    rows = pq.read_table(ledger.trial_folder(0) / "requests.parquet").to_pylist()
    assert [RequestRecord(**row) for row in rows] == records
    assert ledger.read_series(0) == {}


def test_writing_replaces_whole_files_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "about.json"
    for text in ("a long first version", "second"):
        write_atomically(path, text)
    assert path.read_text(encoding="utf-8") == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_keeps_the_version_it_opened(tmp_path: Path) -> None:
    path = tmp_path / "trial.json"
    write_atomically(path, "old")
    with path.open(encoding="utf-8") as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text(encoding="utf-8") == "new"


def test_latencies_are_those_of_answered_requests_by_when_they_were_due(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_requests(3, [FAILED, replace(STREAMED, due_s=1.75), STREAMED], {})
    assert ledger.read_latencies(3) == [(1.0, 1.0), (1.75, 0.25)]
    assert ledger.read_latencies(4) == []


def test_what_the_command_was_given_heads_the_configuration(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.overrides() == []
    write_atomically(
        tmp_path / "config.yaml", "# given: +study=chat 'search_space.beam_size.choices=[1, 8]'\nstudy: {}\n"
    )
    assert ledger.overrides() == ["+study=chat", "search_space.beam_size.choices=[1, 8]"]
    write_atomically(tmp_path / "config.yaml", "study: {}\n")
    assert ledger.overrides() == []
