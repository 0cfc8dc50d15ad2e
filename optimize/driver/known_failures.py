"""Configurations that a study has seen fail: never started again in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from optimize.engine.base import TrialConfig
from optimize.engine.failures import lacks_kernel
from optimize.errors import FailureKind
from optimize.ledger import TrialRecord
from optimize.outcome import Infeasible


class KnownFailures:
    """What failed before, by engine where the engine did not start, else by engine and request.

    Where vLLM has no kernel for a checkpoint, which some tell only when they compute, by checkpoint and dtype: no other
    setting of that recipe is started.

    Args:
        records: The trials so far.
        elsewhere: Trials of other studies on this machine, with this model and vLLM: of these, only engines that did
            not start or lack a kernel are remembered, for what else happened under another load proves nothing.
    """

    def __init__(self, records: Iterable[TrialRecord], elsewhere: Iterable[TrialRecord] = ()) -> None:
        self._known: dict[str, tuple[str, str]] = {}
        for record in elsewhere:
            if "engine_start" not in record.seconds or _lacks_kernel(record):
                self.add(record, f"trial {record.number} of {record.study}")
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord, name: str = "") -> None:
        """Remember a trial if it was tried and could not run; the first of its kind is kept.

        Args:
            record: The trial.
            name: For people; its number if empty.
        """
        kind = record.reason.partition(": ")[0]
        if record.state != "infeasible" or kind not in set(FailureKind) or "total" not in record.seconds:
            return
        started = "engine_start" in record.seconds
        key = _key(record.config["engine_key"], record.config["request"] if started else None)
        seen = (name or f"trial {record.number}", record.reason)
        self._known.setdefault(key, seen)
        if _lacks_kernel(record):
            self._known.setdefault(_recipe_key(record.config["engine"]), seen)

    def of(self, config: TrialConfig) -> Infeasible | None:
        """Why this configuration need not be tried, or None."""
        engine = config.engine.key
        keys = (_key(engine, None), _key(engine, asdict(config.request)), _recipe_key(asdict(config.engine)))
        for key in keys:
            found = self._known.get(key)
            if found is not None:
                name, reason = found
                kind, _, text = reason.partition(": ")
                return Infeasible(FailureKind(kind), f"known from {name}, not started again: {text}")
        return None


def _lacks_kernel(record: TrialRecord) -> bool:
    """Whether an engine failed for its checkpoint, at its start or, as vLLM's CPU build may, at its first answer."""
    return record.reason.startswith((FailureKind.REFUSED, FailureKind.CRASH)) and lacks_kernel(
        [record.reason, *record.evidence]
    )


def _recipe_key(engine: Mapping[str, Any]) -> str:
    """Of an engine's description: the weights, and the type they compute in."""
    return json.dumps(["recipe", engine["checkpoint"], dict(engine["flags"]).get("dtype")], default=str)


def _key(engine_key: str, request: Mapping[str, Any] | None) -> str:
    return json.dumps([engine_key, request], sort_keys=True, default=str)
