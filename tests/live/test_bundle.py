"""A bundle as its user runs it: its command serves, and Prometheus reads it with the generated files."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.prometheus import missing, node_exporter, prometheus, until
from objectives import Estimate
from optimize.config.deploy import Alerts, Autoscale, Deploy
from optimize.config.schema import StudyConfig
from optimize.deploy.alerts import ENGINE_METRICS, alerts_of, decode_expr
from optimize.deploy.autoscaling import KEDA
from optimize.deploy.bundle import make_deployment, make_folder, write_bundle
from optimize.deploy.scaling import scaling_of
from optimize.deploy.verify import Serving, ask, memory_after_answers, serving
from optimize.engine.flags import vllm_distribution
from optimize.engine.process import free_port
from optimize.study.capacity import CAPACITY
from tests.optimize.rows import CPU_COMMAND, FIGURES, study_row

pytestmark = pytest.mark.live
CAPACITY_PER_S = Estimate(12.0, 10.0, 14.0, 3, "1/s")


@dataclass(frozen=True)
class RunningBundle:
    """A bundle whose command serves, and the settings of its alerts."""

    folder: Path
    alerts: Alerts
    server: Serving


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBundle]:
    folder = make_folder(tmp_path_factory.mktemp("bundle"))
    alerts = Alerts(node_exporter=f"127.0.0.1:{free_port()}")
    autoscale = Autoscale(start_s=60.0, window_s=15.0)
    config = StudyConfig(deploy=Deploy(port=free_port(), rate_per_s=30.0, autoscale=autoscale), alerts=alerts)
    template = tmp_path_factory.mktemp("it's $(touch X) %h") / "a b.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}\n")
    command = f"{CPU_COMMAND} {shlex.quote(f'--chat-template={template}')}"
    row = study_row(command, " ".join(vllm_distribution()), figures=FIGURES | {CAPACITY: CAPACITY_PER_S})
    deployment = dataclasses.replace(make_deployment(row, config, folder), scaling=scaling_of(row, config))
    write_bundle(deployment, alerts, None)
    with serving(folder, 300, config.deploy.port) as server:
        yield RunningBundle(folder, alerts, server)
    assert server.tree.processes() == []


def test_the_bundles_command_serves_only_clients_with_the_key(bundle: RunningBundle) -> None:
    server = bundle.server
    assert ask(server, "demo", "the old man sees the dog\n", 20)
    body = {"model": "demo", "prompt": "a", "max_tokens": 1}
    for path in ("/v1/completions", "/invocations", "/scale_elastic_ep", "/tokenize", "/version"):
        assert httpx.post(f"{server.base_url}{path}", json=body, timeout=30).status_code == 401, path
    for path in ("/collective_rpc", "/reset_prefix_cache", "/sleep", "/server_info"):
        answer = httpx.post(f"{server.base_url}{path}", headers=server.headers, json={}, timeout=30)
        assert answer.status_code == 404, path
    port = int(server.base_url.rpartition(":")[2])
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port}
    assert listening == {"127.0.0.1"}
    commands = [" ".join(process.cmdline()) for process in server.tree.processes()]
    assert commands and not any(server.api_key in command for command in commands)


def test_the_server_finds_the_template_that_a_flag_names(bundle: RunningBundle) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "the old man"}], "max_tokens": 4}
    url = f"{bundle.server.base_url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=bundle.server.headers, timeout=60)
    assert answer.status_code == 200, answer.text  # the demo's tokenizer has no template of its own


def test_memory_covers_all_processes(bundle: RunningBundle) -> None:
    used_bytes = memory_after_answers(bundle.server, "demo")
    parts = [process.memory_info().rss for process in bundle.server.tree.processes()]
    assert max(parts) < used_bytes < sum(parts)


def test_the_engine_has_every_metric_that_alerts_and_dashboard_use(bundle: RunningBundle) -> None:
    ask(bundle.server, "demo", "a dog", 5)
    text = httpx.get(f"{bundle.server.base_url}/metrics", timeout=30).raise_for_status().text
    offered = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    assert [name for name in ENGINE_METRICS if name not in offered] == []


@pytest.mark.skipif(bool(missing()), reason=f"not installed: {missing()}; requirements/debian.txt names their packages")
def test_prometheus_reads_the_engine_with_the_generated_configuration(bundle: RunningBundle, tmp_path: Path) -> None:
    def decodes() -> bool:
        ask(bundle.server, "demo", "two birds", 30)
        return bool(reader.query(f"{decode_expr(bundle.alerts, 1)} > 0"))

    def arrivals() -> float:
        """The value of the autoscaler's query while requests come."""
        ask(bundle.server, "demo", "two birds", 5)
        trigger = yaml.safe_load((bundle.folder / KEDA).read_text())["spec"]["triggers"][0]
        answer = reader.query(trigger["metadata"]["query"])
        return float(answer[0]["value"][1]) if answer else 0.0

    with (
        node_exporter(bundle.alerts.node_exporter),
        prometheus(bundle.folder / "prometheus.yml", tmp_path / "data") as reader,
    ):
        assert until(lambda: len(reader.query('up{job=~"vllm|node"} == 1')) == 2), reader.query("up")
        assert until(decodes)
        assert all(reader.query(f"count({name})") for name in ENGINE_METRICS)
        assert until(lambda: all(rule["health"] == "ok" for rule in reader.rules())), reader.rules()
        rules = alerts_of(bundle.alerts, capacity=CAPACITY_PER_S)
        assert [rule["name"] for rule in reader.rules()] == [alert.name for alert in rules]
        assert until(lambda: arrivals() > 0)  # of this model, by the name that its series have
        assert "firing" not in {rule["state"] for rule in reader.rules() if rule["name"].startswith("Vllm")}
        labels = reader.query('up{job="vllm"}')[0]["metric"]
        assert (labels["study"], labels["scenario"]) == ("chat", "chat")
