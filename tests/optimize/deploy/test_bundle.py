"""The bundle: what is in its files, what must not be, and that their readers take them."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from optimize.config.deploy import Alerts, Deploy
from optimize.config.schema import StudyConfig
from optimize.deploy.bundle import make_deployment, make_folder, render, write_bundle
from optimize.deploy.command import parse_command
from optimize.deploy.deployment import Deployment, Memory
from optimize.deploy.knee import LoadPoint
from optimize.errors import ConfigError
from optimize.study.rows import StudyRow
from tests.optimize.deploy.readers import program
from tests.optimize.rows import FIGURES, MODEL, study_row

GPU_COMMAND = (
    "vllm serve org/model --host=127.0.0.1 --tensor-parallel-size=2 --pipeline-parallel-size=2 --max-num-seqs=64"
)
CPU, GPU = study_row(), study_row(GPU_COMMAND, "vllm 0.25.1+cu130", figures={"qps": FIGURES["qps"]})
BEAMS = study_row(request={"beam_size": 4, "fields": [["length_penalty", 0.8]]})
ROWS = {"cpu": CPU, "gpu": GPU, "beams": BEAMS}


def deployment_of(row: StudyRow, folder: Path = Path("/srv/bundle"), **settings: Any) -> Deployment:
    config = StudyConfig(deploy=Deploy(**settings))
    return make_deployment(row, config, folder)


@pytest.fixture(params=list(ROWS))
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(deployment_of(ROWS[request.param], folder), Alerts(), None)
    return folder


# The command


def test_the_environment_is_the_one_that_engines_ran_in() -> None:
    config = StudyConfig(engine={"python": "/opt/vllm-0.31/bin/python"})
    assert make_deployment(CPU, config, Path("/srv")).python == "/opt/vllm-0.31/bin/python"
    assert make_deployment(CPU, StudyConfig(engine={"python": None}), Path("/srv")).python == sys.executable


def test_the_command_is_parsed_and_loses_only_what_the_bundle_sets_itself() -> None:
    serve = parse_command(
        "A='x y' vllm serve org/model --host=127.0.0.1 --port=1 --served-model-name=m --dtype=float16"
    )
    assert (serve.environment, serve.model, serve.arguments) == ({"A": "x y"}, "org/model", (("--dtype=float16",),))
    assert not serve.local and parse_command(f"vllm serve {MODEL} --x=1").local


def test_development_mode_is_dropped_from_the_command() -> None:
    assert parse_command("VLLM_SERVER_DEV_MODE=1 vllm serve org/model --x=1").environment == {}


@pytest.mark.parametrize("command", ["", "python -m something", "vllm serve"])
def test_other_commands_are_refused(command: str) -> None:
    with pytest.raises(ConfigError, match="no command to deploy"):
        parse_command(command)


# Resources


def test_memory_is_the_measured_memory_plus_headroom() -> None:
    assert deployment_of(CPU).memory_mib == 960
    assert deployment_of(CPU, headroom=0.5).memory_mib == 1200
    assert dataclasses.replace(deployment_of(CPU), memory=Memory(100 * 2**20, "seen")).memory_mib == 120
    assert deployment_of(GPU).memory_mib is None


def test_cpus_are_reserved_as_measured_and_gpus_as_the_flags_require() -> None:
    assert (deployment_of(CPU).cpu_millicores, deployment_of(CPU).gpus) == (1900, 0)
    assert (deployment_of(GPU).cpu_millicores, deployment_of(GPU).gpus) == (None, 4)


def test_every_file_that_can_has_the_memory_limit(tmp_path: Path) -> None:
    texts = render(deployment_of(CPU), Alerts())
    assert "MemoryMax=960M" in texts["vllm-chat.service"]
    compose = yaml.safe_load(texts["compose.yaml"])
    assert compose["services"]["vllm"]["deploy"]["resources"]["limits"] == {"memory": "960M"}
    deployment, *_ = yaml.safe_load_all(texts["kubernetes.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"requests": {"cpu": "1900m", "memory": "960Mi"}, "limits": {"memory": "960Mi"}}


def test_gpus_are_requested() -> None:
    texts = render(deployment_of(GPU), Alerts())
    deployment, *_ = yaml.safe_load_all(texts["kubernetes.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 4}}
    assert container["image"] == "vllm/vllm-openai:v0.25.1" and container["args"][0] == "org/model"
    assert yaml.safe_load(texts["compose.yaml"])["services"]["vllm"]["deploy"]["resources"]["reservations"]["devices"]


# Safety


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_development_endpoint_and_no_secret_in_any_file(row: StudyRow) -> None:
    for name, text in render(deployment_of(row), Alerts()).items():
        lines = [line for line in text.splitlines() if "VLLM_SERVER_DEV_MODE" in line]
        assert [line for line in lines if not line.startswith("unset ")] == [], name
        for line in text.splitlines():
            if "API_KEY" in line:  # only asked for, referred to, or made by the reader
                rest = line.replace('"Authorization: Bearer $VLLM_API_KEY"', "") if "curl" in line else line
                assert "API_KEY" not in rest or line.strip() in _KEY_LINES, line
        assert "--api-key" not in text, name


_KEY_LINES = {
    "key=${VLLM_API_KEY:-}    # comes before the one in secrets.env", "[[ -z $key ]] || VLLM_API_KEY=$key",
    '"VLLM_API_KEY"',
    'KEY = "VLLM_API_KEY"', "for name in VLLM_API_KEY; do", 'key: "VLLM_API_KEY"', '- name: "VLLM_API_KEY"',
    '(umask 077; echo "VLLM_API_KEY=$(openssl rand -hex 24)" > secrets.env)',
}  # fmt: skip
"""All lines that name the key: they require it, refer to it, or have its reader make it."""


def test_served_on_loopback_or_behind_a_key() -> None:
    texts = render(deployment_of(CPU), Alerts())
    assert '--host="${SERVE_HOST:-127.0.0.1}"' in texts["serve.sh"]
    compose = yaml.safe_load(texts["compose.yaml"])
    ports = [p for service in compose["services"].values() for p in service.get("ports", [])]
    assert ports and all(p.startswith("127.0.0.1:") for p in ports)
    assert "secrets.env" in compose["services"]["vllm"]["env_file"]
    deployment, service, _ = yaml.safe_load_all(texts["kubernetes.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {
        "name": "VLLM_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "vllm-chat-key", "key": "VLLM_API_KEY"}},
    } in container["env"]
    assert service["spec"]["type"] == "ClusterIP"
    unit = texts["vllm-chat.service"].splitlines()
    assert "EnvironmentFile=/srv/bundle/secrets.env" in unit  # without a dash: no file, no service


def test_without_a_key_the_script_ends_at_once(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(deployment_of(CPU, folder), Alerts(), None)
    done = subprocess.run(
        [folder / "serve.sh"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "VLLM_API_KEY: is not set" in done.stderr


def test_all_files_serve_with_the_same_flags() -> None:
    texts = render(deployment_of(CPU), Alerts())
    deployment, *_ = yaml.safe_load_all(texts["kubernetes.yaml"])
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    server = yaml.safe_load(texts["compose.yaml"])["services"]["vllm"]
    assert server["command"] == arguments
    for flag in ("--dtype=float16", "--max-model-len=256", "--max-num-seqs=16", "--served-model-name=demo"):
        assert flag in arguments and f"  {flag} \\" in texts["serve.sh"]
    assert arguments[-1] == "--middleware=key_gate.KeyGate" and f'  {arguments[-1]} \\\n  "$@"' in texts["serve.sh"]
    assert "VLLM_CPU_KVCACHE_SPACE=1" in texts["vllm.env"] and server["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "1"


# What readers say


def test_the_compose_file_is_valid_by_its_schema(bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", bundle / "compose.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_compose_schema_refuses_an_error(bundle: Path) -> None:
    path = bundle / "compose.yaml"
    path.write_text(path.read_text().replace("    image:", "    imige:"))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "imige" in done.stdout


def test_kubernetes_objects_are_valid_by_their_schemas(bundle: Path) -> None:
    objects = list(yaml.safe_load_all((bundle / "kubernetes.yaml").read_text()))
    assert [o["kind"] for o in objects] == ["Deployment", "Service", "ConfigMap"]
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    (container,) = objects[0]["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    container["readyProbe"] = container.pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(objects[0], kubernetes_validate.latest_version(), strict=True)


def test_systemd_accepts_the_unit(bundle: Path) -> None:
    (unit,) = bundle.glob("*.service")
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("/usr/bin/env", "/usr/bin/no-such-program"))
    done = subprocess.run([program("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert "no-such-program" in done.stderr


def test_prometheus_accepts_its_configurations(bundle: Path) -> None:
    for name in ("prometheus.yml", "prometheus.compose.yml"):
        done = subprocess.run(
            [program("promtool"), "check", "config", bundle / name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "7 rules found" in done.stdout


@pytest.mark.parametrize("row", ["cpu", "beams"])
@pytest.mark.parametrize("knee_point", [None, LoadPoint(20.0, 0.5, 0.123)], ids=["row 9", "knee"])
def test_every_rule_fires_on_its_problem_and_is_silent_otherwise(
    tmp_path: Path, row: str, knee_point: LoadPoint | None
) -> None:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(deployment_of(ROWS[row], folder), Alerts(), knee_point)
    tests = yaml.safe_load((folder / "alerts.test.yml").read_text())["tests"]
    names = {t["name"] for t in tests}
    rules = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    assert names == {f"{r['alert']} {r['labels']['severity']} {how}" for r in rules for how in ("fires", "is silent")}
    command = [program("promtool"), "test", "rules", "alerts.test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_detects_a_rule_that_no_longer_fires(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "bundle")
    write_bundle(deployment_of(CPU, folder), Alerts(), None)
    rules = folder / "alerts.yml"
    rules.write_text(rules.read_text().replace("request_queue_time_seconds", "queue_time_seconds"))
    command = [program("promtool"), "test", "rules", "alerts.test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "VllmPagingWarning" in done.stdout + done.stderr


# What people read


def test_the_readme_has_the_figures_with_intervals_and_signature() -> None:
    text = render(deployment_of(CPU), Alerts())["README.md"]
    assert "| qps | 10.0 (8.0–12.0) requests/s |" in text
    for phrase in (
        "two cores",
        "vllm-cpu 0.32.0",
        "2026-11-24",
        "trial 4",
        "optimize.measure +study=chat +at.quantization=fp16",
    ):
        assert phrase in text
    assert "use_beam_search" not in text
    assert '**Each request must carry** `{"temperature": 0.0}` for these figures to hold' in text


def test_the_readme_has_the_fields_that_each_request_must_carry() -> None:
    assert (
        '`{"temperature": 0.0, "use_beam_search": true, "n": 4, "length_penalty": 0.8}`'
        in render(deployment_of(BEAMS), Alerts())["README.md"]
    )


def test_the_dashboard_is_json_with_a_panel_for_every_alert() -> None:
    board = json.loads(render(deployment_of(CPU), Alerts())["dashboard.json"])
    lines = {
        p["title"]: [s["value"] for s in p["fieldConfig"]["defaults"]["thresholds"]["steps"]] for p in board["panels"]
    }
    assert lines["Waiting before the first run (quantile)"] == [None, 0.5, 1.0]
    assert lines["Time per token"] == [None, 0.2, 0.5] and lines["Busy CPUs"] == [None, 0.95, 0.98]
    assert len({tuple(p["gridPos"].values()) for p in board["panels"]}) == len(board["panels"])
