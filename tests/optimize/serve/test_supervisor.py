"""Supervisor and front on the simulated engine: real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from optimize.config.serve import Serve
from optimize.engine.base import EngineConfig
from optimize.engine.simulated import SimulatedLauncher
from optimize.errors import EngineFailure
from optimize.serve.front import Front, bind
from optimize.serve.launchers import LauncherPool
from optimize.serve.supervisor import Supervisor

# Patient with probes, which a busy machine may leave unanswered: the test of a stopped engine has its own.
QUICK = Serve(probe_s=0.1, probe_timeout_s=30, wait_s=60, backoff_first_s=0.01, healthy_s=0.0)
CONFIG = EngineConfig("model", "fp16")
PROMPT = " ".join(f"word{i}" for i in range(40))


@contextmanager
def serving(
    folder: Path, settings: Serve = QUICK, token_s: float = 0.001, key: str | None = None
) -> Iterator[tuple[Supervisor, Front]]:
    with ExitStack() as held:
        sock = bind("127.0.0.1", 0)
        held.callback(sock.close)
        launchers = held.enter_context(
            LauncherPool(lambda: SimulatedLauncher(token_s=token_s), 2 if settings.standby else 1)
        )  # fmt: skip
        supervisor = Supervisor(CONFIG, launchers, settings, folder)
        front = held.enter_context(Front(supervisor, settings, {}, key, sock))
        held.enter_context(supervisor)
        yield supervisor, front


def ask(front: Front, **fields: object) -> httpx.Response:
    body = {"model": "model", "prompt": PROMPT, **fields}
    endpoint = front.endpoint
    return httpx.post(f"{endpoint.base_url}/v1/completions", json=body, headers=endpoint.headers, timeout=60)


def kill(supervisor: Supervisor) -> None:
    assert supervisor.current is not None
    os.kill(supervisor.current.engine.pids[0], signal.SIGKILL)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def restarts(supervisor: Supervisor) -> list[str]:
    return [r.how for r in supervisor.restarts.read()]


def test_a_killed_engine_is_replaced_recorded_and_nothing_is_left(tmp_path: Path) -> None:
    with serving(tmp_path) as (supervisor, front):
        undisturbed = ask(front).json()["choices"][0]["text"]
        pids = supervisor.pids
        kill(supervisor)
        assert ask(front).json()["choices"][0]["text"] == undisturbed
        assert wait_for(lambda: restarts(supervisor) == ["cold"])
        (restart,) = supervisor.restarts.read()
        assert restart.cause == "crash" and "SIGKILL" in restart.reason and restart.generation == 1
        assert restart.down_s > 0 and restart.unseen_s >= 0
        pids += supervisor.pids
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_request_in_flight_is_sent_again_while_nothing_of_its_answer_was_passed_on(tmp_path: Path) -> None:
    with serving(tmp_path, token_s=0.03) as (supervisor, front):
        undisturbed = ask(front).json()["choices"][0]["text"]
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(ask(front).json()["choices"][0]["text"]))
        asking.start()
        assert wait_for(lambda: front.proxy.in_flight == 1)
        kill(supervisor)
        asking.join()
        assert answers == [undisturbed]
        assert front.counts.retried == 1 and front.counts.lost == 0


def test_a_stream_without_tokens_ends_in_an_error_and_not_in_another_engines_answer(tmp_path: Path) -> None:
    with serving(tmp_path, token_s=0.03) as (supervisor, front):
        lines: list[str] = []
        body = {"model": "model", "prompt": PROMPT, "stream": True}
        with httpx.stream("POST", f"{front.endpoint.base_url}/v1/completions", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line and not lines:
                    kill(supervisor)
                lines.append(line)
        data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert "choices" in data[0] and data[-1]["error"]["code"] == 502
        assert "data: [DONE]" not in lines
        assert (front.counts.broken_off, front.counts.retried) == (1, 0)


def test_without_retries_the_request_is_refused_clearly(tmp_path: Path) -> None:
    with serving(tmp_path, replace(QUICK, retries=0), token_s=0.03) as (supervisor, front):
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(ask(front)))
        asking.start()
        assert wait_for(lambda: front.proxy.in_flight == 1)
        kill(supervisor)
        asking.join()
        assert answers[0].status_code == 502 and "engine died" in answers[0].json()["error"]["message"]


def test_a_standby_takes_over_and_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, replace(QUICK, standby=True)) as (supervisor, front):
        assert supervisor.wait_for_standby(60)
        kill(supervisor)
        assert ask(front).status_code == 200
        assert wait_for(lambda: restarts(supervisor) == ["standby"])
        assert supervisor.current is not None and supervisor.current.generation == 2  # no engine started in between
        assert supervisor.wait_for_standby(60)
        assert httpx.get(f"{front.endpoint.base_url}/health").json() == {"status": "up", "standby": True}


def test_a_standby_that_dies_is_replaced_without_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path, replace(QUICK, standby=True)) as (supervisor, _):
        assert supervisor.wait_for_standby(60)
        current = supervisor.current
        assert current is not None
        (spare,) = set(supervisor.pids) - set(current.engine.pids)
        os.kill(spare, signal.SIGKILL)
        assert wait_for(lambda: spare not in supervisor.pids)
        assert supervisor.wait_for_standby(60)
        assert supervisor.current is current and restarts(supervisor) == []


def test_a_stopped_engine_is_detected_by_its_silence(tmp_path: Path) -> None:
    with serving(tmp_path, replace(QUICK, probe_timeout_s=0.3)) as (supervisor, front):
        assert supervisor.current is not None
        os.kill(supervisor.current.engine.pids[0], signal.SIGSTOP)
        assert wait_for(lambda: restarts(supervisor)[:1] == ["cold"])
        assert next(supervisor.restarts.read()).cause == "timeout"
        assert ask(front).status_code == 200


def test_probes_have_the_key_that_the_engine_asks_for(tmp_path: Path) -> None:
    with serving(tmp_path) as (supervisor, _):
        assert wait_for(lambda: "kv_cache_use" in supervisor.metrics)
        assert list(supervisor.missed_probes) == []


def test_a_configuration_that_never_ran_is_not_retried(tmp_path: Path) -> None:
    launchers = LauncherPool(lambda: SimulatedLauncher(oom_above_seqs=1))
    with launchers, pytest.raises(EngineFailure, match="out of memory"), Supervisor(CONFIG, launchers, QUICK, tmp_path):
        pass


def test_restarts_that_fail_are_recorded_and_go_on_until_one_succeeds(tmp_path: Path) -> None:
    launcher = SimulatedLauncher()
    with LauncherPool(lambda: launcher) as launchers, Supervisor(CONFIG, launchers, QUICK, tmp_path) as supervisor:
        launcher.oom_above_seqs = 1
        kill(supervisor)
        assert wait_for(lambda: restarts(supervisor)[:2] == ["failed", "failed"])
        assert supervisor.current is None
        launcher.oom_above_seqs = None
        assert wait_for(lambda: supervisor.current is not None)
        assert wait_for(lambda: restarts(supervisor)[-1] == "cold")
        last = list(supervisor.restarts.read())[-1]
        assert last.attempt > 2 and last.backoff_s > 0


def test_the_front_requires_its_key_and_sends_the_engine_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, key="secret") as (_, front):
        assert ask(front).status_code == 200
        url = f"{front.endpoint.base_url}/v1/completions"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            refused = httpx.post(url, json={"prompt": "a"}, headers=headers)
            assert refused.status_code == 401 and "API key" in refused.json()["error"]["message"]


def test_beams_beyond_the_limit_are_refused_or_clamped(tmp_path: Path) -> None:
    for over, status in (("refuse", 400), ("clamp", 200)):
        settings = replace(QUICK, beams_max=2, beams_over=over)
        with serving(tmp_path / over, settings) as (_, front):
            assert ask(front, use_beam_search=True, n=2).status_code == 200
            answer = ask(front, use_beam_search=True, n=4)
            assert answer.status_code == status
            if status == 400:
                assert answer.json()["error"]["param"] == "n"
            else:
                assert len(answer.json()["choices"]) == 2 and answer.headers["X-Beam-Limit"] == "2"


def test_metrics_are_the_engines_and_the_fronts(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, front):
        text = httpx.get(f"{front.endpoint.base_url}/metrics").text
        assert "vllm:num_requests_running" in text and "\noptimize:engine_up 1\n" in text


def test_draining_completes_requests_in_flight_and_refuses_new_ones(tmp_path: Path) -> None:
    with serving(tmp_path, token_s=0.03) as (_, front):
        answers: list[int] = []
        asking = threading.Thread(target=lambda: answers.append(ask(front).status_code))
        asking.start()
        assert wait_for(lambda: front.proxy.in_flight == 1)
        assert front.drain(timeout_s=30) == 0
        asking.join()
        assert answers == [200]
        assert ask(front).status_code == 503
        assert httpx.get(f"{front.endpoint.base_url}/health").json() == {"status": "draining"}


def test_the_request_of_a_client_that_disconnects_is_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path, token_s=0.05) as (_, front):
        body = {"model": "model", "prompt": PROMPT, "stream": True}
        with httpx.stream("POST", f"{front.endpoint.base_url}/v1/completions", json=body) as answer:
            next(answer.iter_raw())
        assert wait_for(lambda: front.counts.left == 1 and front.proxy.in_flight == 0)
