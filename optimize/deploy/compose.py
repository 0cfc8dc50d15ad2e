"""The Compose file: the server, and the programs that watch it in the profile `monitoring`."""

from __future__ import annotations

from typing import Any

from optimize.deploy.command import MODEL_IN_CONTAINER
from optimize.deploy.deployment import GATE_FILE, GATE_IN_CONTAINER, Deployment
from optimize.deploy.quoting import Word, compose, to_yaml

_COMMENT = (
    "docker compose --env-file secrets.env up -d; with monitoring: --profile monitoring before up. Needs secrets.env, "
    "see README.md."
)
# Docker hands its own proxy's address to containers, and a proxy does not know this one.
_OPENER = "u.build_opener(u.ProxyHandler({}))"
_PROBE = f"import urllib.request as u; {_OPENER}.open('http://127.0.0.1:8000/health', timeout=3)"
_HUB_CACHE = "huggingface"


def compose_file(deployment: Deployment) -> str:
    """The text of compose.yaml."""
    watchers = {"node-exporter": _node_exporter(), "prometheus": _prometheus()}
    document: dict[str, Any] = {"name": deployment.name, "services": {"vllm": _server(deployment), **watchers}}
    if not deployment.serve.local:
        document["volumes"] = {_HUB_CACHE: {}}
    return to_yaml(_COMMENT, _quoted(document))


def _quoted(value: Any) -> Any:
    """All strings below a value, and all words, as Compose reads them."""
    if isinstance(value, dict):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, str | tuple):
        return compose(value if isinstance(value, tuple) else (value,))
    return value


def _server(deployment: Deployment) -> dict[str, Any]:
    arguments: list[Word] = deployment.container_arguments
    return {
        "image": deployment.image,
        "entrypoint": ["vllm", "serve"],
        "command": arguments,
        "environment": deployment.container_environment,
        "env_file": ["secrets.env"],
        "ports": [f"127.0.0.1:{deployment.settings.port}:8000"],
        "volumes": _volumes(deployment),
        "shm_size": "1gb",
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _PROBE], "interval": "5s", "timeout": "5s", "retries": 3,
            "start_period": f"{int(deployment.settings.start_timeout_s)}s",
        },
        **_resources(deployment),
    }  # fmt: skip


def _volumes(deployment: Deployment) -> list[dict[str, Any]]:
    serve = deployment.serve
    hub_cache = {"type": "volume", "source": _HUB_CACHE, "target": "/root/.cache/huggingface"}
    model = _read_only(serve.model, MODEL_IN_CONTAINER) if serve.local else hub_cache
    gate = _read_only(f"./{GATE_FILE}", f"{GATE_IN_CONTAINER}/{GATE_FILE}")
    return [model, *(_read_only(file.path, file.in_container) for file in serve.files), gate]


def _read_only(source: str, target: str) -> dict[str, Any]:
    """A bind mount; Compose would otherwise make an empty folder of a source that is missing."""
    return {
        "type": "bind", "source": source, "target": target, "read_only": True, "bind": {"create_host_path": False}
    }  # fmt: skip


def _resources(deployment: Deployment) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    if deployment.memory_mib:
        resources["limits"] = {"memory": f"{deployment.memory_mib}M"}
    if deployment.gpus:
        resources["reservations"] = {
            "devices": [{"driver": "nvidia", "count": deployment.gpus, "capabilities": ["gpu"]}]
        }
    return {"deploy": {"resources": resources}} if resources else {}


def _node_exporter() -> dict[str, Any]:
    return {
        "image": "prom/node-exporter:v1.8.2", "profiles": ["monitoring"], "command": ["--path.rootfs=/host"],
        "pid": "host", "volumes": ["/:/host:ro,rslave"], "restart": "unless-stopped",
    }  # fmt: skip


def _prometheus() -> dict[str, Any]:
    return {
        "image": "prom/prometheus:v2.53.2", "profiles": ["monitoring"], "ports": ["127.0.0.1:9090:9090"],
        "volumes": [
            "./prometheus.compose.yml:/etc/prometheus/prometheus.yml:ro",
            "./alerts.yml:/etc/prometheus/alerts.yml:ro",
        ],
        "restart": "unless-stopped",
    }  # fmt: skip
