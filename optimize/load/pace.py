"""Limits of a load that follow from how fast a model answers on this machine, rather than from a fixed clock. Pure.

A limit in seconds fits one model on one machine. Whether an answer takes 50 ms or 20 s is known only once the baseline
has answered: its pace sets the limits of every later trial, and a limit that the user sets takes their place. Nothing
is shorter than what fits a quick model, so that a study of one takes no longer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from objectives import RequestRecord
from optimize.config.measuring import Load

LONG_S, LEAST_ANSWERS = 120.0, 20
"""A window of so many seconds closes with so many answers, fewer than `load.window_requests`: the half-width of a
mean's interval falls with the root of the answers only, and twenty of 20 s each from four users take 100 s."""
_FIRST = 16
_ANSWERS_TO_SETTLE = 2.0
_DRAIN_S, _ANSWERS_TO_DRAIN = 15.0, 3.0
_REQUEST_S, _FAR_SLOWER = 60.0, 10.0
_WINDOWS = 2.0
_DAY_S = 86400.0
_IDLE_SHARE = 0.01
_NOTABLY = 1.1


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model answers on this machine, as its baseline did.

    Attributes:
        answer_s: Seconds of the longest answer in the window.
        window_s: Seconds in which the answers of a window came.
        answers: How many they are: `load.window_requests`, or fewer where those would have taken too long.
        requests: `load.window_requests`; 0 in records of earlier versions.
        least_s: `load.window_min_s`.
        disturbed: Whether the machine was disturbed meanwhile: what is too slow beside it was under like conditions.
    """

    answer_s: float
    window_s: float
    answers: int = 0
    requests: int = 0
    least_s: float = 0.0
    disturbed: bool = False

    @classmethod
    def from_dict(cls, raw: Mapping[str, float]) -> Pace | None:
        """Read what `asdict` made of one, by this version or an earlier one; None of an empty mapping."""
        if not raw:
            return None
        whole = {name: int(raw.get(name, 0)) for name in ("answers", "requests")}
        disturbed = bool(raw.get("disturbed", False))
        return cls(raw["answer_s"], raw["window_s"], **whole, least_s=raw.get("least_s", 0.0), disturbed=disturbed)

    def in_words(self, longest_s: float) -> str:
        """What windows are closed by, and why one was longer than its shortest; empty where that is not known.

        Args:
            longest_s: Seconds of the longest window.
        """
        if not self.requests:
            return ""
        rule = f"{self.requests} answers in at least {self.least_s:g} s were asked for"
        if self.answers < self.requests:
            return (
                f"{rule}; an answer takes up to {self.answer_s:.3g} s here, so {LEAST_ANSWERS} of them in "
                f"{LONG_S:g} s are enough (load.window_max_s=SECONDS waits for all)"
            )
        longer = longest_s > _NOTABLY * self.least_s
        return f"{rule}; a longer window waited for them, or for narrow enough intervals" if longer else rule


def pace_of(due: Sequence[RequestRecord], window_s: float, load: Load) -> Pace | None:
    """The pace of a window; None where nothing was answered.

    Args:
        due: Requests due in the window.
        window_s: Its length.
        load: The settings; answers beyond `load.window_requests` would not have been needed.
    """
    latencies = [r.latency_s for r in due if r.error is None]
    if not latencies:
        return None
    answers = min(load.window_requests, len(latencies))
    longest_s, seconds = max(latencies), window_s * answers / len(latencies)
    return Pace(longest_s, seconds, answers, load.window_requests, load.window_min_s)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one load.

    Attributes:
        load: The settings; what the user sets there takes the place of what follows from the pace.
        pace: The baseline's pace; None measures as long as it takes.
        turns: Mean turns of a conversation.
        pause_s: Mean seconds of the pauses between them.
    """

    load: Load
    pace: Pace | None = None
    turns: float = 1.0
    pause_s: float = 0.0

    @property
    def request_s(self) -> float:
        """Time after which a request counts as failed: ten times the baseline's longest answer; a day without one."""
        derived = _DAY_S if self.pace is None else max(_REQUEST_S, _FAR_SLOWER * self.pace.answer_s)
        return _set(self.load.request_timeout_s, derived)

    @property
    def silence_s(self) -> float:
        """How long a load may go on without any answer; see also `is_stalled`."""
        slow_s = 0.0 if self.pace is None else _FAR_SLOWER * self.pace.answer_s
        return max(self.load.first_answer_max_s, slow_s)

    def warmup_s(self, records: Sequence[RequestRecord]) -> float:
        """Longest warm-up: at least the time of two answers, so that every user has had one from a busy engine.

        Of conversations, it is the time of two of mean length: see `mixing_s`.
        """
        answer_s = self.turns * (self._answer_s(records) + self.pause_s)
        derived = max(self.load.warmup_settle_s, _ANSWERS_TO_SETTLE * answer_s)
        return _set(self.load.warmup_max_s, derived)

    def mixing_s(self, records: Sequence[RequestRecord]) -> float:
        """Second of the load from which all turns of conversations come as often as the workload holds them; 0 without.

        A load begins with first turns alone. It is mixed after the time of two conversations of mean length, answers
        and pauses: each user has then been through two on average, and of a schedule only turns are missing of
        conversations that are longer than that.
        """
        if self.turns == 1 or not records:
            return 0.0
        latency_s = sum(r.latency_s for r in records) / len(records)
        return _ANSWERS_TO_SETTLE * self.turns * (latency_s + self.pause_s)

    @property
    def window_s(self) -> float:
        """Longest window: twice the time in which the baseline gave as many answers as a window needs.

        Fewer than five answers then mean a rate far below the baseline's: an eighth of it where forty were needed.
        """
        load = self.load
        derived = math.inf if self.pace is None else _WINDOWS * self.pace.window_s
        return _set(load.window_max_s, max(load.window_precise_s, load.window_min_s, derived))

    @property
    def precise_s(self) -> float:
        """Length up to which a window that has its answers is kept open until it is precise."""
        return _set(self.load.window_max_s, self.load.window_precise_s)

    def drain_s(self, records: Sequence[RequestRecord]) -> float:
        """Longest wait for the window's last requests: three answers that take as long as those so far."""
        return _set(self.load.drain_max_s, max(_DRAIN_S, _ANSWERS_TO_DRAIN * self._answer_s(records)))

    def has_enough(self, answers: int, window_s: float) -> bool:
        """Whether a window of this length holds enough answers.

        A user who sets the longest window, or a number of iterations, is to have all of them.
        """
        load = self.load
        if answers >= load.window_requests:
            return window_s >= load.window_min_s
        bounded = load.window_max_s is not None or load.iterations.measured > 0
        return not bounded and answers >= LEAST_ANSWERS and window_s >= max(LONG_S, load.window_min_s)

    def _answer_s(self, records: Sequence[RequestRecord]) -> float:
        """The longest answer of the baseline; of its own load, of the first: a queue that grows must not extend it."""
        if self.pace is not None:
            return self.pace.answer_s
        return max((r.latency_s for r in records[:_FIRST]), default=0.0)


def _set(bound: float | None, derived: float) -> float:
    return derived if bound is None else bound


@dataclass(frozen=True, slots=True)
class Effort:
    """What an engine did while it gave no answer.

    Attributes:
        tokens: Tokens that it generated; 0 where it does not say.
        cpu_s: Processor seconds that it used; None where they are not known.
    """

    tokens: float = 0.0
    cpu_s: float | None = None


def is_stalled(silent_s: float, limit_s: float, effort: Effort) -> bool:
    """Whether an engine that gives no answer will give none.

    It is making progress while it generates tokens. One that other programs keep from the processors is given as many
    seconds of a processor's time as it would otherwise have by the clock; one that asks for none is not waited for.

    Args:
        silent_s: Seconds since the last answer.
        limit_s: `Limits.silence_s`.
        effort: Since the last answer.
    """
    if silent_s < limit_s or effort.tokens > 0:
        return False
    cpu_s = effort.cpu_s
    return cpu_s is None or cpu_s >= limit_s or cpu_s < _IDLE_SHARE * silent_s
