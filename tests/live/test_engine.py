"""Real vLLM engines on the demo model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import httpx
import psutil
import pytest

from objectives import Measurement
from objectives.quality import Bleu
from optimize.config.measuring import Load, WorkloadSource
from optimize.engine.base import Endpoint, EngineConfig, RequestConfig
from optimize.engine.http_client import client_of
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.workload.workload import Workload, load_workload
from tests.live.engines import FLAGS, MODEL, PLAIN, ROOT, LiveEngines, answers_of
from tests.live.fixtures import ColdStart
from tests.optimize.engine.trees import wait_for

pytestmark = pytest.mark.live


def load(window_s: float = 1.0) -> Load:
    # Long limits: a window ends with its answers, however slow the machine.
    return Load(
        arrivals=None, warmup_s=0.5, warmup_requests=4, warmup_max_s=60, window_min_s=window_s, window_requests=10,
        window_max_s=max(60, window_s), drain_max_s=60,
    )  # fmt: skip


def traffic(workload: Workload, request: RequestConfig | None = None, window_s: float = 1.0) -> Traffic:
    return Traffic(workload, request or RequestConfig(), ClosedLoop(users=4), load(window_s))


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as made:
        yield made


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    source = WorkloadSource(name="chat", path=str(ROOT / "demo/workloads/chat.jsonl"))
    return load_workload(source, MODEL, tmp_path_factory.mktemp("cache"))


def test_a_live_engine_answers_like_the_references_and_reports_its_memory(
    plain_engine: VllmEngine, clients: ClientPool, workload: Workload
) -> None:
    assert plain_engine.effective(["max_num_seqs"]) == {"max_num_seqs": 16}
    greedy = run_load(clients, plain_engine, traffic(workload))
    plain_engine.reset()
    # Twelve steps of beam search are enough: it always takes as many as it is allowed, and each is a prefill.
    beams = run_load(clients, plain_engine, traffic(workload, RequestConfig(2, (("max_tokens", 12),))))
    memory, cache, longest = plain_engine.memory(), plain_engine.cache_settings(), plain_engine.longest_sequence()
    answered = [r for r in greedy.records if r.error is None]
    assert answered and all(
        r.first_token_s is not None and r.due_s <= r.sent_s < r.first_token_s <= r.done_s for r in answered
    )
    assert all(r.error is None for r in beams.records if r.done_s < beams.window_end_s)
    window = (greedy.window_start_s, greedy.window_end_s)
    bleu = Bleu().estimate(Measurement(answered, *window, dict(enumerate(workload.references))))
    assert bleu is not None and 50 < bleu.value < 95
    assert memory is not None and memory.kv_pool_bytes == int(cache["kv_cache_memory_bytes"]) == 2**30
    assert memory.kv_block_tokens == int(cache["block_size"]) and longest == 256
    # Keys and values of 4 layers, 256 wide, 2 bytes each, for every token of a block.
    assert memory.kv_block_bytes == memory.kv_block_tokens * 2 * 4 * 256 * 2
    assert memory.max_sequences == 16
    assert 5e6 < memory.weights_bytes < 8.5e6


def test_the_endpoint_is_on_loopback_and_requires_its_key(plain_engine: VllmEngine) -> None:
    endpoint = plain_engine.endpoint
    body = {"model": "model", "prompt": "a", "max_tokens": 1}
    assert httpx.post(f"{endpoint.base_url}/v1/completions", json=body).status_code == 401
    port = int(endpoint.base_url.rpartition(":")[2])
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port}
    assert listening == {"127.0.0.1"}
    assert endpoint.api_key is not None
    lines = [" ".join(psutil.Process(pid).cmdline()) for pid in plain_engine.pids]
    assert {os.getsid(pid) for pid in plain_engine.pids} == {os.getsid(0)}  # clients come first within the session only
    assert lines and not any(endpoint.api_key in line for line in lines)


def test_an_unknown_release_starts_cold_logs_it_once_and_serves_the_same_answers(
    plain_answers: list[str], cold_start: Future[ColdStart]
) -> None:
    cold = cold_start.result()
    assert not cold.engine.warm
    assert answers_of(cold.engine.endpoint) == plain_answers and all(plain_answers)
    cold.engine.stop()
    (line,) = cold.log
    assert "start cold" in line and "9.9.0+cpu is not one of 0.25" in line


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        ({"num_gpu_blocks_override": 1}, "cache"),
        (
            {"max_num_batched_tokens": 8, "max_num_seqs": 64, "enable_chunked_prefill": False},
            "max_num_batched_tokens",
        ),
        ({"dtype": "float17"}, "float17"),
    ],
)
def test_a_refusal_by_vllm_names_its_cause(live_engines: LiveEngines, flags: dict[str, object], cause: str) -> None:
    refused = EngineConfig(MODEL, "fp16", tuple({**dict(FLAGS), **flags}.items()))
    with pytest.raises(EngineFailure) as caught, live_engines.launch(refused):
        pass
    assert caught.value.kind is FailureKind.REFUSED
    assert cause in str(caught.value)


def kill_under_load(endpoint: Endpoint, pid: int) -> None:
    """Kill a process once its engine has answered some requests, however long that takes on a busy machine."""
    with client_of(endpoint, 5.0) as http:
        assert wait_for(lambda: answered(http.get("/metrics").text) >= 5)
    os.kill(pid, signal.SIGKILL)


def answered(exposition: str) -> float:
    """Number of requests that an engine has completed."""
    lines = (line for line in exposition.splitlines() if line.startswith("vllm:request_success_total"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.parametrize("victim", [0, -1], ids=["main", "worker"])
def test_an_engine_killed_under_load_ends_the_load_at_once(
    live_engines: LiveEngines, clients: ClientPool, workload: Workload, victim: int
) -> None:
    """The load would go on for ten minutes otherwise, longer than a test may take."""
    with live_engines.launch(PLAIN) as engine:
        pids = engine.pids
        killer = threading.Thread(target=kill_under_load, args=(engine.endpoint, pids[victim]))
        killer.start()
        with pytest.raises(EngineFailure) as caught:
            run_load(clients, engine, traffic(workload, window_s=600))
        killer.join()
    assert caught.value.kind is FailureKind.CRASH
    assert not any(psutil.pid_exists(pid) for pid in pids)
