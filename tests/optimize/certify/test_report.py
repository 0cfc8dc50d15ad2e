import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from optimize.certify.report import Provenance, label_times, write_report
from optimize.certify.results import FaultResult, read_all
from optimize.config.certify import Certify

ABOUT = Provenance("some row", {"machine": "a box"}, "python -m optimize.certify", "2026-11-24")


def fault(repeat: int, mitigated: bool) -> FaultResult:
    figures = {
        "detection_s": 0.1, "recovery_s": 2.0 + repeat, "lost": 1.0, "requests": 50.0, "orphans": 0.0, "restarts": 1.0,
        "normal_p99_s": 0.2, "rate_per_s": 20.0,
    }  # fmt: skip
    return FaultResult("kill", mitigated, repeat, figures, {"who": "all", "lost": "1 server"}, ["killed python"])


def row(rate: float, **more: Any) -> dict[str, Any]:
    return {
        "offered_per_s": rate, "answered_per_s": min(rate, 50.0), "p50_s": 0.1, "p99_s": 0.2, "errors": {},
        "kept": rate <= 50, "send_lag_p99_s": 0.001, "client_cpu": 0.1, **more,
    }  # fmt: skip


def stress(repeat: int) -> FaultResult:
    tables = {
        "curve": [row(25.0), row(50.0), row(75.0)], "patterns": [row(20.0, pattern="groups")],
        "ramp": [row(100.0, second=0, waiting=None), row(200.0, second=1, waiting=30.0)],
    }  # fmt: skip
    figures = {
        "sustained_per_s": 50.0, "breaking_per_s": 100.0, "recovery_s": 12.0, "requests": 300.0, "lost": 9.0,
        "peak_answered_per_s": 55.0, "peak_p99_s": 9.0, "waiting_max": 30.0, "orphans": 0.0, "restarts": 0.0,
    }  # fmt: skip
    words = {"ramp": "a ramp", "errors": "9 timeout", "broke": "100 requests/s", "audit": "1 client process"}
    return FaultResult("stress", False, repeat, figures, words, tables=tables)


def test_the_certificate_has_every_scenario_with_and_without_mitigation(tmp_path: Path) -> None:
    runs = [fault(k, m) for k in range(3) for m in (False, True)] + [stress(k) for k in range(3)]
    paths = write_report(runs, ABOUT, Certify(), tmp_path)
    assert [p.name for p in paths] == ["certify.md", "certify.json", "stress.png"]
    text = paths[0].read_text()
    assert "| engine process killed (SIGKILL) | none | 100 ms | – | 3.0 (0.5–5.5) s |" in text
    assert "| engine process killed (SIGKILL) | warm standby |" in text
    assert (
        "1000 requests/s not sustained" in text
        and "| 1 | 200 requests/s | 50.0 requests/s | 200 ms | 30.0 | 0 |" in text
    )
    rows = {(r["scenario"], r["mitigation"]): r for r in json.loads(paths[1].read_text())["rows"]}
    assert rows["kill", None]["certified"] and rows["stress", None]["certified"] is False
    assert rows["kill", None]["figures"]["recovery_s"]["n"] == 3 and len(rows["kill", "warm standby"]["runs"]) == 3
    assert paths[2].stat().st_size > 10_000


def test_times_of_the_stress_test_are_labelled_in_readable_units() -> None:
    for times_s, unit, labels in (
        ([0.55, 0.9, 1.1], "s", ["0.6", "0.8", "1"]),
        ([0.06, 0.4], "ms", ["60", "80", "100", "200", "300", "400"]),
    ):
        panel = Figure().subplots()
        panel.set_yscale("log")
        label_times(panel, [*times_s, 0.0])
        assert [tick.get_text() for tick in panel.get_yticklabels()] == labels
        assert panel.get_ylabel().endswith(f", {unit}") and not panel.get_yticks(minor=True).size


def test_a_fault_that_was_not_possible_is_reported_without_figures(tmp_path: Path) -> None:
    denied = FaultResult("oom", False, 0, error="not possible here: no control groups")
    text = write_report([denied], ABOUT, Certify(), tmp_path)[0].read_text()
    assert "not tested: not possible here: no control groups" in text and "normal P99" not in text


def test_runs_are_written_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "trials/0003"
    folder.mkdir(parents=True)
    fault(1, True).write(folder)
    assert list(read_all(tmp_path)) == [fault(1, True)]
