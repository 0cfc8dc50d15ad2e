"""Schema of a measurement: the workload, the load, and the limits beyond which a measurement is repeated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from optimize.config.bounds import bounded, not_negative, positive
from optimize.config.capacity import CapacitySearch

AUTO, WORKLOAD, BASELINE = "auto", "workload", "baseline"
"""What answers are scored against."""
LAST, ALL, MODEL, RECORDED = "last", "all", "model", "recorded"
"""Which turns of a conversation are sent, and whose answers its history holds."""
LEAVE_OUT, CUT, CUT_ANSWERS = "leave_out", "cut", "cut_answers"
"""What is done with rows that exceed the context, however many they are."""
PROMPT_COLUMN, REFERENCE_COLUMN = "prompt", "reference"
FORMATS = (
    AUTO, "prompts", "sharegpt", "messages", "batch", "mt_bench", "lm_eval", "alpaca", "dolly", "gsm8k", "completion",
    "custom", "guidellm", "pairs", "text",
)  # fmt: skip
"""Forms that the rows of a workload may have, as `docs/workloads.md` shows them."""


@dataclass
class SharedPrefix:
    """A common text in front of prompts; of chats it is the system prompt, or the beginning of theirs.

    Attributes:
        tokens: Its length in the model's tokens; 0 for none.
        share: Share of the prompts, or conversations, that begin with it.
        groups: Number of different texts, of which each prompt gets one by chance.
    """

    tokens: int = not_negative(0)
    share: float = bounded(1.0, least=0, most=1)
    groups: int = bounded(1, least=1)


@dataclass
class WorkloadSource:
    """The source of prompts and references.

    Attributes:
        name: Name in reports.
        path: JSONL, JSON, CSV, TSV, Parquet or text file, packed or not; a folder of such files, a pattern
            (`logs/*.jsonl.gz`), or a list; or a Hugging Face dataset id.
        format: Form of its rows; "auto" recognizes it by the columns, and a note says what was taken for what.
        encoding: Encoding of a text file, such as cp1252; null takes UTF-8, or what its first bytes show.
        subset: Configuration name of a hub data set.
        split: Split of a hub data set.
        prompt_column: Text, or a list of chat messages, of which the last answer is no part of the prompt. Of this
            column and the next two, a dotted name leads into objects: `body.messages`.
        reference_column: Text; null without references: answers are then scored against the baseline's own, see
            `quality.reference`. A file without the default column is taken as one of prompts alone, unless its form
            has answers.
        max_tokens_column: Limit of the row's answer in tokens, where it is below `max_tokens`; null for one limit.
        limit: Number of rows used, from the first; null for all.
        max_tokens: Limit of every answer in tokens; null takes the largest of `max_tokens_column`, or derives it from
            the longest reference, and takes 128 without references.
        prompt_tokens: A distribution of `optimize.workload.lengths`; prompts are cut, or continued with others, to fit
            it.
        output_tokens: The same for answers, which then run to their length whatever the model would say.
        in_order: Whether prompts are sent in the order of the rows, as conversations grow; otherwise in a seeded one.
        too_long: What is done with rows that exceed the context (`max_model_len`, else the model's) with their answer:
            "leave_out", "cut" (the text from its left), "cut_answers"; "auto" leaves up to 5 % out and refuses more.
        turns: "last" sends a conversation's last question with its recorded history; "all" sends a conversation turn by
            turn, each after the answer to the one before.
        history: Answers that the history of later turns holds: the model's own ("model"), or the "recorded" ones.
        think_time: Pause between an answer and the next turn: seconds, a distribution of
            `optimize.workload.think_times`, or "recorded" where messages have times; null for that of the load's users.
        shared_prefix: A common text in front of prompts.
    """

    name: str = MISSING
    path: Any = MISSING
    format: str = bounded(AUTO, choices=FORMATS)
    encoding: str | None = None
    subset: str | None = None
    split: str = "test"
    prompt_column: str = PROMPT_COLUMN
    reference_column: str | None = REFERENCE_COLUMN
    max_tokens_column: str | None = None
    limit: int | None = bounded(None, least=1)
    max_tokens: int | None = bounded(None, least=1)
    prompt_tokens: Any = None
    output_tokens: Any = None
    in_order: bool = False
    too_long: str = bounded(AUTO, choices=(AUTO, LEAVE_OUT, CUT, CUT_ANSWERS))
    turns: str = bounded(LAST, choices=(LAST, ALL))
    history: str = bounded(MODEL, choices=(MODEL, RECORDED))
    think_time: Any = None
    shared_prefix: SharedPrefix = field(default_factory=SharedPrefix)

    @property
    def paths(self) -> list[str]:
        """What `path` names: one, or several."""
        return [str(part) for part in (self.path if isinstance(self.path, list) else [self.path])]

    @property
    def where(self) -> str:
        """`path` in words."""
        return ", ".join(self.paths)


@dataclass
class Quality:
    """What answers are scored against; see `optimize.evaluation.references`.

    Attributes:
        reference: "workload" (its references), "baseline" (the answers of the unquantized model itself, decoded
            greedily by the engine of vLLM's defaults), or "auto": the workload's where it has any, else the baseline's.
        prompts: Most prompts that the baseline answers for reference: those that a load sends first.
        floor_runs: How often it answers them; how far these runs differ is the noise floor of every score.
    """

    reference: str = bounded(AUTO, choices=(AUTO, WORKLOAD, BASELINE))
    prompts: int = bounded(100, least=2)
    floor_runs: int = bounded(2, least=2, reason="how far two runs of one model differ is the floor of every score")


@dataclass
class Guard:
    """Limits beyond which a measurement is discarded and repeated.

    Attributes:
        repeats: Most repetitions; three times as many in a confirmation whose open loop seems not to settle.
        steal_max: Share of the processors that the host may withhold during the window.
        other_cores_max: Share of the processors that other programs may use.
        throttled_max: Share of the time that this container may be throttled.
        gpu_slowed_max: Share of the time that heat or the power supply may slow a GPU.
        send_lag_p99_max_s: Delay with which requests may be sent (P99; its whole interval must be beyond).
        send_lag_share_max: The same as a share of the median latency; the larger of the two holds.
        client_cpu_max: Share of a core that a client process may use.
        drift_p: Probability that a steady load is judged to drift, or an open loop not to settle; 0 accepts every load.
    """

    repeats: int = not_negative(1)
    steal_max: float = not_negative(0.1)
    other_cores_max: float = not_negative(0.12)
    throttled_max: float = not_negative(0.02)
    gpu_slowed_max: float = not_negative(0.05)
    send_lag_p99_max_s: float = not_negative(0.01)
    send_lag_share_max: float = not_negative(0.05)
    client_cpu_max: float = not_negative(0.9)
    drift_p: float = not_negative(0.001)


@dataclass
class Iterations:
    """A fixed length in place of the adaptive one; see `optimize.load.fixed_length` for what an iteration is.

    Attributes:
        warmup: Iterations that must have ended before the window opens.
        measured: Iterations that the window holds; 0 leaves warm-up and window to the adaptive rule.
        max_s: Time limit of either; at the limit the iterations so far are measured and marked as cut short.
    """

    warmup: int = not_negative(10)
    measured: int = not_negative(0)
    max_s: float = positive(120.0)


@dataclass
class Load:
    """The load on the engine, and the length of its measurement.

    Attributes:
        arrivals: When requests are due: a profile of `optimize.load.arrivals`.
        clients: Client processes at the start.
        clients_max: Most client processes, where fewer cannot keep up; null for one per core.
        first_answer_max_s: Longest time without any answer, the very first included, which may wait for kernels to be
            compiled. An engine that generates tokens, or is kept from the processors, is given longer.
        warmup_s: Shortest warm-up.
        warmup_requests: Requests that must have ended before the window opens.
        warmup_settle_s: Time that a load is given to settle; longer where two answers take longer.
        warmup_max_s: Longest warm-up; a load that has not settled by then is measured as it is. Null follows the pace
            of the baseline, as do the other limits that may be null (`optimize.load.pace`).
        window_min_s: Shortest window.
        window_requests: Answers to requests due in the window before it may close, however long they take; 20 are
            enough after two minutes, unless `window_max_s` is set.
        window_precise_s: Length up to which a window that has its answers is kept open for `precision`; `window_max_s`
            takes its place.
        window_max_s: Longest window; null measures the baseline as long as it takes, and other trials up to twice as
            long as the baseline took for its answers.
        precision: Metric -> half-width of its interval, as a share of its value, at which the window closes early.
        drain_max_s: Longest wait for the window's last requests; null waits 15 s, or three answers.
        request_timeout_s: Time after which a request counts as failed; null waits for the baseline's as long as the
            engine makes progress, and for others 60 s, or ten times the baseline's longest.
        honour_retry_after: Whether a request that the endpoint throttles (HTTP 429, or 503 with Retry-After) is sent
            again when it says so, the wait being part of its latency; otherwise it counts as failed, as load generators
            have it.
        quiet_wait_s: Longest wait for other programs to end before a session begins, and before a trial that they
            disturbed is run again; null does not look at the machine.
        guard: Limits beyond which a measurement is repeated.
        iterations: A fixed number of warm-up and measured iterations in place of all lengths above.
        capacity: The search for the load that the engine carries within the SLO, in place of one load.
    """

    arrivals: Any = MISSING
    clients: int = positive(1)
    clients_max: int | None = positive(None)
    first_answer_max_s: float = positive(180.0)
    warmup_s: float = not_negative(1.0)
    warmup_requests: int = not_negative(16)
    warmup_settle_s: float = not_negative(15.0)
    warmup_max_s: float | None = not_negative(None)
    window_min_s: float = not_negative(8.0)
    window_requests: int = positive(100)
    window_precise_s: float = not_negative(15.0)
    window_max_s: float | None = positive(None)
    precision: dict[str, float] = positive({}, reason="it is a share, e.g. 0.05")
    drain_max_s: float | None = not_negative(None)
    request_timeout_s: float | None = positive(None)
    honour_retry_after: bool = False
    quiet_wait_s: float | None = not_negative(60.0)
    guard: Guard = field(default_factory=Guard)
    iterations: Iterations = field(default_factory=Iterations)
    capacity: CapacitySearch = field(default_factory=CapacitySearch)


@dataclass
class Bound:
    """A limit on a metric; ratios are relative to the baseline's figure.

    Attributes:
        min: Lowest value allowed.
        max: Highest value allowed.
        min_ratio: Lowest share of the baseline's value allowed.
        max_ratio: Highest multiple of the baseline's value allowed.
    """

    min: float | None = None
    max: float | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None
