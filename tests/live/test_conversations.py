"""Conversations turn by turn on a live engine: the history grows by its own answers, and is found cached."""

from __future__ import annotations

import time

import pytest

from objectives.turns import cached_share
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool, LoadRequest
from optimize.workload.conversation import Conversations
from optimize.workload.workload import Workload
from tests.live.engines import FLAGS, MODEL, LiveEngines

pytestmark = pytest.mark.live
OWN = (("max_num_seqs", 16), ("block_size", 32), ("enable_prompt_tokens_details", True))
NAMES = ("dog", "cat", "house", "garden")
LIMIT_S = 60.0


def talks(turns: int) -> Workload:
    asks = [
        [{"role": "user", "content": f"the old man sees the {name} {turn}"}] for name in NAMES for turn in range(turns)
    ]
    rows = [list(range(number * turns, (number + 1) * turns)) for number in range(len(NAMES))]
    conversations = Conversations(rows, asks, [[] for _ in asks], [None] * len(asks), plain=True)
    prompts = [f"User: {ask['content']}\n\nAssistant:" for (ask,) in asks]
    return Workload("talks", prompts, [], 12, conversations=conversations)


def test_later_turns_hold_what_was_answered_and_find_it_cached(live_engines: LiveEngines) -> None:
    workload = talks(turns=4)
    with live_engines.lease(EngineConfig(MODEL, "fp16", (*FLAGS, *OWN))) as lease, ClientPool() as clients:
        lease.engine.reset()
        request = LoadRequest(workload, RequestConfig(), workload.max_tokens, LIMIT_S, seed=0)
        with clients.loading(lease.engine.endpoint, request) as run:
            run.follow(ClosedLoop(users=2))
            deadline = time.monotonic() + LIMIT_S
            while len({record.prompt_id for record in run.records}) < len(workload.prompts):
                assert time.monotonic() < deadline, run.records
                time.sleep(0.05)
                run.update()
    first = {r.prompt_id: r for r in sorted(run.records, key=lambda r: r.due_s, reverse=True)}
    for rows in workload.conversations.rows if workload.conversations else ():
        one, *later = (first[row] for row in rows)
        assert (one.turn, one.cached_tokens) == (1, 0)
        for before, record in zip([one, *later], later, strict=False):
            assert record.error is None and record.turn == before.turn + 1
            assert record.prompt_tokens and before.prompt_tokens and record.cached_tokens is not None
            assert record.prompt_tokens > before.prompt_tokens + 5  # the answer, and the next question
            assert record.cached_tokens >= (before.prompt_tokens // 32) * 32
    early, late = (cached_share([r for r in first.values() if r.turn == turn]) for turn in (2, 4))
    assert early is not None and late is not None and late.value > max(0.2, early.value)
