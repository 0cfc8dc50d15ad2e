"""Answers collected over a study, by what they depend on: quality is scored on all of them, so its intervals narrow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from objectives import RequestRecord
from optimize.engine.base import TrialConfig
from optimize.ledger import Ledger, TrialRecord
from optimize.outcome import State
from optimize.redaction import hidden_flags, masked

WITHOUT_EFFECT = frozenset({
    "api_server_count", "async_scheduling", "block_size", "data_parallel_size", "enable_chunked_prefill",
    "enable_prefix_caching", "enforce_eager", "gpu_memory_utilization", "kv_cache_memory_bytes", "max_logprobs",
    "max_num_batched_tokens", "max_num_partial_prefills", "max_num_seqs", "pipeline_parallel_size",
    "scheduling_policy", "swap_space", "tensor_parallel_size",
})  # fmt: skip
"""vLLM flags that decide when and where an answer is computed, not its text. Any other flag may change answers."""


_WITHOUT_EFFECT_VARIABLES = frozenset({"VLLM_CPU_KVCACHE_SPACE"})  # as the flag kv_cache_memory_bytes


def answers_key(config: TrialConfig) -> str:
    """Key of everything that the answers of a configuration depend on."""
    flags = {name: value for name, value in hidden_flags(config.engine.flags) if name not in WITHOUT_EFFECT}
    flags |= {f"env.{name}": value for name, value in config.engine.env}
    request = [config.request.beam_size, list(config.request.fields)]
    return json.dumps([config.engine.checkpoint, flags, request], sort_keys=True, default=str)


def engine_settings(key: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Flags and variables that the answers of a configuration depend on: its own, and those of all engines of a study.

    A cache that studies share needs both; within a study, the key tells configurations apart.

    Args:
        key: Key of the configuration's answers; see `answers_key`.
        engine: `engine` of the study's configuration.
    """
    flags = {n: v for n, v in hidden_flags((engine.get("flags") or {}).items()) if n not in WITHOUT_EFFECT}
    variables = {n: v for n, v in (engine.get("env") or {}).items() if n not in _WITHOUT_EFFECT_VARIABLES}
    shared = flags | {f"env.{name}": str(value) for name, value in masked(variables).items()}
    _, own, _ = json.loads(key)
    return {**shared, **own}


class AnswerStore(Protocol):
    """The answers of a study so far.

    Attributes:
        baseline: Key of the baseline's answers; None while there are none.
    """

    @property
    def baseline(self) -> str | None: ...

    def of(self, key: str) -> Mapping[int, str]:
        """Workload row -> answer, of the answers with this key."""

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        """Add the answers of a measured trial.

        Args:
            key: Their key.
            answers: The trial's requests; those that failed are left out.
            baseline: Whether the trial is the baseline.
        """


@dataclass(frozen=True, slots=True)
class SentAnswers:
    """Answers sent along with a trial: those with its key, and the baseline's.

    Attributes:
        answers: Key -> workload row -> answer.
        baseline: Key of the baseline's answers; None while there are none.
    """

    answers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    baseline: str | None = None

    def of(self, key: str) -> Mapping[int, str]:
        return self.answers.get(key, {})

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        """Does nothing: the sender reads the trial's answers from the ledger."""


class Answers:
    """The first answer to each prompt.

    Args:
        ledger: The study's ledger; answers of earlier sessions are read from it on demand.

    Attributes:
        baseline: Key of the baseline's answers; None while there are none.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._earlier: dict[str, list[int]] = {}
        self.baseline: str | None = None
        for record in ledger.records():
            if record.state is State.COMPLETED and record.answers_key:
                self._earlier.setdefault(record.answers_key, []).append(record.number)
                self._note_baseline(record.answers_key, record.baseline)
        self._answers: dict[str, dict[int, str]] = {}

    def _note_baseline(self, key: str, baseline: bool) -> None:
        if baseline:
            self.baseline = key

    def of(self, key: str) -> Mapping[int, str]:
        """Workload row -> answer."""
        if key not in self._answers:
            answers: dict[int, str] = {}
            for number in self._earlier.pop(key, []):
                for row, text in self._ledger.read_answers(number):
                    answers.setdefault(row, text)
            self._answers[key] = answers
        return self._answers[key]

    def to_send(self, key: str) -> SentAnswers:
        """The answers to send along with a trial whose answers have this key."""
        keys = [key] if self.baseline is None else [key, self.baseline]
        return SentAnswers({k: self.of(k) for k in keys}, self.baseline)

    def read(self, record: TrialRecord) -> None:
        """Add the answers of a measured trial from the ledger."""
        self._note_baseline(record.answers_key, record.baseline)
        answers = dict(self.of(record.answers_key))
        for row, text in self._ledger.read_answers(record.number):
            answers.setdefault(row, text)
        self._answers[record.answers_key] = answers

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        self._note_baseline(key, baseline)
        by_row = dict(self.of(key))
        for answer in answers:
            if answer.error is None:
                by_row.setdefault(answer.prompt_id, answer.text)
        self._answers[key] = by_row
