"""The query that autoscalers and rules ask Prometheus: what it makes of the engines' counters."""

import json
import subprocess
from pathlib import Path

import yaml

from optimize.config.deploy import Alerts
from optimize.deploy.autoscaling import FILES, KEDA
from optimize.deploy.bundle import make_folder, render, write_bundle
from optimize.deploy.quoting import promql
from tests.optimize.deploy.readers import program
from tests.optimize.deploy.scaled import BEAMS, deployment_of, documents, replicas_in


def evaluated(
    expr: str, series: dict[str, str], at: str, value: float, folder: Path
) -> subprocess.CompletedProcess[str]:
    """promtool's verdict on the value of an expression at a time."""
    samples = [{"labels": "{}", "value": value}]
    tests = [
        {
            "interval": "5s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
        }
    ]
    (folder / "query.test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    command = [program("promtool"), "test", "rules", "query.test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_query_sums_what_ends_what_piles_up_and_what_waits_over_all_replicas(tmp_path: Path) -> None:
    query = documents(deployment_of())[KEDA]["spec"]["triggers"][0]["metadata"]["query"]
    labels = 'model_name="demo", instance='
    series = {
        f'vllm:request_success_total{{{labels}"a", finished_reason="stop"}}': "0+10x40",  # 2 a second
        f'vllm:request_success_total{{{labels}"a", finished_reason="length"}}': "0+5x40",  # 1
        f'vllm:request_success_total{{{labels}"b", finished_reason="stop"}}': "0+20x40",  # 4
        f'vllm:num_requests_running{{{labels}"a"}}': "8x40",
        f'vllm:num_requests_running{{{labels}"b"}}': "0+1x40",  # 0.2 a second
        f'vllm:num_requests_waiting{{{labels}"a"}}': "0+5x40",  # 1 a second; 120 of them after 120 s
        f'vllm:num_requests_waiting{{{labels}"b"}}': "0x40",
        'vllm:request_success_total{model_name="other", instance="c", finished_reason="stop"}': "0+1000x40",
    }
    done = evaluated(query, series, "2m", 2 + 1 + 4 + 0.2 + 1 + 120 / 120, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert evaluated(query, series, "2m", 9.0, tmp_path).returncode == 1


def test_any_model_name_stays_one_string_of_the_query(tmp_path: Path) -> None:
    name = 'a "b" \\ {c} <<.Series>> 研'
    series = {f"up{{model_name={promql(name)}}}": "1x40"}
    done = evaluated(f"sum(up{{model_name={promql(name)}}})", series, "2m", 1, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<<" not in promql(name)  # begins a template of prometheus-adapter


def test_the_rules_know_the_capacity_and_fire_at_its_share(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    alerts = Alerts()
    alerts.capacity.warn_for_s = 90.0
    write_bundle(deployment_of(folder=folder), alerts, None)
    rules = {r["alert"]: r for r in yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]}
    assert rules["VllmCapacityWarning"]["expr"].endswith("> 8") and rules["VllmCapacityWarning"]["for"] == "90s"
    assert rules["VllmCapacityCritical"]["expr"].endswith("> 10")
    (panel,) = (
        p for p in json.loads((folder / "dashboard.json").read_text())["panels"] if p["title"] == "Requests that arrive"
    )
    assert [s["value"] for s in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, 8.0, 10.0]
    assert "measured capacity, at least 10 requests/s" in (folder / "alerts.yml").read_text()
    examples = yaml.safe_load((folder / "alerts.test.yml").read_text())
    examples["tests"] = [test for test in examples["tests"] if "Capacity" in test["name"]]  # others have their own test
    assert len(examples["tests"]) == 6
    (folder / "alerts.test.yml").write_text(yaml.safe_dump(examples))
    command = [program("promtool"), "test", "rules", "alerts.test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_beams_have_replicas_but_no_rule_on_a_rate_that_vllm_does_not_show() -> None:
    texts = render(deployment_of(BEAMS), Alerts())
    assert replicas_in(texts) == 5 and not set(texts) & set(FILES)
    assert "Capacity" not in texts["alerts.yml"] and "has no autoscaler" in texts["README.md"]
