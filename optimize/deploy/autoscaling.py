"""Autoscalers for Kubernetes, either of which follows the rate of requests: KEDA's, or Kubernetes' own.

Sources of the fields: keda.sh/docs (ScaledObject specification; Prometheus scaler), Kubernetes' API autoscaling/v2, and
the configuration of prometheus-adapter (docs/externalmetrics.md).
"""

from __future__ import annotations

import math
from typing import Any

from optimize.deploy.alerts import duration
from optimize.deploy.arrivals import RUNNING, demand_expr
from optimize.deploy.quoting import promql, to_yaml
from optimize.deploy.scaling import SYNC_S, Scaling

KEDA, HPA, ADAPTER = "keda.yaml", "hpa.yaml", "prometheus-adapter.yaml"
FILES = (KEDA, HPA, ADAPTER)
_FAILURES = 3
_ROUNDING = 1e-9  # 0.7 * 10 is a little less than 7
_COMMENTS = {
    KEDA: "kubectl apply -f keda.yaml, in a cluster with KEDA; not beside hpa.yaml.",
    HPA: "kubectl apply -f hpa.yaml, in a cluster with prometheus-adapter.yaml's rule; not beside keda.yaml.",
    ADAPTER: "Values of the Helm chart prometheus-community/prometheus-adapter, for hpa.yaml.",
}


def autoscaling_files(name: str, model: str, scaling: Scaling) -> dict[str, str]:
    """File name -> text.

    Args:
        name: Name of the Deployment.
        model: Name of the model in requests, which tells its metrics from others.
        scaling: Replicas and times; the start-up time must be known.
    """
    query = demand_expr(duration(scaling.settings.window_s), f"{{model_name={promql(model)}}}", scaling.reaction_s)
    documents = {
        KEDA: _scaled_object(name, query, scaling), HPA: _autoscaler(name, scaling),
        ADAPTER: _adapter(name, model, query, scaling),
    }  # fmt: skip
    return {file: to_yaml(_COMMENTS[file], document) for file, document in documents.items()}


def _target(name: str) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


def _scaled_object(name: str, query: str, scaling: Scaling) -> dict[str, Any]:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "pollingInterval": SYNC_S,
            "cooldownPeriod": scaling.hold_s,
            "minReplicaCount": scaling.replicas_min,
            "maxReplicaCount": scaling.replicas_max,
            # Without readings of the load, the replicas for its peak.
            "fallback": {"failureThreshold": _FAILURES, "replicas": scaling.replicas},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling)}},
            "triggers": [_trigger(query, scaling)],
        },
    }


def _trigger(query: str, scaling: Scaling) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": scaling.settings.prometheus_url,
            "query": query,
            "threshold": rounded_down(scaling.per_replica_per_s),
            # By default KEDA takes a reading that is missing for zero, and would remove replicas.
            "ignoreNullValues": "false",
        },
    }


def _autoscaler(name: str, scaling: Scaling) -> dict[str, Any]:
    target = {"type": "AverageValue", "averageValue": rounded_down(scaling.per_replica_per_s)}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicas": scaling.replicas_min,
            "maxReplicas": scaling.replicas_max,
            "metrics": [{"type": "External", "external": {"metric": {"name": _metric(name)}, "target": target}}],
            "behavior": _behavior(scaling),
        },
    }


def _behavior(scaling: Scaling) -> dict[str, Any]:
    """Up at once, as the rate says how many are needed; down only once they have long been superfluous."""
    return {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": scaling.hold_s},
    }


def _adapter(name: str, model: str, query: str, scaling: Scaling) -> dict[str, Any]:
    rule = {
        "seriesQuery": f"{RUNNING}{{model_name={promql(model)}}}",
        "metricsQuery": query,
        "name": {"as": _metric(name)},
        "resources": {"namespaced": False},
    }
    # The chart appends its own port to the address, unless it is 0.
    prometheus = {"url": scaling.settings.prometheus_url, "port": 0}
    return {"prometheus": prometheus, "rules": {"default": False, "external": [rule]}}


def _metric(name: str) -> str:
    return f"{name.replace('-', '_')}_requests_per_s"


def rounded_down(value: float) -> str:
    """Three digits as a decimal number without exponent, never above the value."""
    decimals = max(0, 2 - math.floor(math.log10(value)))
    return f"{math.floor(value * 10**decimals + _ROUNDING) / 10**decimals:.{decimals}f}"
