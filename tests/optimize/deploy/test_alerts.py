"""Thresholds of alerts: the mission's, the configuration's, or the knee's."""

import json
import re
from pathlib import Path

import pytest

from optimize.config.deploy import Alerts, Levels
from optimize.deploy.alerts import ENGINE_METRICS, NODE_METRICS, alerts_of, at_knee, duration
from optimize.deploy.dashboard import dashboard
from optimize.deploy.knee import LoadPoint, knee, read_load_curve
from optimize.errors import ConfigError

CURVE = [
    LoadPoint(10, 0.20, 0.010),
    LoadPoint(20, 0.21, 0.012),
    LoadPoint(30, 0.25, 0.080),
    LoadPoint(40, 0.90, 0.700),
    LoadPoint(50, 4.00, 3.500),
]


def test_the_missions_thresholds_are_the_defaults() -> None:
    levels = {a.name: (a.expr, a.for_s) for a in alerts_of(Alerts())}
    assert set(levels) == {
        "VllmPagingWarning", "VllmPagingCritical", "VllmDecodeSlowWarning", "VllmDecodeSlowCritical",
        "CpuExhaustedWarning", "CpuExhaustedCritical", "VllmDown",
    }  # fmt: skip
    assert "> 0.5 or" in levels["VllmPagingWarning"][0] and "> 1 or" in levels["VllmPagingCritical"][0]
    assert "> 0.2 or" in levels["VllmDecodeSlowWarning"][0] and "> 0.5 or" in levels["VllmDecodeSlowCritical"][0]
    assert levels["CpuExhaustedWarning"][0].endswith("> 0.95") and levels["CpuExhaustedWarning"][1] == 10
    assert levels["CpuExhaustedCritical"][0].endswith("> 0.98") and levels["CpuExhaustedCritical"][1] == 5


def test_every_alert_names_its_mitigation() -> None:
    helps = {a.name: a.mitigation for a in alerts_of(Alerts())}
    assert "KV cache" in helps["VllmPagingWarning"] and "preload" in helps["VllmPagingWarning"]
    assert "beam_size" in helps["VllmDecodeSlowCritical"] and "scale out" in helps["CpuExhaustedWarning"]


def test_thresholds_come_from_the_configuration() -> None:
    rules = alerts_of(Alerts(queue_s=Levels(0.3, 0.7, 20, 3)))
    assert [(a.for_s, "> 0.3" in a.expr, "> 0.7" in a.expr) for a in rules if "Paging" in a.name] == [
        (20, True, False), (3, False, True),
    ]  # fmt: skip


def test_beam_search_is_judged_by_its_steps() -> None:
    slow = {beams: next(a.expr for a in alerts_of(Alerts(), beams) if "Decode" in a.name) for beams in (1, 4)}
    assert "inter_token_latency" in slow[1] and "inter_token_latency" not in slow[4]
    assert "e2e_request_latency" in slow[4]


def test_the_metrics_used_are_those_that_a_live_test_checks() -> None:
    used = [a.expr for beams in (1, 2) for a in alerts_of(Alerts(), beams)]
    used += [dashboard("t", Alerts(), beams) for beams in (1, 2)]
    names = {word for text in used for word in _metrics(text)}
    assert names == {*ENGINE_METRICS, *NODE_METRICS}


def _metrics(text: str) -> set[str]:
    return set(re.findall(r"(?:vllm:|node_)[a-z0-9_]+", text))


# The knee


def test_the_knee_is_the_last_rate_before_latency_turns_up() -> None:
    knee_point = knee(CURVE)
    assert knee_point is not None and knee_point.rate_per_s in (30, 40)
    assert knee(list(reversed(CURVE))) == knee_point


@pytest.mark.parametrize("points", [[], CURVE[:3], [LoadPoint(r, float(r), 0) for r in range(1, 8)]])
def test_a_curve_without_a_bend_has_no_knee(points: list[LoadPoint]) -> None:
    assert knee(points) is None


def test_at_the_knee_warn_is_the_measured_wait_and_critical_keeps_its_proportion() -> None:
    settings = at_knee(Alerts(), LoadPoint(30, 0.25, 0.08))
    assert (settings.queue_s.warn, settings.queue_s.critical) == (0.08, 0.16)
    assert (settings.decode_s, settings.cpu) == (Alerts().decode_s, Alerts().cpu)


def test_the_knee_raises_no_threshold_and_lowers_none_to_nothing() -> None:
    assert at_knee(Alerts(), LoadPoint(30, 9, 9.0)).queue_s == Alerts().queue_s
    assert at_knee(Alerts(), LoadPoint(30, 9, 0.0)).queue_s.warn == 0.05


def test_the_knee_is_ignored_on_request() -> None:
    knee_point = LoadPoint(30, 0.25, 0.08)
    assert alerts_of(Alerts(from_knee=False), 1, knee_point) == alerts_of(Alerts())
    assert alerts_of(Alerts(), 1, knee_point) != alerts_of(Alerts())


ROW = "of study chat (trial 4)"


def _certificate(*curves: list[tuple[float, float, float]], title: str = f"recommended row {ROW}, x = 1") -> str:
    steps = [[{"offered_per_s": r, "p50_s": p50, "p99_s": p99} for r, p50, p99 in curve] for curve in curves]
    rows = [
        {"scenario": "kill", "runs": [{"tables": {}}]},
        {"scenario": "stress", "runs": [{"tables": {"curve": curve}} for curve in steps]},
    ]
    return json.dumps({"title": title, "rows": rows})


def test_the_load_curve_is_the_mean_of_the_certificates_repetitions(tmp_path: Path) -> None:
    path = tmp_path / "certify.json"
    path.write_text(_certificate([(10, 0.1, 0.2), (20, 0.2, 0.5)], [(12, 0.1, 0.3), (24, 0.2, 0.7)]))
    first, second = read_load_curve(path, ROW)
    assert (first.rate_per_s, first.p99_latency_s, first.queue_s) == pytest.approx((11, 0.25, 0.15))
    assert (second.rate_per_s, second.queue_s) == pytest.approx((22, 0.5))


def test_a_certificate_counts_for_its_own_row_only(tmp_path: Path) -> None:
    path = tmp_path / "certify.json"
    path.write_text(_certificate([(10, 0.1, 0.2)]))
    assert read_load_curve(path, "of study chat (trial 5)") == []
    path.write_text(_certificate())
    assert read_load_curve(path, ROW) == []


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"title": ROW, "rows": [{}]})])
def test_a_file_that_is_not_a_certificate_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ConfigError, match="is not a certificate"):
        read_load_curve(tmp_path / "c.json", ROW)


def test_durations_have_no_fractions() -> None:
    assert (duration(10.0), duration(0.5)) == ("10s", "500ms")
