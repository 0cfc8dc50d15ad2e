"""Configurations that are known to fail, which a study does not start again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from optimize.engine.base import TrialConfig
from optimize.engine.failures import device_trouble, lacks_kernel
from optimize.errors import FailureKind
from optimize.ledger import TrialRecord
from optimize.outcome import Infeasible


class KnownFailures:
    """Failures by engine where the engine did not start, else by engine and request.

    Where vLLM has no kernel for a checkpoint, the failure holds for the checkpoint and dtype: no other setting of that
    recipe is started. Some builds report it only when they compute.

    Args:
        records: Trials of this study.
        elsewhere: Trials of other studies on this machine with this model and vLLM. Only engines that did not start or
            lack a kernel count: a failure under another load proves nothing here.
    """

    def __init__(self, records: Iterable[TrialRecord], elsewhere: Iterable[TrialRecord] = ()) -> None:
        self._failures: dict[str, tuple[str, str]] = {}
        for record in elsewhere:
            if "engine_start" not in record.seconds or _lacks_kernel(record):
                self.add(record, f"trial {record.number} of {record.study}")
        self.update(records)

    def add(self, record: TrialRecord, name: str = "") -> None:
        """Add a trial if it was started and could not run; the first of its kind is kept.

        Args:
            record: The trial.
            name: What to call it; "trial" and its number if empty.
        """
        kind = record.reason.partition(": ")[0]
        if record.state != "infeasible" or kind not in set(FailureKind) or "total" not in record.seconds:
            return
        if device_trouble(record.reason):  # which earlier versions took for a refusal
            return
        started = "engine_start" in record.seconds
        key = _key(record.config["engine_key"], record.config["request"] if started else None)
        failure = (name or f"trial {record.number}", record.reason)
        self._failures.setdefault(key, failure)
        if _lacks_kernel(record):
            self._failures.setdefault(_recipe_key(record.config["engine"]), failure)

    def update(self, records: Iterable[TrialRecord]) -> None:
        """Add several trials."""
        for record in records:
            self.add(record)

    def find(self, config: TrialConfig) -> Infeasible | None:
        """The known failure of a configuration, or None."""
        engine = config.engine.key
        keys = (_key(engine, None), _key(engine, asdict(config.request)), _recipe_key(asdict(config.engine)))
        for key in keys:
            if key in self._failures:
                name, reason = self._failures[key]
                kind, _, text = reason.partition(": ")
                return Infeasible(FailureKind(kind), f"known from {name}, not started again: {text}")
        return None


def _lacks_kernel(record: TrialRecord) -> bool:
    """Whether vLLM has no kernel for the checkpoint; its CPU build may report that at the first answer only."""
    return record.reason.startswith((FailureKind.REFUSED, FailureKind.CRASH)) and lacks_kernel(
        [record.reason, *record.evidence]
    )


def _recipe_key(engine: Mapping[str, Any]) -> str:
    """Key of an engine's weights, the type they are computed in, and its variables, which may choose other kernels."""
    variables = [engine["env"]] if engine.get("env") else []
    return json.dumps(["recipe", engine["checkpoint"], dict(engine["flags"]).get("dtype"), *variables], default=str)


def _key(engine_key: str, request: Mapping[str, Any] | None) -> str:
    return json.dumps([engine_key, request], sort_keys=True, default=str)
