"""The schema of KEDA's ScaledObject, as far as bundles use it, and the autoscaler that KEDA makes of one.

Written from keda.sh/docs/2.22/reference/scaledobject-spec and the resource definition `scaledobjects.keda.sh`
(v1alpha1) of release 2.20.2, which accepts a bundle's file too. Unlike that definition, it takes no field that is not
listed, so that a misspelt one fails.
"""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_TEXT, _COUNT = {"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_TRIGGER = _object(
    ["type", "metadata"],
    type={"const": "prometheus"},
    metricType={"enum": ["AverageValue", "Value"]},
    metadata=_object(
        ["serverAddress", "query", "threshold"],
        serverAddress=_TEXT,
        query=_TEXT,
        threshold={"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
        ignoreNullValues={"enum": ["true", "false"]},
    ),
)
SCHEMA = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=_object(["name"], name=_TEXT),
    spec=_object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
        pollingInterval=_COUNT,
        cooldownPeriod=_COUNT,
        minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        fallback=_object(["failureThreshold", "replicas"], failureThreshold=_COUNT, replicas=_COUNT),
        advanced=_object(
            [], horizontalPodAutoscalerConfig=_object([], behavior={"type": "object"}),
        ),
        triggers={"type": "array", "minItems": 1, "items": _TRIGGER},
    ),
)  # fmt: skip


def autoscaler_of(scaled: dict[str, Any]) -> dict[str, Any]:
    """The HorizontalPodAutoscaler that KEDA makes of a ScaledObject with one trigger: Kubernetes' schema judges it."""
    spec, trigger = scaled["spec"], scaled["spec"]["triggers"][0]
    target = {"type": trigger["metricType"], "averageValue": trigger["metadata"]["threshold"]}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"keda-hpa-{scaled['metadata']['name']}"},
        "spec": {
            "scaleTargetRef": spec["scaleTargetRef"],
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "behavior": spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
            "metrics": [{"type": "External", "external": {"metric": {"name": "s0-prometheus"}, "target": target}}],
        },
    }
