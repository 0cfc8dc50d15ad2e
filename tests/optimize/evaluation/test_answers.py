"""Answers collected over a study: what they depend on, and quality on all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectives import Estimate, Measurement, RequestRecord
from objectives.quality import Bleu, scored_rows
from objectives.segments import Paired
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.evaluation.answers import Answers, answers_key
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import Completed, Role, State
from optimize.study.trials import levelled_quality
from optimize.testing.scripted_load import ScriptedAnswer
from tests.optimize.evaluation.scripted import ROWS, WORKLOAD, Rig, trial

PLAIN = {"dtype": "float16", "max_num_seqs": 8}


def _config(
    flags: dict[str, object] | None = None, beams: int = 1, checkpoint: str = "m", **fields: object
) -> TrialConfig:
    engine = EngineConfig(checkpoint, "fp16", tuple(sorted((flags or PLAIN).items())))
    return TrialConfig(engine, RequestConfig(beams, tuple(sorted(fields.items()))))


@pytest.mark.parametrize("same", [_config({**PLAIN, "max_num_seqs": 99}), _config({**PLAIN, "api_server_count": 2})])
def test_flags_of_scheduling_do_not_change_the_key(same: TrialConfig) -> None:
    assert answers_key(same) == answers_key(_config())


@pytest.mark.parametrize(
    "other",
    [
        _config(beams=2), _config(checkpoint="int8"), _config(temperature=0.7), _config({**PLAIN, "dtype": "bfloat16"}),
        _config({**PLAIN, "kv_cache_dtype": "fp8"}), _config({**PLAIN, "a_flag_of_next_year": 1}),
    ],
)  # fmt: skip
def test_settings_that_may_change_answers_change_the_key(other: TrialConfig) -> None:
    assert answers_key(other) != answers_key(_config())


def _request(row: int, text: str, error: str | None = None) -> RequestRecord:
    return RequestRecord(row, 0.0, 0.0, None, 1.0, 3, 3, text, error)


def _trial(number: int, key: str, ledger: Ledger, requests: list[RequestRecord]) -> TrialRecord:
    record = TrialRecord("s", number, Role.SEARCH, {}, {}, {}, state=State.COMPLETED, answers_key=key)
    ledger.write(record)
    ledger.write_requests(number, requests, {})
    return record


def test_answers_are_kept_apart_by_key_and_the_first_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    answers = Answers(ledger)
    first = [_request(0, "a"), _request(1, "b"), _request(2, "late", error="timeout")]
    answers.add("fp16", first, False)
    answers.add("fp16", [_request(0, "other"), _request(5, "c")], False)
    assert answers.of("fp16") == {0: "a", 1: "b", 5: "c"}
    assert answers.of("int8") == {}


def test_a_new_session_reads_the_answers_of_earlier_ones(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    _trial(0, "fp16", ledger, [_request(0, "a"), _request(1, "x", error="server")])
    _trial(1, "fp16", ledger, [_request(0, "other"), _request(2, "c")])
    _trial(2, "int8", ledger, [_request(0, "z")])
    assert Answers(ledger).of("fp16") == {0: "a", 2: "c"}


def test_quality_is_scored_on_earlier_answers_too() -> None:
    records = [_request(0, "now"), _request(3, "d")]
    references = {0: "r0", 1: "r1", 3: "r3"}
    measurement = Measurement(records, 0, 9, references, answers={0: "before", 1: "b", 7: "no reference"})
    assert scored_rows(measurement) == {0: ("before", "r0"), 1: ("b", "r1"), 3: ("d", "r3")}


def test_quality_tightens_as_a_study_goes(tmp_path: Path) -> None:
    """Two engines that answer alike, slowly enough that neither is asked everything."""
    rig = Rig(tmp_path, lambda r: ScriptedAnswer(1.0, text=WORKLOAD.references[r.row]), {"bleu": Bleu()})
    rig.answers = Answers(rig.ledger)
    other = TrialConfig(EngineConfig("model", "fp16", (("max_num_seqs", 9),)), RequestConfig())
    first, second = rig.evaluate(), rig.evaluate(other, trial(1))
    assert isinstance(first.outcome, Completed) and isinstance(second.outcome, Completed)
    counts = [outcome.estimates["bleu"].n for outcome in (first.outcome, second.outcome)]
    assert counts[0] < counts[1] <= ROWS and first.answers_key == second.answers_key
    asked = [{r.prompt_id for r in rig.ledger.read_requests(number)} for number in (0, 1)]
    assert len(asked[0] | asked[1]) > 1.3 * len(asked[0])  # what has an answer already is asked last


def test_quality_on_few_answers_is_levelled_to_the_baselines_prompts_and_quality_on_all_is_kept() -> None:
    def bleu(value: float, n: int) -> Estimate:
        return Estimate(value, value, value, n, "")

    paired = {"bleu": Paired(bleu(-1.0, 8), None, 0.5), "chrf": Paired(bleu(-1.0, 300), None, 0.5)}
    figures = {"bleu": bleu(60.0, 8), "chrf": bleu(80.0, 300), "qps": bleu(5.0, 8)}
    reference = {"bleu": bleu(74.0, 300), "chrf": bleu(82.0, 300)}
    assert levelled_quality(figures, paired, reference) == {"bleu": bleu(73.0, 8)}
    kept = {name: pair.to_dict() for name, pair in paired.items()}
    assert levelled_quality(figures, kept, reference) == {"bleu": bleu(73.0, 8)}
    assert levelled_quality(figures, paired, {}) == {}


def test_a_new_session_reads_which_answers_are_the_baselines(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert Answers(ledger).baseline is None
    record = _trial(0, "fp16", ledger, [_request(0, "a")])
    record.baseline = True
    ledger.write(record)
    assert Answers(ledger).baseline == "fp16"
