"""Real vLLM engines on the demo model."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from objectives import Measurement
from objectives.quality import Bleu
from optimize.config.measuring import Load, WorkloadSource
from optimize.engine.base import EngineConfig, RequestConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import EngineFailure, FailureKind
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import ClientPool
from optimize.load.generator import Traffic, run_load
from optimize.load.workload import Workload, load_workload

pytestmark = pytest.mark.live
ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "demo/model")
FLAGS = (("dtype", "float16"), ("enforce_eager", True), ("max_model_len", 256))
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1"}


def config(**flags: object) -> EngineConfig:
    return EngineConfig(MODEL, "fp16", (*FLAGS, *flags.items()))


def load(seconds: float = 2.0) -> Load:
    # Long limits: a window ends with its answers, however slow the machine.
    return Load(
        arrivals=None, warmup_s=0.5, warmup_requests=4, warmup_max_s=60, window_min_s=seconds, window_requests=10,
        window_max_s=60, drain_max_s=60,
    )  # fmt: skip


def traffic(workload: Workload, request: RequestConfig | None = None, seconds: float = 2.0) -> Traffic:
    return Traffic(workload, request or RequestConfig(), ClosedLoop(users=4), load(seconds))


@pytest.fixture(scope="module")
def clients() -> Iterator[ClientPool]:
    with ClientPool() as made:
        yield made


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    source = WorkloadSource(name="chat", path=str(ROOT / "demo/workloads/chat.jsonl"))
    return load_workload(source, MODEL, tmp_path_factory.mktemp("cache"))


def test_a_live_engine_answers_like_the_references_and_leaves_nothing(
    live_vllm: VllmLauncher, clients: ClientPool, workload: Workload, tmp_path: Path
) -> None:
    engine = live_vllm.launch(config(max_num_seqs=16), tmp_path / "log")
    try:
        assert engine.effective(["max_num_seqs"]) == {"max_num_seqs": 16}
        answers = {}
        # Twelve steps of beam search are enough here: it takes as many as it is allowed, and each is a prefill.
        for beams, fields in ((1, ()), (2, (("max_tokens", 12),))):
            engine.reset()
            answers[beams] = run_load(clients, engine, traffic(workload, RequestConfig(beams, fields)))
        greedy = [r for r in answers[1].records if r.error is None]
        assert greedy and all(
            r.first_token_s is not None and r.due_s <= r.sent_s < r.first_token_s <= r.done_s for r in greedy
        )
        assert all(r.error is None for r in answers[2].records if r.done_s < answers[2].window_end_s)
        measurement = Measurement(
            greedy, answers[1].window_start_s, answers[1].window_end_s, dict(enumerate(workload.references))
        )
        bleu = Bleu().estimate(measurement)
        assert bleu is not None and 50 < bleu.value < 95
        memory = engine.memory()
        assert memory.kv_pool_bytes == 2**30
        # Keys and values of 4 layers, 256 wide, 2 bytes each, for every token of a block.
        assert memory.kv_block_bytes == memory.kv_block_tokens * 2 * 4 * 256 * 2
        assert memory.max_sequences == 16
        assert 5e6 < memory.weights_bytes < 8.5e6
        pids = engine.pids
        port = int(engine.endpoint.base_url.rpartition(":")[2])
    finally:
        engine.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"]


def test_the_endpoint_is_on_loopback_and_asks_for_its_key(live_vllm: VllmLauncher, tmp_path: Path) -> None:
    engine = live_vllm.launch(config(), tmp_path / "log")
    try:
        body = {"model": "model", "prompt": "a", "max_tokens": 1}
        assert httpx.post(f"{engine.endpoint.base_url}/v1/completions", json=body).status_code == 401
        port = int(engine.endpoint.base_url.rpartition(":")[2])
        listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port}
        assert listening == {"127.0.0.1"}
        assert engine.endpoint.api_key is not None
        lines = [" ".join(psutil.Process(pid).cmdline()) for pid in engine.pids]
        assert not any(engine.endpoint.api_key in line for line in lines)
    finally:
        engine.stop()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"num_gpu_blocks_override": 1}, "cache"),
        (
            {"max_num_batched_tokens": 8, "max_num_seqs": 64, "enable_chunked_prefill": False},
            "max_num_batched_tokens",
        ),
        ({"dtype": "float17"}, "float17"),
    ],
)
def test_what_vllm_refuses_is_named(
    live_vllm: VllmLauncher, tmp_path: Path, flags: dict[str, object], said: str
) -> None:
    refused = EngineConfig(MODEL, "fp16", tuple({**dict(FLAGS), **flags}.items()))
    with pytest.raises(EngineFailure) as caught:
        live_vllm.launch(refused, tmp_path / "log").stop()
    assert caught.value.kind is FailureKind.REFUSED
    assert said in str(caught.value)


@pytest.mark.parametrize("victim", ["main", "worker"])
def test_an_engine_killed_under_load_ends_the_load_at_once(
    live_vllm: VllmLauncher, clients: ClientPool, workload: Workload, tmp_path: Path, victim: str
) -> None:
    engine = live_vllm.launch(config(), tmp_path / "log")
    pids = engine.pids
    killed_at: list[float] = []

    def kill() -> None:
        killed_at.append(time.monotonic())
        os.kill(pids[0] if victim == "main" else pids[-1], signal.SIGKILL)

    timer = threading.Timer(1.5, kill)
    timer.start()
    try:
        with pytest.raises(EngineFailure) as caught:
            run_load(clients, engine, traffic(workload, seconds=30))
        assert caught.value.kind is FailureKind.CRASH
        assert time.monotonic() - killed_at[0] < 5
    finally:
        timer.join()
        engine.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_an_unknown_release_starts_cold_says_so_once_and_serves_the_same_answers(
    live_vllm: VllmLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = tmp_path / "pretended/vllm-9.9.0+cpu.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 9.9.0+cpu\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "pretended"))
    unknown = VllmLauncher(env=ENV)
    unknown.prepare()
    texts = []
    for started_by in (live_vllm, unknown):
        engine = started_by.launch(config(), tmp_path / f"{started_by.start}.log")
        try:
            answer = httpx.post(
                f"{engine.endpoint.base_url}/v1/completions", headers=engine.endpoint.headers, timeout=30,
                json={"model": "model", "prompt": "the old man sees the dog\n", "max_tokens": 20, "temperature": 0},
            )  # fmt: skip
            texts.append(answer.raise_for_status().json()["choices"][0]["text"])
        finally:
            engine.stop()
    assert texts[0] == texts[1] != ""
    (line,) = [r.getMessage() for r in caplog.records if r.name.startswith("optimize")]
    assert "start cold" in line and "9.9.0+cpu is not one of 0.25" in line
