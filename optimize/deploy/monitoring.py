"""Files for Prometheus: what it scrapes, its alert rules, and promtool's tests of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optimize.config.deploy import Alerts
from optimize.deploy.alerts import Alert, Series, duration
from optimize.deploy.deployment import Deployment
from optimize.deploy.quoting import to_yaml


def prometheus_file(deployment: Deployment, alerts: Alerts, target: str, node_target: str) -> str:
    """Prometheus' configuration.

    Args:
        deployment: The deployment.
        alerts: Thresholds and intervals.
        target: Address of the server.
        node_target: Address of the node exporter.
    """
    every, row = duration(alerts.scrape_s), deployment.study_row.row
    document = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            _job("vllm", {"targets": [target], "labels": {"study": row.study, "scenario": row.scenario}}),
            _job("node", {"targets": [node_target]}),
        ],
    }
    comment = "prometheus --config.file=prometheus.yml; CPU use comes from node_exporter on the same machine."
    return to_yaml(comment, document)


def _job(name: str, static: dict[str, Any]) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [static]}


def alerts_file(rules: Sequence[Alert], origin: str) -> str:
    """The alert rules, below a comment on where their thresholds come from."""
    return to_yaml(origin, {"groups": [{"name": "vllm", "rules": [_rule(rule) for rule in rules]}]})


def _rule(rule: Alert) -> dict[str, Any]:
    return {
        "alert": rule.name, "expr": rule.expr, "for": duration(rule.for_s), "labels": {"severity": rule.severity},
        "annotations": _annotations(rule),
    }  # fmt: skip


def _annotations(rule: Alert) -> dict[str, str]:
    return {"summary": rule.summary, "mitigation": rule.mitigation}


def alerts_test_file(rules: Sequence[Alert], alerts: Alerts) -> str:
    """promtool's tests: every rule on the examples that must raise it and on those that must not."""
    settled_s = alerts.window_s + 5 * alerts.scrape_s
    tests = [
        _test(rule, example, fires, duration(alerts.scrape_s), duration(rule.for_s + settled_s))
        for rule in rules
        for fires, examples in ((True, rule.fires), (False, rule.silent))
        for example in examples
    ]
    comment = (
        "promtool test rules alerts.test.yml: every rule fires on the problem it is for, and stays silent otherwise."
    )
    return to_yaml(
        comment, {"rule_files": ["alerts.yml"], "evaluation_interval": duration(alerts.scrape_s), "tests": tests}
    )


def _test(rule: Alert, example: Series, fires: bool, interval: str, eval_time: str) -> dict[str, Any]:
    raised = {"exp_labels": {**rule.labels, "severity": rule.severity}, "exp_annotations": _annotations(rule)}
    return {
        "name": f"{rule.name} {rule.severity} {'fires' if fires else 'is silent'}",
        "interval": interval,
        "input_series": [{"series": series, "values": values} for series, values in example.items()],
        "alert_rule_test": [
            {"eval_time": eval_time, "alertname": rule.name, "exp_alerts": [raised] if fires else []}
        ],
    }  # fmt: skip
