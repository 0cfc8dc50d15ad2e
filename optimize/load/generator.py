"""Drives a load against a live engine: warm-up, window, and on until the window's last request is answered."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp
import uvloop

from objectives import RequestRecord
from optimize.engine.base import Engine, RequestConfig
from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import Arrivals, ClosedLoop
from optimize.load.client import Client, open_session
from optimize.schema import Load
from optimize.workload import Workload

_WATCH_S = 0.1
_FIRST_WATCH_S = 0.02
_FIRST_TOKENS, _FIRST_TOGETHER = 4, 4
MIN_ANSWERS = 5
"""With fewer answers in the longest window allowed, a configuration is too slow to be measured at all."""

Phase = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Records in order of completion, and the window within them; times are seconds since the load began.

    Attributes:
        records: Every request that ended, warm-up included.
        window_start_s: Start of the measured window.
        window_end_s: End of the measured window.
        began_at: `time.monotonic()` at second 0, to line telemetry up.
        first_answer_s: How long the engine took for its very first answers, before second 0.
        drained_s: When the window's last request had been answered.
    """

    records: list[RequestRecord]
    window_start_s: float
    window_end_s: float
    began_at: float
    first_answer_s: float
    drained_s: float


def run_load(
    engine: Engine,
    workload: Workload,
    request: RequestConfig,
    load: Load,
    arrivals: Arrivals,
    seed: int,
    phase: Phase,
    first_answers: bool = True,
    give_up_s: float | None = None,
) -> LoadResult:
    """Run one load to its end.

    Requests due within the window keep their company until the last of them is answered: the load goes on while they
    drain, so that none of them is measured on an emptying engine.

    Args:
        engine: The live engine; its death ends the load at once.
        workload: Prompts, sent in a seeded order, again and again.
        request: Decoding settings.
        load: Lengths of warm-up and window, time limits.
        arrivals: When requests are due.
        seed: Of the order of prompts and of random arrivals.
        phase: Told of "first answers", "warm-up" and "measuring" as they begin.
        first_answers: Whether kernels may have to be compiled first.
        give_up_s: How long the load may go on without a single answer; None waits as long as for the first answers.

    Raises:
        EngineFailure: the engine died, refuses such requests, gave no answer during warm-up, or fewer than
            `MIN_ANSWERS` to the requests of `load.window_max_s`.
    """
    patience_s = load.first_answer_max_s if give_up_s is None else give_up_s
    run = _Run(engine, workload, request, load, arrivals, seed, phase, patience_s)
    return uvloop.run(run.run(first_answers))


class _Run:
    def __init__(
        self, engine: Engine, workload: Workload, request: RequestConfig, load: Load, arrivals: Arrivals, seed: int,
        phase: Phase, patience_s: float,
    ) -> None:  # fmt: skip
        self._engine, self._workload, self._request, self._load = engine, workload, request, load
        self._patience_s = patience_s
        self._arrivals, self._seed, self._phase = arrivals, seed, phase
        self._records: list[RequestRecord] = []
        self._pending: dict[asyncio.Task[None], float] = {}
        self._rows = _endless_rows(len(workload.prompts), seed)
        self._began = 0.0

    def _clock(self) -> float:
        return time.monotonic() - self._began

    async def run(self, first_answers: bool) -> LoadResult:
        async with open_session(self._engine.endpoint) as session:
            self._began = time.monotonic()
            self._client = Client(
                session, self._engine.endpoint, self._request, self._workload.max_tokens, self._clock,
                self._load.request_timeout_s,
            )  # fmt: skip
            if first_answers:
                await self._first_answers(session)
            first_answer_s = self._clock()
            self._began = time.monotonic()
            source = asyncio.create_task(self._generate())
            try:
                start_s, end_s = await self._measure(source)
                drained_s = self._clock()
            finally:
                await self._cancel(source)
        return LoadResult(self._records, start_s, end_s, self._began, first_answer_s, drained_s)

    async def _first_answers(self, session: aiohttp.ClientSession) -> None:
        """Wait for short answers, to one request and then to several at once.

        The first request of its kind may compile kernels, for longer than any warm-up; and torch compiles twice, for
        one sequence and for any number of them.
        """
        limit_s = self._load.first_answer_max_s
        client = Client(session, self._engine.endpoint, self._request, _FIRST_TOKENS, self._clock, timeout_s=limit_s)
        self._phase("first answers")
        prompts = self._workload.prompts
        for together in (1, _FIRST_TOGETHER):
            sending = [
                asyncio.create_task(client.send(i, prompts[i % len(prompts)], self._clock())) for i in range(together)
            ]
            while not all(task.done() for task in sending):
                self._engine.check()
                await asyncio.sleep(_FIRST_WATCH_S)
            answers = [task.result() for task in sending]
            if all(a.error is not None for a in answers):
                self._refuse(answers[-1], limit_s)

    def _refuse(self, record: RequestRecord, limit_s: float) -> None:
        """Give up where the answer shows that no other will come; other errors may pass."""
        if record.error == "timeout":
            raise EngineFailure(
                FailureKind.TOO_SLOW, f"no first answer within {limit_s:.0f} s (load.first_answer_max_s)"
            )
        if record.error == "refused":
            raise EngineFailure(FailureKind.REFUSED, f"the engine refuses such requests: {record.text[:300]}")

    async def _measure(self, source: asyncio.Task[None]) -> tuple[float, float]:
        load = self._load
        self._phase("warm-up")
        warm = await self._until(
            source,
            lambda t: t >= load.warmup_s and len(self._records) >= load.warmup_requests and self._any_answer(),
            min(load.warmup_max_s, self._patience_s),
        )
        if not self._records:
            warm = await self._until(source, lambda _: bool(self._records), self._patience_s)
        if not self._any_answer():
            raise self._hopeless(0, warm, "warm-up")
        self._phase("measuring")
        end_s = await self._until(
            source,
            lambda t: t - warm >= load.window_min_s and self._answers(warm, t) >= load.window_requests,
            warm + load.window_max_s,
        )
        await self._drain(source, warm, end_s)
        answers = self._answers(warm, end_s)
        if answers < MIN_ANSWERS:
            raise self._hopeless(answers, end_s - warm, "window (load.window_max_s)")
        return warm, end_s

    def _any_answer(self) -> bool:
        return any(r.error is None for r in self._records)

    def _answers(self, start_s: float, end_s: float) -> int:
        """Answers so far to the requests due in [start_s, end_s)."""
        return sum(r.error is None and start_s <= r.due_s < end_s for r in self._records)

    def _hopeless(self, answers: int, seconds: float, where: str) -> EngineFailure:
        text = f"{answers} answers in {seconds:.0f} s of {where}: too slow, or failing, to be measured"
        return EngineFailure(FailureKind.TOO_SLOW, text + self._common_error())

    async def _drain(self, source: asyncio.Task[None], start_s: float, end_s: float) -> None:
        """Go on until nothing due in the window is pending; what outlasts the time-out counts with its wait so far."""

        def waiting() -> list[float]:
            return [due for due in self._pending.values() if start_s <= due < end_s]

        await self._until(source, lambda _: not waiting(), end_s + self._load.drain_max_s)
        now = self._clock()
        for due in waiting():
            self._records.append(RequestRecord(-1, due, due, None, now, 0, 0, "", "timeout"))

    async def _until(self, source: asyncio.Task[None], done: Callable[[float], bool], limit_s: float) -> float:
        """Wait for `done(now)` or the limit while watching the engine; returns the time it ended."""
        while not done(now := self._clock()) and now < limit_s:
            self._engine.check()
            if source.done():
                source.result()
            await asyncio.sleep(_WATCH_S / 4 if now > limit_s - 1 else _WATCH_S)
        return self._clock()

    async def _generate(self) -> None:
        if isinstance(self._arrivals, ClosedLoop):
            await asyncio.gather(*(self._user(self._arrivals) for _ in range(self._arrivals.users)))
            return
        for due_s in self._arrivals.due_times_s(self._seed):
            if (wait := due_s - self._clock()) > 0:
                await asyncio.sleep(wait)
            self._spawn(due_s)

    async def _user(self, arrivals: ClosedLoop) -> None:
        due_s = self._clock()
        while True:
            await self._spawn(due_s)
            due_s = self._clock() + arrivals.think_s
            # A zero sleep even without think time: a server that refuses at once must not starve the event loop.
            await asyncio.sleep(arrivals.think_s)

    def _spawn(self, due_s: float) -> asyncio.Task[None]:
        row = next(self._rows)
        task = asyncio.create_task(self._send(row, due_s))
        self._pending[task] = due_s
        task.add_done_callback(self._pending.pop)
        return task

    async def _send(self, row: int, due_s: float) -> None:
        self._records.append(await self._client.send(row, self._workload.prompts[row], due_s))

    async def _cancel(self, source: asyncio.Task[None]) -> None:
        tasks = [source, *self._pending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _common_error(self) -> str:
        failed = [r for r in self._records if r.error is not None]
        if not failed:
            return ""
        last = failed[-1]
        return f"; {len(failed)} requests failed, the last as {last.error} {last.text[:200]}".rstrip()


def _endless_rows(n: int, seed: int) -> Iterator[int]:
    """Workload rows in one seeded order, over and over."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return itertools.cycle(order)
