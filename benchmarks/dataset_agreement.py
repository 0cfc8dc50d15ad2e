"""Do this project and `vllm bench serve` agree on one file of conversations in the form of ShareGPT?

Both send the first question of each conversation, in the same seeded order, and let the answer be as long as the
recorded one. So the tokens sent must be the same, and those received nearly so; what differs is who counts and waits.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import engine_of
from benchmarks.peers import LoadRequest, vllm_bench
from optimize.config.compose import configuration
from optimize.engine.base import Engine, RequestConfig
from optimize.load import client_pool
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.plan import make_plan
from optimize.workload.tokens import tokenizer_of
from optimize.workload.workload import Workload

USERS, SEED, TIMEOUT_S = 4, 0, 600.0
FIGURES = ("tokens_sent", "tokens_received", "ttft_s", "tpot_s", "latency_s", "qps")
_LEAST, _LONGEST_PROMPT, _LONGEST = 4, 1024, 2048


def first_turns(dataset: Path, model: str, requests: int) -> Workload:
    """The first question of each conversation, bounded by its recorded answer, as vLLM's own reader selects them.

    Conversations are shuffled by the seed; those with a question or an answer of fewer than four tokens are left out,
    and those with a question of more than 1,024 or, together, 2,048 (`vllm.benchmarks.datasets`).
    """
    chats = [chat["conversations"] for chat in json.loads(dataset.read_text(encoding="utf-8"))]
    chats = [chat for chat in chats if len(chat) >= 2]
    random.Random(SEED).shuffle(chats)
    tokenizer = tokenizer_of(model, "give a local model")
    prompts, bounds = [], []
    for chat in chats:
        prompt_tokens, answer_tokens = (len(tokenizer.encode(chat[place]["value"]).ids) for place in (0, 1))
        if (
            min(prompt_tokens, answer_tokens) >= _LEAST
            and prompt_tokens <= _LONGEST_PROMPT
            and prompt_tokens + answer_tokens <= _LONGEST
        ):
            prompts.append(chat[0]["value"])
            bounds.append(answer_tokens)
    prompts, bounds = prompts[:requests], bounds[:requests]
    return Workload("first turns", prompts, [], max(bounds), in_order=True, limits=bounds)


def one_pass(engine: Engine, workload: Workload, clients: ClientPool) -> dict[str, float]:
    """Send every request once, each user the next one once it is answered; mean figures."""
    rows = len(workload.prompts)
    request = client_pool.LoadRequest(workload, RequestConfig(), workload.max_tokens, TIMEOUT_S, SEED)
    with clients.loading(engine.endpoint, request) as run:
        run.follow(ClosedLoop(USERS))
        while len({record.prompt_id for record in run.records}) < rows:
            engine.check()
            time.sleep(0.05)
            run.update()
    first = {r.prompt_id: r for r in sorted(run.records, key=lambda r: r.due_s, reverse=True)}
    records = list(first.values())
    assert all(r.error is None for r in records), [r.text for r in records if r.error]
    return {
        "tokens_sent": sum(r.prompt_tokens or 0 for r in records),
        "tokens_received": sum(r.output_tokens or 0 for r in records),
        "ttft_s": statistics.fmean(r.ttft_s for r in records if r.ttft_s is not None),
        "tpot_s": statistics.fmean(r.tpot_s for r in records if r.tpot_s is not None),
        "latency_s": statistics.fmean(r.latency_s for r in records),
        "qps": rows / (max(r.done_s for r in records) - min(r.due_s for r in records)),
    }  # fmt: skip


def runs_of(dataset: Path, cache: Path, requests: int, rounds: int, ours: str) -> dict[str, list[dict[str, Any]]]:
    """Both generators in turn on one live engine, the prefix cache emptied before each; in the other order every second
    round.
    """
    with TemporaryDirectory() as folder, ClientPool() as clients:
        own = [f"output_dir={folder}", f"cache_dir={cache}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
        own += [f"tracking.storage=sqlite:///{folder}/optuna.db"]
        config = configuration(["+study=chat", "model=smollm2", *own])
        plan = make_plan(config)
        workload = first_turns(dataset, plan.config.model.path, requests)
        plan.launcher.prepare()
        log = Path(folder) / "engine.log"
        engine = plan.launcher.launch(engine_of(plan.config, {"quantization": "published", "batch_size": 16}), log)
        load = LoadRequest(
            engine.endpoint, plan.config.model.path, dataset, len(workload.prompts), workload.max_tokens, users=USERS,
            dataset="sharegpt",
        )  # fmt: skip
        generators = {
            ours: lambda: one_pass(engine, workload, clients),
            "vllm bench serve": lambda: vllm_bench(load, Path(folder)),
        }
        try:
            one_pass(engine, dataclasses.replace(workload, **_beginning(workload, 2 * USERS)), clients)  # warms up
            return _in_turn(engine, generators, rounds)
        finally:
            engine.stop()
            plan.launcher.close()


def _beginning(workload: Workload, rows: int) -> dict[str, Any]:
    return {"prompts": workload.prompts[:rows], "limits": list(workload.limits or [])[:rows]}


def _in_turn(engine: Engine, generators: Any, rounds: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in generators}
    for number in range(rounds):
        for name in list(generators)[:: 1 if number % 2 == 0 else -1]:
            engine.reset()
            runs[name].append(generators[name]())
            shown = {figure: round(runs[name][-1][figure], 4) for figure in FIGURES}
            print(f"round {number + 1}, {name}: {shown}", flush=True)
    return runs


def heading(dataset: Path, requests: int) -> str:
    """What was sent, in a paragraph of the page."""
    return (
        f"At most {requests} requests of {dataset.name}: the first question of each conversation, its answer bounded "
        f"by the recorded one; SmolLM2-135M-Instruct, {USERS} users, seed {SEED}; the prefix cache is emptied before "
        "each. Tokens sent are what the server counts on one side, and the peer's tokenizer on the other."
    )
