"""A client process: one event loop that sends its share of a load and reports the answers.

`python -m optimize.load.client_process FD` is started by `optimize.load.client_pool`; it ends when its socket closes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvloop

from objectives import RequestRecord
from optimize.engine.priority import raise_client
from optimize.load.arrivals import ClosedLoop
from optimize.load.channel import framed, receive
from optimize.load.client import Client
from optimize.load.protocol import ClientShare, Follow, Prompts, Report, Stop
from optimize.load.session import open_session
from optimize.redaction import redacted_streams, register, register_environment
from optimize.workload.conversation import Dialogue, Exchange, Single

REPORT_S = 0.05
_ARRIVALS = -1
"""Source of the requests that a schedule has sent; users are sources by their number, conversations by themselves."""


@dataclass(slots=True)
class _Pending:
    row: int
    due_s: float
    sent_s: float
    turn: int


@dataclass
class _Load:
    """A share of a load while it is being sent."""

    share: ClientShare
    prompts: Prompts
    session: aiohttp.ClientSession
    records: list[RequestRecord] = field(default_factory=list)
    pending: dict[asyncio.Task[RequestRecord], _Pending] = field(default_factory=dict)
    upcoming: dict[object, float] = field(default_factory=dict)
    source: asyncio.Task[None] | None = None
    talks: dict[asyncio.Task[RequestRecord], object] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        share = self.share
        self.client = Client(self.session, share.endpoint, share.request, share.bounds, self.clock)

    def clock(self) -> float:
        return time.monotonic() - self.share.began

    def follow(self, order: Follow) -> None:
        if self.source is not None:
            self.source.cancel()
        talks = set(self.talks.values())  # which go on, as requests do that were sent
        self.upcoming = {source: due_s for source, due_s in self.upcoming.items() if source in talks}
        self.count = 0  # a profile begins with the first row, whatever the warm-up sent
        self.source = asyncio.create_task(self._generate(order))
        self.source.add_done_callback(_end_with)

    async def _generate(self, order: Follow) -> None:
        arrivals, index, processes = order.arrivals, self.share.index, self.share.processes
        if isinstance(arrivals, ClosedLoop):
            users_here = range(index, arrivals.users, processes)
            async with asyncio.TaskGroup() as users:
                for user in users_here:
                    due_s = order.start_s + arrivals.first_due_s(user)
                    users.create_task(self._user(user, arrivals.think_s, due_s))
            return
        for number, offset_s in enumerate(arrivals.due_times_s(order.seed)):
            if number % processes != index:
                continue
            due_s = self.upcoming[_ARRIVALS] = order.start_s + offset_s
            if (wait := due_s - self.clock()) > 0:
                await asyncio.sleep(wait)
            self._arrive(due_s)

    async def _user(self, user: int, think_s: float, due_s: float) -> None:
        while True:
            dialogue = self._next()
            record = await self._turn(user, dialogue, due_s)
            record = await self._go_on(user, dialogue, record, think_s)
            due_s = record.done_s + think_s

    def _arrive(self, due_s: float) -> None:
        """Send the next request of a schedule; the later turns of its conversation follow their own answers."""
        dialogue = self._next()
        first = self._send(_ARRIVALS, dialogue, due_s)
        if not dialogue.ended:
            talk = asyncio.create_task(self._talk(dialogue, first))
            self.talks[talk] = dialogue
            talk.add_done_callback(_end_with)
            talk.add_done_callback(self.talks.pop)

    async def _talk(self, dialogue: Exchange, first: asyncio.Task[RequestRecord]) -> RequestRecord:
        return await self._go_on(dialogue, dialogue, await first, 0.0)

    async def _go_on(self, source: object, dialogue: Exchange, record: RequestRecord, think_s: float) -> RequestRecord:
        """Send the turns after one that was answered, each after the answer to the one before; returns the last."""
        while not dialogue.ended:
            record = await self._turn(source, dialogue, record.done_s + dialogue.pause_s(think_s))
        return record

    async def _turn(self, source: object, dialogue: Exchange, due_s: float) -> RequestRecord:
        self.upcoming[source] = due_s
        # A zero sleep even without a pause: a server that refuses at once must not starve the event loop.
        await asyncio.sleep(max(0.0, due_s - self.clock()))
        return await self._send(source, dialogue, due_s)

    def _next(self) -> Exchange:
        """The next request, or conversation, of this process."""
        share, prompts = self.share, self.prompts
        number = share.rows[(self.count * share.processes + share.index) % len(share.rows)]
        self.count += 1
        if prompts.conversations is None:
            return Single(number, prompts.prompts[number])
        opening = prompts.prompts[prompts.conversations.rows[number][0]]
        return Dialogue(prompts.conversations, number, opening, self._bound)

    def _bound(self, row: int) -> int:
        """Most tokens of the answer to a row."""
        bounds = (self.prompts.output_tokens, self.prompts.limits)
        return min([self.share.bounds.max_tokens, *(tokens[row] for tokens in bounds if tokens is not None)])

    def _send(self, source: object, dialogue: Exchange, due_s: float) -> asyncio.Task[RequestRecord]:
        self.upcoming.pop(source, None)
        task = asyncio.create_task(self._exchange(dialogue, due_s))
        self.pending[task] = _Pending(dialogue.row, due_s, self.clock(), dialogue.turn)
        task.add_done_callback(self._ended)
        return task

    async def _exchange(self, dialogue: Exchange, due_s: float) -> RequestRecord:
        row, lengths, limits = dialogue.row, self.prompts.output_tokens, self.prompts.limits
        length = None if lengths is None else min(lengths[row], self.share.bounds.max_tokens)
        limit = None if limits is None else limits[row]
        fields = None if self.prompts.fields is None else self.prompts.fields[row]
        return dialogue.take(await self.client.send(row, dialogue.prompt, due_s, length, limit, fields))

    def _ended(self, task: asyncio.Task[RequestRecord]) -> None:
        del self.pending[task]
        if not task.cancelled():
            _end_with(task)
            self.records.append(task.result())

    def report(self) -> Report:
        records, self.records = self.records, []
        now = self.clock()
        waiting = [p.due_s for p in self.pending.values()] + [due for due in self.upcoming.values() if due <= now]
        return Report(records, min(waiting, default=None), now, time.process_time())

    async def stop(self) -> Report:
        """End the load; requests without an answer are given up."""
        now = self.clock()
        given_up = [
            RequestRecord(p.row, p.due_s, p.sent_s, None, now, 0, 0, "", "timeout", turn=p.turn)
            for p in self.pending.values()
        ]
        tasks = [*self.talks, *self.pending] if self.source is None else [self.source, *self.talks, *self.pending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.session.close()
        report = self.report()
        report.unanswered = given_up
        return report


def _end_with(task: asyncio.Task[Any]) -> None:
    """Exit where a task failed: the load must not look like one with nothing more to send, or with fewer requests."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)
        os._exit(1)


class _Process:
    """The state of the process between messages."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer, self._prompts = writer, Prompts((), None)
        self._load: _Load | None = None
        self._reporting: asyncio.Task[None] | None = None

    async def handle(self, message: object) -> None:
        """Carry out one message."""
        match message:
            case Prompts():
                self._prompts = message
            case ClientShare():
                for secret in message.endpoint.secrets:
                    register(secret)
                load = self._load = _Load(message, self._prompts, open_session(message.endpoint))
                self._reporting = asyncio.create_task(self._report(load))
            case Follow() if self._load is not None:
                self._load.follow(message)
            case Stop() if self._load is not None and self._reporting is not None:
                self._reporting.cancel()
                self._writer.write(framed(await self._load.stop()))
                self._load = None
            case _:
                raise AssertionError(f"no such message now: {message!r}")

    async def _report(self, load: _Load) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._writer.write(framed(load.report()))


async def serve(sock: socket.socket) -> None:
    """Carry out messages until the socket closes."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 26)
    process = _Process(writer)
    while True:
        try:
            message = await receive(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        await process.handle(message)


def main() -> None:
    raise_client()
    gc.freeze()  # imported modules stay: no collection need look at them again
    register_environment()
    with redacted_streams():
        try:
            uvloop.run(serve(socket.socket(fileno=int(sys.argv[1]))))
        except Exception:  # here, where what is written hides secrets
            traceback.print_exc()
            sys.exit(1)


if __name__ == "__main__":
    main()
