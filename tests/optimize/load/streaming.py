"""A real HTTP server that streams answers, and loads of it by real client processes."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from aiohttp import web

from optimize.engine.base import Endpoint, RequestConfig
from optimize.load.client_pool import LoadRequest, LoadRun
from optimize.workload.workload import Workload

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
WORKLOAD = Workload("test", ["one", "two", "three"], ["1", "2", "3"], max_tokens=5)
LIMIT_S = 120.0


async def stream(request: web.Request, delay_s: float = 0.005) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for token in ("a", "b"):
        await asyncio.sleep(delay_s)
        await response.write(f"data: {json.dumps({'choices': [{'text': token}]})}\n\n".encode())
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
    return response


@contextmanager
def serving(handler: Handler = stream) -> Iterator[Endpoint]:
    """A server in a thread of this process."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{port}", "key", "model")
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        with warnings.catch_warnings():  # a connection that was just being accepted is nobody's to close
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def request(workload: Workload = WORKLOAD, later: Sequence[int] = ()) -> LoadRequest:
    return LoadRequest(workload, RequestConfig(), workload.max_tokens, LIMIT_S, seed=0, later=later)


def wait_for(run: LoadRun, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < deadline, f"{len(run.records)} requests ended in {LIMIT_S:g} s"
        time.sleep(0.01)
        run.update()


def wait_for_records(run: LoadRun, count: int) -> None:
    wait_for(run, lambda: len(run.records) >= count)
