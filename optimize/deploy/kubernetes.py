"""The Kubernetes manifest: a Deployment with its probes, a Service, and the gate that the Pods mount."""

from __future__ import annotations

import math
from typing import Any

from optimize.deploy.command import FILES_IN_CONTAINER, MODEL_IN_CONTAINER
from optimize.deploy.deployment import GATE_FILE, GATE_IN_CONTAINER, Deployment, gate_source
from optimize.deploy.quoting import Lines, kubernetes, to_yaml

_COMMENT = "kubectl apply -f kubernetes.yaml; needs what README.md describes: the Secret, and claims for local files."
_PROBE_S, _STOP_S = 5, 30


def manifest(deployment: Deployment) -> str:
    """The text of kubernetes.yaml."""
    return to_yaml(_COMMENT, _deployment(deployment), _service(deployment), _gate(deployment))


def _labels(deployment: Deployment) -> dict[str, str]:
    return {"app.kubernetes.io/name": deployment.name}


def _deployment(deployment: Deployment) -> dict[str, Any]:
    annotations = {
        "prometheus.io/scrape": "true", "prometheus.io/port": "8000", "prometheus.io/path": "/metrics"
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": deployment.name, "labels": _labels(deployment)},
        "spec": {
            "replicas": deployment.replicas,
            "selector": {"matchLabels": _labels(deployment)},
            "template": {
                "metadata": {"labels": _labels(deployment), "annotations": annotations},
                "spec": _pod(deployment),
            },
        },
    }


def _pod(deployment: Deployment) -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # vLLM would take its VLLM_... variables for its own
        "terminationGracePeriodSeconds": deployment.drain_s + _STOP_S,
        "containers": [_container(deployment)],
        "volumes": [
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "gate", "configMap": {"name": _gate_name(deployment)}},
            *(
                {"name": name, "persistentVolumeClaim": {"claimName": f"{deployment.name}-{name}", "readOnly": True}}
                for name in _claims(deployment)
            ),
        ],
    }


def _container(deployment: Deployment) -> dict[str, Any]:
    return {
        "name": "vllm",
        "image": deployment.image,
        "command": ["vllm", "serve"],
        "args": [kubernetes(word) for word in deployment.container_arguments],
        "envFrom": [{"secretRef": {"name": _secret_name(deployment)}}],
        "env": [
            *(
                {"name": name, "value": kubernetes((value,))}
                for name, value in deployment.container_environment.items()
            ),
            # Named one by one as well: without one of them no container starts.
            *(_secret(deployment, name) for name in deployment.secrets),
        ],
        "ports": [{"name": "http", "containerPort": 8000}],
        "startupProbe": _probe(
            _PROBE_S, failureThreshold=max(1, math.ceil(deployment.settings.start_timeout_s / _PROBE_S))
        ),
        "readinessProbe": _probe(_PROBE_S, timeoutSeconds=3, failureThreshold=2),
        "livenessProbe": _probe(10, timeoutSeconds=5, failureThreshold=3),
        # vLLM aborts its requests at the signal to stop: a replica that is removed answers them first.
        "lifecycle": {"preStop": {"sleep": {"seconds": deployment.drain_s}}},
        "resources": _resources(deployment),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "gate", "mountPath": GATE_IN_CONTAINER, "readOnly": True},
            *({"name": name, "mountPath": at, "readOnly": True} for name, at in _claims(deployment).items()),
        ],
    }


def _gate_name(deployment: Deployment) -> str:
    return f"{deployment.name}-gate"


def _gate(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _gate_name(deployment), "labels": _labels(deployment)},
        "data": {GATE_FILE: Lines(gate_source())},
    }


def _secret_name(deployment: Deployment) -> str:
    """The Secret that is made of secrets.env."""
    return f"{deployment.name}-key"


def _secret(deployment: Deployment, name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": _secret_name(deployment), "key": name}}}


def _probe(period_s: int, **more: int) -> dict[str, Any]:
    return {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": period_s, **more}


def _resources(deployment: Deployment) -> dict[str, Any]:
    memory = {"memory": f"{deployment.memory_mib}Mi"} if deployment.memory_mib else {}
    requests = {**({"cpu": f"{deployment.cpu_millicores}m"} if deployment.cpu_millicores else {}), **memory}
    limits = {**memory, **({"nvidia.com/gpu": deployment.gpus} if deployment.gpus else {})}
    return {name: values for name, values in (("requests", requests), ("limits", limits)) if values}


def _claims(deployment: Deployment) -> dict[str, str]:
    """Claims of the model and of the files that flags name -> where they are mounted."""
    serve = deployment.serve
    needed = {"model": (serve.local, MODEL_IN_CONTAINER), "files": (bool(serve.files), FILES_IN_CONTAINER)}
    return {name: at for name, (is_needed, at) in needed.items() if is_needed}


def _service(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": deployment.name, "labels": _labels(deployment)},
        "spec": {
            "type": "ClusterIP",
            "selector": _labels(deployment),
            "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
        },
    }
