"""The loop over many slots, its workers answering at once."""

from __future__ import annotations

import errno
import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from objectives import Estimate
from optimize.config.compose import configuration
from optimize.engine.base import TrialConfig
from optimize.errors import FailureKind, OptimizeError
from optimize.evaluation.task import Notes, Task
from optimize.executor.base import Job
from optimize.executor.worker import Effective, JobError, Message
from optimize.ledger import Ledger, TrialRecord
from optimize.load.pace import Limits, Pace
from optimize.outcome import Evaluation, Failed, Infeasible, State
from optimize.plan import Plan, make_plan
from optimize.study.lifecycle import open_study
from optimize.testing.instant_workers import Instant
from tests.optimize.driver.loops import Slow, looped, of_role


@pytest.fixture
def plan(tmp_path: Path, workload_file: Path) -> Plan:
    return make_plan(configuration([
        "+study=smoke", "engine=simulated", "workload=file", f"workload.path={workload_file}", "sampler=random",
        f"output_dir={tmp_path}/out", f"cache_dir={tmp_path}/cache", "search_space.quantization=null",
        "study.trials=20", "study.max_failures_in_a_row=4", "confirm={candidates: 2, rounds: 3}",
    ]))  # fmt: skip


@pytest.mark.parametrize(
    ("slots", "transport"),
    [(1, Instant), (8, Slow), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in [(8, Instant), (64, Slow)])],
)
def test_the_budget_is_spent_to_the_trial_whatever_runs_side_by_side(
    plan: Plan, slots: int, transport: type[Instant]
) -> None:
    study = looped(plan, transport(plan), slots)
    assert len(list(of_role(study, "search"))) == 20 and len(list(of_role(study, "baseline"))) == 1
    cells = [(t.user_attrs["round"], t.user_attrs["confirms"]) for t in of_role(study, "confirmation")]
    assert len(cells) == len(set(cells)) == 9
    assert not [t for t in study.get_trials() if not t.state.is_finished()]
    records = {r.number: r.state for r in Ledger(plan.folder).records()}
    assert records == {t.number: "completed" for t in study.get_trials() if t.state is TrialState.COMPLETE}


class Beamed(Instant):
    """Workers of an engine that is faster with two beams, and as fast with any batch."""

    def figures(self, config: TrialConfig) -> dict[str, Estimate]:
        rng, speed = random.Random(repr(config)), float(config.request.beam_size)
        values = {name: 0.0 if name == "error_rate" else rng.lognormvariate(0, 0.02) for name in self._plan.metrics}
        values |= {"qps": values["qps"] * speed, "p99_latency_s": values["p99_latency_s"] / speed}
        return {name: Estimate(v, v * 0.98, v * 1.02, 100, "") for name, v in values.items()}


def test_the_searchs_last_trial_is_its_best_point_without_changes_that_do_nothing(plan: Plan) -> None:
    study = looped(plan, Beamed(plan), 1)
    *_, last = of_role(study, "search")
    assert last.params == {"batch_size": 128, "beam_size": 2}
    assert last.number in {t.user_attrs["confirms"] for t in of_role(study, "confirmation")}


def test_no_point_of_a_small_space_runs_twice_at_a_time(plan: Plan) -> None:
    running: dict[int, dict[str, Any]] = {}

    class Noting(Slow):
        def send(self, slot: int, method: str, *arguments: Any) -> None:
            if method == "run" and arguments[0].record.role == "search":
                assert arguments[0].record.params not in running.values()
                running[slot] = arguments[0].record.params
            super().send(slot, method, *arguments)

        def wait(self, timeout_s: float | None) -> list[tuple[int, Message]]:
            words = super().wait(timeout_s)
            for slot, _ in words:
                running.pop(slot, None)
            return words

    plan.space.distributions["batch_size"] = optuna.distributions.CategoricalDistribution([64, 128])  # type: ignore[index]
    study = looped(plan, Noting(plan), 8)
    assert len(list(of_role(study, "search"))) == 20


def test_a_trial_that_failed_for_a_transient_reason_is_retried_once(plan: Plan) -> None:
    class Failing(Instant):
        failed: set[str] = set()

        def send(self, slot: int, method: str, *arguments: Any) -> None:
            job: Any = arguments[0]
            if method == "run" and str(job.record.params) not in self.failed and job.record.number % 3 == 2:
                self.failed.add(str(job.record.params))
                self._messages.append((slot, JobError(Failed("port taken"))))
            else:
                super().send(slot, method, *arguments)

    study = looped(plan, Failing(plan), 4)
    failed = [t.params for t in study.get_trials() if t.state is TrialState.FAIL and "reason" in t.user_attrs]
    complete = [t.params for t in study.get_trials() if t.state is TrialState.COMPLETE]
    assert failed and all(params in complete for params in failed)
    assert len(list(of_role(study, "search"))) == 20


class Slow20(Instant):
    """Workers whose answers take 20 s; each keeps the pace that its jobs come with.

    Attributes:
        jobs: All jobs so far.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.jobs = list[Job]()

    def evaluate(self, job: Job) -> Evaluation:
        self.jobs.append(job)
        return replace(super().evaluate(job), pace={"answer_s": 20.0, "window_s": 120.0, "answers": 24})


def test_the_pace_of_the_baseline_reaches_the_windows_of_all_later_trials(plan: Plan) -> None:
    workers = Slow20(plan)
    looped(plan, workers, 2)
    paces = [Task(job.config, job.record, None, Notes("")).pace for job in workers.jobs]
    assert [pace for pace in paces if pace is not None] == [Pace(20.0, 120.0, 24)] * 26
    assert [pace is None for pace in paces] == [job.record.baseline for job in workers.jobs]
    load = replace(plan.config.load, window_max_s=None)
    assert [Limits(load, pace).window_s for pace in paces[:2]] == [math.inf, 240.0]
    assert Limits(load, paces[1]).warmup_s([]) == 40.0


@pytest.mark.parametrize(("workers", "times"), [(Instant, 0), (Slow20, 1)])
def test_a_slow_model_is_mentioned_once_the_baseline_has_shown_it(
    workers: type[Instant], times: int, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    looped(plan, workers(plan), 1)
    line = (
        "an answer takes up to 20 s here: a window of 120 s holds 24 answers instead of "
        f"{plan.config.load.window_requests}, and its intervals are wide"
    )
    assert capsys.readouterr().out.count(line) == times


class Disturbed(Instant):
    """Workers on a machine where other programs keep some trials from being measured.

    Attributes:
        slow: Whether a job is too slow there.
        params: Settings of the trials that were, in order.
    """

    def __init__(self, plan: Plan, slow: Callable[[Job], bool]) -> None:
        super().__init__(plan)
        self.slow, self.params = slow, list[dict[str, Any]]()

    def evaluate(self, job: Job) -> Evaluation:
        if not self.slow(job):
            return super().evaluate(job)
        self.params.append(job.record.params)
        return Evaluation(Failed("1 answers in 8 s of window", disturbed=True), disturbances=["others used 73%"])


def test_a_trial_that_is_too_slow_on_a_disturbed_machine_is_run_again_once_it_is_quiet(plan: Plan) -> None:
    waits = list[int]()
    workers = Disturbed(plan, lambda _: not waits)
    study = looped(plan, workers, 1, await_quiet=lambda: waits.append(len(workers.params)))
    first, second = study.get_trials()[:2]
    assert waits == [1] and first.params == second.params
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert second.user_attrs["role"] == "baseline" and second.user_attrs["retries"] == 1
    assert len(list(of_role(study, "search"))) == 20  # neither cost any budget


def test_what_stays_too_slow_on_a_disturbed_machine_is_failed_not_infeasible(plan: Plan) -> None:
    waits = list[int]()
    workers = Disturbed(plan, lambda job: job.record.number == 3 or job.record.params in workers.params)
    study = looped(plan, workers, 1, await_quiet=lambda: waits.append(len(workers.params)))
    assert waits == [1] and workers.params[0] == workers.params[1]
    records = [r for r in Ledger(plan.folder).records() if r.state != "completed"]
    assert [(r.state, r.reason, r.disturbed) for r in records] == [
        ("failed", "1 answers in 8 s of window", ["others used 73%"])
    ] * len(workers.params)
    assert not [t for t in study.get_trials() if t.user_attrs.get("imputed")]
    assert len(list(of_role(study, "search"))) == 20


def test_failures_in_a_row_stop_the_study_and_leave_nothing_running(plan: Plan) -> None:
    class Broken(Instant):
        def send(self, slot: int, method: str, *arguments: Any) -> None:
            if method == "run" and arguments[0].record.role == "search":
                self._messages.append((slot, JobError(Infeasible(FailureKind.REFUSED, "no kernel"))))
            else:
                super().send(slot, method, *arguments)

    study = open_study(plan)
    with pytest.raises(OptimizeError, match="4 trials in a row gave no measurement"):
        looped(plan, Broken(plan), 8, study)
    states = [t.state for t in study.get_trials()]
    assert TrialState.RUNNING not in states and states.count(TrialState.WAITING) == states.count(TrialState.FAIL)
    assert {r.state for r in Ledger(plan.folder).records()} == {"completed", "infeasible", "failed"}


def test_a_result_of_a_trial_that_storage_had_given_up_is_dropped(plan: Plan) -> None:
    study = open_study(plan)

    class Late(Instant):
        def send(self, slot: int, method: str, *arguments: Any) -> None:
            if method == "run":
                job: Job = arguments[0]
                if job.record.number == 3:  # its driver was not heard of for too long
                    study.tell(3, state=TrialState.FAIL)
            super().send(slot, method, *arguments)

    looped(plan, Late(plan), 2, study)
    assert study.get_trials()[3].state is TrialState.FAIL
    assert len(list(of_role(study, "search"))) == 20
    (dropped,) = [r for r in Ledger(plan.folder).records() if r.state == "failed"]
    assert dropped.number == 3 and "given this trial up" in dropped.reason


def test_a_measured_trial_whose_record_cannot_be_written_stays_measured(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Ledger.write

    def full(self: Ledger, record: TrialRecord) -> None:
        if record.number == 2 and record.state is State.COMPLETED:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, record)

    with monkeypatch.context() as disk:
        disk.setattr(Ledger, "write", full)
        with pytest.raises(OSError, match="No space left"):
            looped(plan, Instant(plan), 1)
    study = open_study(plan)
    assert [t.state for t in study.get_trials()] == [TrialState.COMPLETE] * 3
    assert [r.state for r in Ledger(plan.folder).records()] == ["completed"] * 3


class Large(Instant):
    """Workers on a GPU for which vLLM's default is 1024 sequences."""

    def send(self, slot: int, method: str, *arguments: Any) -> None:
        if method == "effective":
            self._messages.append((slot, Effective({"max_num_seqs": 1024})))
        else:
            super().send(slot, method, *arguments)


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_the_baseline_is_vllms_own_default_and_a_point_of_the_space(plan: Plan, sampler: str) -> None:
    settings, confirm = plan.config.study, replace(plan.config.confirm, candidates=0)
    chosen = replace(plan.config, sampler=configuration([f"sampler={sampler}"]).sampler, confirm=confirm)
    sessions = [replace(plan, config=replace(chosen, study=replace(settings, trials=n))) for n in (1, 4)]
    looped(sessions[0], Large(plan), 1)
    study = looped(sessions[1], Large(plan), 1)
    (baseline,) = of_role(study, "baseline")
    assert baseline.params["batch_size"] == 1024
    record = next(r for r in Ledger(plan.folder).records() if r.number == baseline.number)
    assert "max_num_seqs" not in dict(record.config["engine"]["flags"])
    ranges = [t.distributions["batch_size"] for t in study.get_trials() if t.params]
    assert {d.high for d in ranges if isinstance(d, IntDistribution)} == {1024} and len(ranges) == 5
