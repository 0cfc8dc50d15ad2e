"""Answers that a study has collected, by what they depend on: quality is scored on all of them, so it tightens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from objectives import RequestRecord
from optimize.engine.base import TrialConfig
from optimize.ledger import Ledger, TrialRecord

WITHOUT_EFFECT = frozenset({
    "api_server_count", "async_scheduling", "block_size", "data_parallel_size", "enable_chunked_prefill",
    "enable_prefix_caching", "enforce_eager", "gpu_memory_utilization", "kv_cache_memory_bytes", "max_logprobs",
    "max_num_batched_tokens", "max_num_partial_prefills", "max_num_seqs", "pipeline_parallel_size",
    "scheduling_policy", "swap_space", "tensor_parallel_size",
})  # fmt: skip
"""vLLM flags that say when and where an answer is computed, not what it is. Any other flag may change answers."""


def answers_key(config: TrialConfig) -> str:
    """What the answers of a configuration depend on, as a key."""
    flags = {name: value for name, value in config.engine.flags if name not in WITHOUT_EFFECT}
    request = [config.request.beam_size, list(config.request.fields)]
    return json.dumps([config.engine.checkpoint, flags, request], sort_keys=True, default=str)


class AnswerStore(Protocol):
    """What a study was answered so far.

    Attributes:
        baseline: Key of the baseline's answers; None while there are none.
    """

    @property
    def baseline(self) -> str | None: ...

    def of(self, key: str) -> Mapping[int, str]:
        """Workload row -> answer, of answers that depend on `key`."""

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        """Remember the answers of a measured trial.

        Args:
            key: What they depend on.
            answers: The trial's requests; those that failed are left out.
            baseline: Whether the trial is the baseline.
        """


@dataclass(frozen=True, slots=True)
class SentAnswers:
    """The answers that came with a trial: those to the like of it, and the baseline's.

    Attributes:
        answers: What answers depend on -> workload row -> answer.
        baseline: Key of the baseline's; None while there are none.
    """

    answers: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    baseline: str | None = None

    def of(self, key: str) -> Mapping[int, str]:
        return self.answers.get(key, {})

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        """Nothing: whoever sent them reads the trial's answers from the ledger."""


class Answers:
    """The first answer to each prompt.

    Args:
        ledger: Of the study; what trials before this session were answered is read from it when it is asked for.

    Attributes:
        baseline: Key of the baseline's answers; None while there are none.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._earlier: dict[str, list[int]] = {}
        self.baseline: str | None = None
        for record in ledger.records():
            if record.state == "completed" and record.answers_key:
                self._earlier.setdefault(record.answers_key, []).append(record.number)
                self._note_baseline(record.answers_key, record.baseline)
        self._found: dict[str, dict[int, str]] = {}

    def _note_baseline(self, key: str, baseline: bool) -> None:
        if baseline:
            self.baseline = key

    def of(self, key: str) -> Mapping[int, str]:
        """Workload row -> answer."""
        if key not in self._found:
            found = self._found[key] = {}
            for number in self._earlier.pop(key, []):
                for row, text in self._ledger.read_answers(number):
                    found.setdefault(row, text)
        return self._found[key]

    def given(self, key: str) -> SentAnswers:
        """What a trial whose answers depend on `key` is sent."""
        keys = [key] if self.baseline is None else [key, self.baseline]
        return SentAnswers({k: self.of(k) for k in keys}, self.baseline)

    def read(self, record: TrialRecord) -> None:
        """Remember the answers of a measured trial, as the ledger keeps them."""
        self._note_baseline(record.answers_key, record.baseline)
        found = dict(self.of(record.answers_key))
        for row, text in self._ledger.read_answers(record.number):
            found.setdefault(row, text)
        self._found[record.answers_key] = found

    def add(self, key: str, answers: Sequence[RequestRecord], baseline: bool) -> None:
        self._note_baseline(key, baseline)
        found = dict(self.of(key))
        for answer in answers:
            if answer.error is None:
                found.setdefault(answer.prompt_id, answer.text)
        self._found[key] = found
