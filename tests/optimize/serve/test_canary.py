"""A canary over HTTP, from its start to its promotion or its end: what clients get, whatever the candidate does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from optimize.serve.rollout import State
from tests.optimize.serve.canaries import CANARY, SETTINGS, TEXT, Behaviour, Service, canary, eventually


def texts(answers: list[httpx.Response]) -> set[str]:
    assert {answer.status_code for answer in answers} == {200}
    return {answer.json()["choices"][0]["text"] for answer in answers}


def promoted(service: Service) -> None:
    """Take a service to the end of a promotion."""
    service.ask_until(State.PROMOTING)
    assert eventually(lambda: not service.supervisor.promoting)
    service.rollout.step()
    service.rollout.step()


def test_an_equal_candidate_takes_over_and_the_former_engine_ends(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        promoted(service)
        assert service.rollout.state is State.PROMOTED
        before = len(service.tried.arrivals)
        assert texts([service.ask()]) == {TEXT} and len(service.tried.arrivals) == before + 1
        assert [engine.stopped for engine in service.launchers.of("fp16")] == [True]
        assert service.front.proxy.limit.ceiling == 20  # as the candidate's max_logprobs allows
        (line,) = [line for line in service.lines if "canary promoted" in line]
        assert "failed share 0 " in line and "greedy answers the same" in line
        assert "serves the candidate with row=7" in service.lines[-1]
        record = json.loads((tmp_path / "canary.json").read_text(encoding="utf-8"))
        assert (record["verdict"], record["serve_with"]) == ("promoted", "row=7")
        assert record["estimates"]["failed_share"]["high"] <= CANARY.failures_max
    assert [engine.stopped for _, engine in service.launchers.engines] == [True, True]


@pytest.mark.parametrize(
    ("tried", "why"),
    [
        (Behaviour(delay_s=0.05), "latency ratio"),
        (Behaviour(status=500), "failed share 1 "),
        (Behaviour(text="quite another answer"), "agreement 0 "),
    ],
    ids=["slow", "failing", "different"],
)
def test_a_worse_candidate_ends_and_no_client_notices(tmp_path: Path, tried: Behaviour, why: str) -> None:
    with canary(tmp_path, tried) as service:
        assert texts(service.ask_until(State.ROLLED_BACK)) == {TEXT}
        assert why in service.rollout.reason
        assert service.launchers.of("int8")[0].stopped and not service.launchers.of("fp16")[0].stopped
        assert texts([service.ask()]) == {TEXT}
        assert service.front.mirror.counts.canary_mirrored == len(tried.arrivals)
        assert json.loads((tmp_path / "canary.json").read_text(encoding="utf-8"))["verdict"] == "rolled back"


def test_streams_are_mirrored_and_their_first_tokens_compared(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        answers = service.ask_until(State.PROMOTING, stream=True)
        assert {answer.text.count("data: ") for answer in answers} == {len(TEXT.split()) + 1}
        assert "first token ratio not compared" not in service.rollout.reason
        assert "optimize:canary_first_token_ratio_high" in service.metrics()


def test_a_client_never_waits_for_the_candidate_and_what_it_has_no_room_for_is_counted(tmp_path: Path) -> None:
    settings = replace(SETTINGS, canary=replace(CANARY, in_flight_max=1))
    with canary(tmp_path, settings=settings) as service:
        service.tried.gate.clear()
        assert texts([service.ask() for _ in range(3)]) == {TEXT}
        assert (len(service.tried.arrivals), service.front.mirror.counts.canary_dropped) == (1, 2)
        service.now[0] = 61.0
        service.rollout.step()
        assert "2 not mirrored for lack of room" in service.lines[-1]
        assert "\noptimize:canary_dropped_total 2\n" in service.metrics()
        service.tried.gate.set()


def test_only_completions_that_the_front_lets_through_are_mirrored_and_with_the_candidates_own_key(
    tmp_path: Path,
) -> None:
    with canary(tmp_path) as service:
        for path in ("/v1/messages", "/v1/responses", "/v1/messages/count_tokens"):
            assert service.ask(path).status_code == 200
        assert service.ask(n=99, use_beam_search=True).status_code == 400
        assert service.http.get("/v1/models").status_code == 200
        assert service.ask("/collective_rpc").status_code == 404
        assert service.tried.arrivals == []
        assert service.ask("/v1/chat/completions").status_code == 200
        assert service.ask().status_code == 200
        service.settle()
        paths = {path for path, _ in service.tried.arrivals}
        assert paths == {"/v1/chat/completions", "/v1/completions"}
        assert {headers["Authorization"] for _, headers in service.tried.arrivals} == {"Bearer key-of-int8"}


def test_the_copy_of_a_client_that_leaves_is_cancelled_and_counts_for_nothing(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        service.served.gate.clear()
        service.tried.gate.clear()
        with pytest.raises(httpx.ReadTimeout):
            service.http.post("/v1/completions", json={"prompt": "a"}, timeout=0.2)
        service.settle()
        assert service.front.mirror.counts.canary_pairs == 0 and service.front.mirror.take() == []
        service.served.gate.set()
        service.tried.gate.set()


def test_a_candidate_that_is_killed_is_rolled_back_and_no_request_is_lost(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        service.tried.gate.clear()
        thread, answers = service.asking()
        assert eventually(lambda: len(service.tried.arrivals) == 1)
        service.launchers.of("int8")[0].kill()
        service.rollout.step()
        assert service.rollout.state is State.ROLLED_BACK and "it died" in service.rollout.reason
        thread.join()
        assert texts([*answers, service.ask()]) == {TEXT}
        assert service.front.counts.lost == service.front.counts.retried == 0
        service.tried.gate.set()


def test_a_serving_engine_that_is_killed_is_replaced_by_its_own_kind_and_no_request_is_lost(tmp_path: Path) -> None:
    with canary(tmp_path, Behaviour(text="never shown to a client")) as service:
        service.served.gate.clear()
        thread, answers = service.asking()
        service.launchers.of("fp16")[0].kill()
        service.served.gate.set()
        thread.join()
        assert texts(answers) == {TEXT}
        assert service.front.counts.retried == 1 and service.front.counts.lost == 0
        assert len(service.launchers.of("fp16")) == 2
        service.settle()
        (pair,) = service.front.mirror.take()
        assert pair.latency is None  # of an answer that took two engines
        assert service.rollout.state is State.COMPARING


def test_the_former_engine_may_die_while_it_answers_its_last_requests(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        service.served.gate.clear()
        thread, answers = service.asking()
        service.rollout._promote("as asked for")
        assert eventually(lambda: not service.supervisor.promoting)
        service.rollout.step()
        assert service.state_after_step() is State.DRAINING  # it waits for the last request
        service.launchers.of("fp16")[0].kill()
        service.served.gate.set()
        thread.join()
        assert texts(answers) == {TEXT} and service.front.counts.lost == 0
        assert service.state_after_step() is State.PROMOTED


def test_requests_in_flight_at_a_promotion_are_answered_by_the_engine_that_has_them(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        service.served.gate.clear()
        thread, answers = service.asking()
        service.rollout._promote("as asked for")
        assert eventually(lambda: not service.supervisor.promoting)
        service.rollout.step()
        assert texts([service.ask()]) == {TEXT}
        service.served.gate.set()
        thread.join()
        assert texts(answers) == {TEXT} and service.front.counts.retried == 0
        assert eventually(lambda: service.state_after_step() is State.PROMOTED)


def test_a_promoted_candidate_that_dies_is_restarted_as_itself(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        promoted(service)
        service.launchers.of("int8")[0].kill()
        assert texts([service.ask()]) == {TEXT}
        assert (len(service.launchers.of("fp16")), len(service.launchers.of("int8"))) == (1, 2)


def test_a_standby_follows_the_promoted_configuration(tmp_path: Path) -> None:
    with canary(tmp_path, settings=replace(SETTINGS, standby=True)) as service:
        assert service.supervisor.wait_for_standby(20)
        promoted(service)
        assert service.supervisor.wait_for_standby(20)
        assert (len(service.launchers.of("fp16")), len(service.launchers.of("int8"))) == (2, 2)
        assert eventually(lambda: all(engine.stopped for engine in service.launchers.of("fp16")))


def test_a_candidate_that_does_not_start_leaves_the_service_as_it_is(tmp_path: Path) -> None:
    with canary(tmp_path, Behaviour(starts=False), compared=False) as service:
        service.rollout.step()
        assert service.rollout.state is State.ROLLED_BACK and "no such kernel" in service.rollout.reason
        assert texts([service.ask()]) == {TEXT}


def test_without_a_verdict_in_time_the_candidate_is_rolled_back_with_what_is_open(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        service.ask()
        service.settle()
        service.now[0] = 60 * CANARY.minutes
        service.rollout.step()
        assert service.rollout.state is State.ROLLED_BACK
        assert service.rollout.reason.startswith("no verdict within 240 min (serve.canary.minutes): failed share 0 [")


def test_the_end_of_the_server_ends_a_candidate_that_is_being_compared(tmp_path: Path) -> None:
    with canary(tmp_path) as service:
        pass
    assert [engine.stopped for engine in service.launchers.of("int8")] == [True]


def test_without_a_canary_nothing_is_mirrored_or_reported(tmp_path: Path) -> None:
    settings = replace(SETTINGS, canary=replace(CANARY, row=None))
    with canary(tmp_path, settings=settings, compared=False) as service:
        service.ask()
        assert service.front.mirror.counts.canary_mirrored == 0 and "canary" not in service.metrics()
