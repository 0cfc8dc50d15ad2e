"""Workers come, work, and are lost: every job ends once, and none is forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest

from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import ConfigError, EngineFailure, FailureKind, OptimizeError, TransientFault
from optimize.executor.base import Done, Job
from optimize.executor.fleet import Fleet, FleetSpec
from optimize.executor.worker import Effective, JobError, Lost, Message, Ready, Refusals, Rejected, Result
from optimize.ledger import TrialRecord
from optimize.outcome import Completed, Evaluation, Failed, Infeasible, Role

SIGNATURE = {"machine": "box", "engine": "v 1", "model": "m", "workload": "w", "load": "l", "seed": "0"}
CONFIG = TrialConfig(EngineConfig("model", "fp16"), RequestConfig())
READY = Ready(SIGNATURE, "host", 1)


def job(number: int) -> Job:
    return Job(CONFIG, TrialRecord("s", number, Role.SEARCH, {}, {}, dict(SIGNATURE)))


def result(number: int, **changes: Any) -> Result:
    evaluation = Evaluation(Completed({}), disturbances=changes.pop("disturbed", []))
    return Result(job(number).record, evaluation, True, **changes)


class Script:
    """A transport that says what it is told to, and notes what is asked of it."""

    def __init__(self, *words: tuple[int, Message]) -> None:
        self.words = deque(words)
        self.started: list[int] = []
        self.sent: list[tuple[int, str, Any]] = []
        self.stopped: list[int] = []
        self.closed = False

    def start(self, slot: int) -> None:
        self.started.append(slot)

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        self.sent.append((slot, method, arguments[0]))

    def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
        return [self.words.popleft()] if self.words else []

    def stop(self, slot: int) -> None:
        self.stopped.append(slot)

    def close(self) -> None:
        self.closed = True


class Stored(dict[int, Mapping[str, bytes]]):
    def __call__(self, record: TrialRecord, files: Mapping[str, bytes]) -> None:
        self[record.number] = files


def fleet(
    script: Script, slots: int = 2, messages: list[str] | None = None, store: Stored | None = None, **changes: Any
) -> Fleet:
    spec = FleetSpec(slots, SIGNATURE, **{"start_timeout_s": 0.2, **changes})
    return Fleet(
        script, spec, (messages if messages is not None else []).append, store if store is not None else Stored()
    )


def test_jobs_go_to_idle_workers_and_come_back_with_their_files() -> None:
    script, stored = Script((0, READY), (1, READY)), Stored()
    with fleet(script, store=stored) as workers:
        assert workers.idle() == [0, 1] and workers.machine == "box"
        workers.submit(0, job(7))
        assert workers.idle() == [1]
        script.words.append((0, result(7, files={"trial.json": b"x"})))
        done = workers.wait()
        assert done is not None and (done.slot, done.record.number, done.live) == (0, 7, True)
        assert stored == {7: {"trial.json": b"x"}}
        assert workers.idle() == [0, 1], "the engine that was used last is offered first"
    assert script.closed


def test_a_job_whose_worker_is_lost_runs_again_under_its_number() -> None:
    script, messages = Script((0, READY), (1, READY)), list[str]()
    with fleet(script, messages=messages) as workers:
        workers.submit(0, job(3))
        script.words.append((0, Lost("node gone")))
        assert workers.wait() is None
        assert script.started == [0, 1, 0], "its worker is started anew"
        assert workers.idle() == [], "the other one has it now"
        assert [(slot, j.record.number) for slot, _, j in script.sent] == [(0, 3), (1, 3)]
        script.words.append((1, result(3)))
        done = workers.wait()
        assert done is not None and done.record.number == 3
        assert workers.wait(0) is None, "told once"
    assert "trial 3 lost its worker (node gone)" in messages[0]


def test_a_job_that_loses_its_worker_too_often_has_failed() -> None:
    script = Script((0, READY))
    with fleet(script, slots=1, losses_max=1) as workers:
        workers.submit(0, job(3))
        for _ in range(2):
            script.words += [(0, Lost("killed")), (0, READY)]
        actual: list[Done] = []
        for _ in range(4):
            workers.idle()
            done = workers.wait(0)
            actual += [done] if done else []
    (done,) = actual
    assert done.evaluation.outcome == Failed("its worker was lost 2 times: killed")


def test_a_slot_whose_worker_never_starts_is_given_up_and_a_fleet_without_slots_ends() -> None:
    script = Script((0, READY))
    with fleet(script, slots=1) as workers:
        script.words += [(0, Lost("crash"))] * 4
        with pytest.raises(OptimizeError, match="no worker is left.*3 times in a row: crash"):
            for _ in range(4):
                workers.wait(0)


def test_an_unfit_worker_at_the_start_is_bad_input() -> None:
    script = Script((0, READY), (1, Rejected("vLLM is not installed", "node7")))
    with pytest.raises(ConfigError, match="node7 cannot serve this study: vLLM is not installed"), fleet(script):
        pass
    assert script.closed


def test_no_worker_in_time_is_bad_input() -> None:
    script = Script()
    with pytest.raises(ConfigError, match="no worker was ready within 0.05 s"), fleet(script, start_timeout_s=0.05):
        pass
    assert script.closed


def test_a_fleet_starts_with_the_workers_that_are_ready_and_others_join_later() -> None:
    script = Script((1, READY))
    with fleet(script, start_timeout_s=0.05) as workers:
        assert workers.idle() == [1]
        script.words.append((0, READY))
        assert workers.wait(0) is None
        assert workers.idle() == [1, 0]


@pytest.mark.parametrize(("part", "value"), [("engine", "v 2"), ("model", "other"), ("workload", "w2")])
def test_a_worker_with_another_signature_is_refused(part: str, value: str) -> None:
    script = Script((0, Ready({**SIGNATURE, part: value}, "node7", 1)))
    with pytest.raises(ConfigError, match=f"node7 cannot serve this study: its {part} is '{value}'"), fleet(script):
        pass


def test_another_machine_is_refused_unless_both_are_of_a_named_class() -> None:
    other = Ready({**SIGNATURE, "machine": "bigger box"}, "node7", 1)
    with pytest.raises(ConfigError, match="another machine.*machine_class"), fleet(Script((0, READY), (1, other))):
        pass
    with fleet(Script((0, READY), (1, other)), machine_class="boxes") as workers:
        assert workers.idle() == [0, 1] and workers.machine == "boxes"


def test_a_worker_that_is_rejected_later_is_left_out_and_the_study_goes_on() -> None:
    script, messages = Script((0, READY), (1, READY)), list[str]()
    with fleet(script, messages=messages) as workers:
        script.words += [(1, Lost("node gone")), (1, Rejected("vLLM is not installed", "node8"))]
        workers.wait(0), workers.wait(0)
        assert workers.idle() == [0]
    assert any("node8" in line for line in messages)


def test_a_worker_says_what_cannot_be_served_where_it_runs() -> None:
    """The driver's own launcher was asked, which has nothing to ask where workers run the engines."""
    refusal = Infeasible(FailureKind.REFUSED, "vLLM cannot serve it here: no kernel", ("no kernel",))
    script = Script((0, READY))
    with fleet(script, slots=1) as workers:
        script.words.append((0, Refusals({"int4": refusal})))
        (name, failure), *others = workers.refusals({"int4": CONFIG.engine, "int8": CONFIG.engine}).items()
        assert script.sent == [(0, "refusals", {"int4": CONFIG.engine, "int8": CONFIG.engine})] and not others
        assert (name, failure.kind, str(failure), failure.evidence) == (
            "int4", FailureKind.REFUSED, refusal.reason, ("no kernel",),
        )  # fmt: skip
        script.words.append((0, JobError(Failed("its checkpoint could not be made"))))
        assert workers.refusals({"int4": CONFIG.engine}) == {}, "the first engine will show it"
        assert workers.idle() == [0]


def test_the_worker_that_reports_effective_values_gets_the_next_job() -> None:
    script = Script((0, READY), (1, READY), (0, Effective({"max_num_seqs": 4})))
    with fleet(script) as workers:
        assert workers.effective(CONFIG.engine, ["max_num_seqs"]) == {"max_num_seqs": 4}
        assert workers.idle()[0] == 0


@pytest.mark.parametrize(
    ("word", "raised"),
    [
        (JobError(Infeasible(FailureKind.REFUSED, "no", ("line",))), EngineFailure),
        (JobError(Failed("port")), TransientFault),
    ],
)
def test_failures_of_a_worker_are_raised_by_the_fleet(word: JobError, raised: type[OptimizeError]) -> None:
    with fleet(Script((0, READY), (1, READY), (0, word))) as workers, pytest.raises(raised):
        workers.effective(CONFIG.engine, [])


def test_a_question_to_a_lost_worker_goes_to_another() -> None:
    script = Script((0, READY), (1, READY), (0, Lost("gone")), (1, Effective({})))
    with fleet(script) as workers:
        assert workers.effective(CONFIG.engine, []) == {}
        assert [slot for slot, *_ in script.sent] == [0, 1]


def test_fewer_jobs_at_a_time_where_they_disturb_each_other() -> None:
    script, messages = Script((0, READY), (1, READY)), list[str]()
    with fleet(script, messages=messages) as workers:
        for number in range(0, 20, 2):
            first, second = workers.idle()[:2] if len(workers.idle()) > 1 else (workers.idle()[0], None)
            workers.submit(first, job(number))
            if second is None:
                break
            workers.submit(second, job(number + 1))
            script.words += [(first, result(number, disturbed=["busy"])), (second, result(number + 1))]
            workers.wait(), workers.wait()
    assert any("1 at a time" in line for line in messages) and second is None


def test_an_interrupt_ends_busy_workers_only() -> None:
    script = Script((0, READY), (1, READY))
    with fleet(script) as workers:
        workers.submit(1, job(0))
        workers.interrupt()
        assert script.stopped == [1]
