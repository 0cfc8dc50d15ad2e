"""The types of all objectives: request records and their measurement go in, an estimate comes out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar


class Direction(StrEnum):
    """Which way an objective improves."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured figure with its 95 % confidence interval.

    Attributes:
        value: The point estimate, in `unit`.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: Number of independent observations (requests, batches, segments) behind it.
        unit: Unit of the three figures, e.g. "s", "bytes", "1/s".
    """

    value: float
    low: float
    high: float
    n: int
    unit: str

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "unit": self.unit}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Estimate:
        return cls(float(raw["value"]), float(raw["low"]), float(raw["high"]), int(raw["n"]), str(raw["unit"]))


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as observed by the client. Times are seconds since the load began.

    Attributes:
        prompt_id: Row of the workload.
        due_s: When the schedule has it sent; latency counts from here.
        sent_s: When the client sent it.
        first_token_s: Arrival of the first token of any kind, thinking included; None where the answer did not stream.
        done_s: When the answer was complete or the request failed.
        prompt_tokens: Length of the prompt as counted by the server; None where it does not count.
        output_tokens: Length of the answer, thinking included, as counted by the server; for beam search, the mean over
            the beams; None where it does not count.
        text: The answer without its thinking; of a failure, what is known of it.
        error: None, or the class of the failure: timeout, connection, malformed (no answer that can be read), refused
            (by status 4xx), unauthorized (401, 403), throttled (429, or 503 with Retry-After), server (any other
            5xx), aborted (an error within an answer that had begun).
        first_answer_s: Arrival of the first token after the thinking; None where there was none, or no stream.
        turn: Turn of its conversation, from 1; 1 for a request that belongs to none.
        last: Whether its conversation ended with it.
        dropped: Turns that its conversation still had when it ended with it: after a failure, or because the next one
            would have exceeded the model's context.
        cached_tokens: Tokens of the prompt that the server found in its cache; None where it does not say.
    """

    prompt_id: int
    due_s: float
    sent_s: float
    first_token_s: float | None
    done_s: float
    prompt_tokens: int | None
    output_tokens: int | None
    text: str
    error: str | None = None
    first_answer_s: float | None = None
    turn: int = 1
    last: bool = True
    dropped: int = 0
    cached_tokens: int | None = None

    @property
    def latency_s(self) -> float:
        return self.done_s - self.due_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.due_s

    @property
    def thinks(self) -> bool:
        """Whether thinking came before the answer, or in place of it."""
        return self.first_token_s is not None and self.first_token_s != self.first_answer_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None for answers that did not stream."""
        if self.first_token_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.done_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Memory of the engine by part, in bytes.

    Attributes:
        weights_bytes: Weights as the engine's kernels hold them, repacked ones included; the size of the checkpoint
            where a kernel hides them.
        kv_pool_bytes: KV cache reserved by the engine, in use or not.
        kv_block_tokens: Tokens per block of the KV cache; a sequence takes whole blocks.
        kv_block_bytes: Bytes of one block.
        max_sequences: Sequences the engine runs at once (max_num_seqs).
        activations_bytes: Peak working memory of the forward passes since the last reset; None where it is unknown.
        process_tree_bytes: Proportional set size of all engine processes at the end of the window.
        checkpoint_bytes: Tensors of the checkpoint that the engine loaded.
        kv_resident_bytes: Resident part of the KV pool; None where it is unknown.
        device_bytes: Accelerator memory in use by all programs; None on a CPU.
        graphs_bytes: Pools of captured CUDA graphs; None on a CPU.
        context_bytes: What the engine holds of an accelerator beside torch's allocations: context, kernels,
            workspaces, communication; None on a CPU, and where the driver does not tell.
    """

    weights_bytes: int
    kv_pool_bytes: int
    kv_block_tokens: int
    kv_block_bytes: int
    max_sequences: int
    activations_bytes: int | None
    process_tree_bytes: int
    checkpoint_bytes: int = 0
    kv_resident_bytes: int | None = None
    device_bytes: int | None = None
    graphs_bytes: int | None = None
    context_bytes: int | None = None


@dataclass(frozen=True)
class Measurement:
    """Observations of one configuration under load.

    Attributes:
        records: Every request of the load, warm-up included, in order of completion.
        window_start_s: Start of the measured window; requests due before it are warm-up.
        window_end_s: End of the measured window.
        references: Workload row -> reference answer.
        series: Telemetry name -> (time_s, value) samples taken during the load.
        memory: Parts of the engine's memory; None for an endpoint on a machine that cannot be inspected.
        beam_size: Sequences the engine decodes for each request.
        answers: Workload row -> answer of the same model with the same decoding in other measurements.
        reference_logprobs: Workload row -> (sum of the log-probabilities of the reference's tokens under the model,
            number of these tokens).
        task_scores: Key of an accuracy -> task -> score of each of its documents, between 0 and 1.
        capacity: Load that the engine carries within the service-level objective, in 1/s or users, where that was
            searched for: the records are those of all probes then, and the window is within one at or below it.
    """

    records: Sequence[RequestRecord]
    window_start_s: float
    window_end_s: float
    references: Mapping[int, str]
    series: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    memory: MemoryParts | None = None
    beam_size: int = 1
    answers: Mapping[int, str] = field(default_factory=dict)
    reference_logprobs: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    task_scores: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    capacity: Estimate | None = None

    @property
    def window_s(self) -> float:
        return self.window_end_s - self.window_start_s

    @cached_property
    def due_in_window(self) -> list[RequestRecord]:
        """Requests the schedule placed in the window: the population of every latency figure."""
        return [r for r in self.records if self.window_start_s <= r.due_s < self.window_end_s]

    @cached_property
    def answered(self) -> list[RequestRecord]:
        """The answered requests of `due_in_window`."""
        return [r for r in self.due_in_window if r.error is None]

    @cached_property
    def completed_in_window(self) -> list[RequestRecord]:
        """Answers that arrived within the window: the population of every rate."""
        return [r for r in self.records if r.error is None and self.window_start_s <= r.done_s < self.window_end_s]

    def samples(self, name: str) -> list[float]:
        """Values of one telemetry series within the window."""
        return [v for t, v in self.series.get(name, ()) if self.window_start_s <= t <= self.window_end_s]


class Objective(ABC):
    """One figure to optimize, to constrain, or to record.

    A study names subclasses by `_target_` in `conf/objectives/`; they may be dataclasses with parameters.
    """

    unit: str
    direction: Direction
    log_scale: ClassVar[bool] = True
    """Whether ratios matter rather than differences: the sampler then sees the logarithm."""
    same_sample: ClassVar[bool] = False
    """Whether every measurement of a study scores the same prompts: repeats then say nothing about other prompts."""

    @abstractmethod
    def estimate(self, measurement: Measurement) -> Estimate | None:
        """Estimate the figure; None where it does not apply (e.g. TTFT of beam search)."""

    def point(self, value: float, n: int) -> Estimate:
        """The estimate of an exact count or reading: its interval is the value itself."""
        return Estimate(value, value, value, n, self.unit)


def gain(direction: Direction, value: float, reference: float) -> float:
    """Gain of `value` over `reference` as a ratio; above 1 is better in either direction.

    It is 1 for equal figures, zeros included, and NaN where either is not positive, for a ratio then means nothing.
    """
    if value == reference:
        return 1.0
    if value <= 0 or reference <= 0:
        return math.nan
    return value / reference if direction is Direction.MAXIMIZE else reference / value
