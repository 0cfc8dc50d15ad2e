"""The unquantized model's own answers as the reference: asked once, kept, and its repeats as the noise floor."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from objectives.quality import Bleu, ExactMatch, FirstDifference
from objectives.segments import Paired
from optimize.config.measuring import Quality
from optimize.engine.base import EngineConfig, RequestConfig, TrialConfig
from optimize.errors import EngineFailure, FailureKind, TransientFault
from optimize.evaluation.answers import Answers, answers_key
from optimize.evaluation.references import FILE, References, keep, kept_references, reference_config, references_of
from optimize.load.client_pool import order_of
from optimize.outcome import Completed, Evaluation
from optimize.testing.scripted_load import ScriptedAnswer, ScriptedRequest, Server
from tests.optimize.evaluation.scripted import ROWS, WORKLOAD, Rig, trial

METRICS = {"bleu": Bleu(), "exact_match": ExactMatch(), "first_difference": FirstDifference()}
BARE = dataclasses.replace(WORKLOAD, references=[])
INT8 = TrialConfig(EngineConfig("int8", "int8"), RequestConfig())


def _text(row: int) -> str:
    return f"house {row} is where the old red dog sleeps all day and sees the garden of his friend"


def _row(request: ScriptedRequest) -> int:
    return int(str(request.prompt).split()[1])


def _noisy(share: float, seed: int = 0) -> Server:
    """A model of which some answers end in another way each time."""
    rng = random.Random(seed)
    return lambda r: ScriptedAnswer(0.1, text=_text(_row(r))[: -6 if rng.random() < share else None])


def _rig(folder: Path, server: Server, prompts: int = 100, runs: int = 2) -> Rig:
    rig = Rig(folder, server, METRICS)
    rig.workload = BARE
    rig.plan.config.quality = Quality(prompts=prompts, floor_runs=runs)
    return rig


def test_every_run_answers_the_same_prompts_at_the_concurrency_of_the_study(tmp_path: Path) -> None:
    sent: list[ScriptedRequest] = []

    def server(request: ScriptedRequest) -> ScriptedAnswer:
        sent.append(request)
        return ScriptedAnswer(1.0, text=_text(_row(request)))

    rig = _rig(tmp_path, server, runs=3)
    references = rig.ask()
    assert [set(run) for run in references.runs] == [set(range(ROWS))] * 3
    assert references.runs[0] == {row: _text(row) for row in range(ROWS)}
    at_once = [sum(r.at == moment for r in sent) for moment in {r.at for r in sent}]
    assert max(at_once) == 4 and {r.max_tokens for r in sent} == {WORKLOAD.max_tokens}
    assert references.seconds == pytest.approx(3 * ROWS / 4, rel=0.1)
    assert references.key == answers_key(reference_config(rig.plan))
    assert rig.engines.engines[0].resets >= 3  # no run finds another's prefixes in the cache


def test_the_prompts_that_a_load_sends_first_are_answered_for_reference(tmp_path: Path) -> None:
    rig = _rig(tmp_path, _noisy(0), prompts=10)
    first = order_of(BARE, rig.plan.config.study.seed)[:10]
    assert rig.ask().runs[0] == {row: _text(row) for row in first}
    assert first != sorted(first)


def test_prompts_that_one_run_leaves_unanswered_are_left_out_of_all(tmp_path: Path) -> None:
    refused = ScriptedAnswer(0.1, "refused", "the prompt is too long")
    rig = _rig(tmp_path, lambda r: refused if _row(r) < 3 else ScriptedAnswer(0.1, text=_text(_row(r))))
    kept = {len(run) for run in rig.ask().runs}
    assert kept == {ROWS - 3}


@pytest.mark.parametrize(
    ("server", "raised", "message"),
    [
        (lambda _: ScriptedAnswer(0.1, "refused", "no chat template"), EngineFailure, "no chat template"),
        (lambda _: ScriptedAnswer(float("inf")), EngineFailure, "no answer for reference"),
        (lambda r: ScriptedAnswer(0.1, "refused" if _row(r) else None), TransientFault, "answered 1 of 60 prompts"),
    ],
)
def test_a_model_that_does_not_answer_gives_no_reference(
    tmp_path: Path, server: Server, raised: type[Exception], message: str
) -> None:
    with pytest.raises(raised, match=message):
        _rig(tmp_path, server).ask()


def test_an_engine_that_dies_under_way_is_noticed(tmp_path: Path) -> None:
    rig = _rig(tmp_path, lambda _: ScriptedAnswer(1.0))
    rig.engines.next_dies_at = rig.clock.now() + 8
    with pytest.raises(EngineFailure) as failure:
        rig.ask()
    assert failure.value.kind is FailureKind.CRASH


# --- kept -------------------------------------------------------------------------------------------------------


def _asked(rig: Rig) -> References | None:
    return references_of(rig.plan, rig.pool, rig.clients, rig.phases.append)


def test_what_the_study_has_asked_is_not_asked_again_even_where_the_file_of_the_cache_is_lost(tmp_path: Path) -> None:
    rig = _rig(tmp_path, _noisy(0.3))
    references = rig.ask()
    keep(rig.plan, references)
    (kept,) = (tmp_path / "cache").rglob(FILE)
    kept.unlink()
    rig.clients._server = lambda _: pytest.fail("asked again")
    repeat = _asked(rig)
    assert repeat == references and repeat is not None and repeat.hash == references.hash
    assert kept.is_file()  # another study finds them again


def test_a_second_study_finds_the_answers_in_the_cache_unless_they_depend_on_something_else(tmp_path: Path) -> None:
    rig = _rig(tmp_path, _noisy(0.3))
    keep(rig.plan, references := rig.ask())
    other = dataclasses.replace(rig.plan, folder=tmp_path / "other")
    assert kept_references(other) == references
    changes: list[Callable[[], object]] = [
        lambda: dataclasses.replace(other, workload=dataclasses.replace(BARE, max_tokens=21)),
        lambda: dataclasses.replace(other, workload=dataclasses.replace(BARE, prompts=BARE.prompts[:-1])),
        lambda: dataclasses.replace(other, signature={"machine": "another"}),
        lambda: dataclasses.replace(other, config=dataclasses.replace(other.config, quality=Quality(floor_runs=3))),
        lambda: dataclasses.replace(other, config=dataclasses.replace(other.config, engine={"env": {"A": "1"}})),
    ]
    for change in changes:
        assert kept_references(change()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["", "{}", '{"key": "k", "runs": [[[0, "a"]]], "seconds": 1}', '{"runs": 3}'])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: str) -> None:
    rig = _rig(tmp_path, _noisy(0))
    keep(rig.plan, references := rig.ask())
    (rig.plan.folder / FILE).write_text(damage, encoding="utf-8")
    assert kept_references(rig.plan) == references  # from the cache


# --- scored against -----------------------------------------------------------------------------------------------


def _pairs(evaluation: Evaluation) -> dict[str, Paired]:
    assert isinstance(evaluation.outcome, Completed)
    return {name: Paired.from_dict(raw) for name, raw in evaluation.paired.items()}


def _study(folder: Path, server: Server, runs: int = 2) -> Rig:
    """A rig whose unquantized model has answered for reference, before `server` takes over."""
    rig = _rig(folder, _noisy(0.2), runs=runs)
    rig.references = rig.ask()
    rig.answers = Answers(rig.ledger)
    rig.clients._server = server
    return rig


def test_the_model_that_gave_the_reference_is_at_the_noise_floor(tmp_path: Path) -> None:
    rig = _study(tmp_path, _noisy(0.2, 5))
    assert rig.references is not None
    baseline = rig.evaluate(reference_config(rig.plan), trial(baseline=True))
    assert isinstance(baseline.outcome, Completed)
    floor = rig.references.floor(METRICS)
    assert {name: baseline.outcome.estimates[name] for name in METRICS} == floor
    assert floor["exact_match"].value < 1
    for paired in _pairs(baseline).values():
        assert paired.difference.value == 0 and not paired.significant
        assert paired.judged is not None and paired.judged.value == 1


@pytest.mark.parametrize("runs", [2, 5])
def test_noise_of_the_size_of_the_models_own_is_called_no_loss_by_any_metric(tmp_path: Path, runs: int) -> None:
    pairs = _pairs(_study(tmp_path, _noisy(0.2, 7), runs).evaluate(INT8))
    assert set(pairs) == set(METRICS)
    for name, paired in pairs.items():
        assert not paired.significant, name
        assert paired.judged is not None and paired.judged.high >= 1, name


def test_a_broken_checkpoint_is_called_a_loss_by_every_metric(tmp_path: Path) -> None:
    def broken(request: ScriptedRequest) -> ScriptedAnswer:
        words = _text(_row(request)).split()
        return ScriptedAnswer(0.1, text=" ".join(words[:3] + words[:2:-1]))

    for name, paired in _pairs(_study(tmp_path, broken).evaluate(INT8)).items():
        assert paired.significant and paired.difference.high < -paired.tolerance, name


def test_references_of_the_workload_leave_everything_as_it_was(tmp_path: Path) -> None:
    rig = Rig(tmp_path, metrics={"bleu": Bleu()})
    assert _asked(rig) is None
    evaluation = rig.evaluate()
    assert isinstance(evaluation.outcome, Completed)
    assert evaluation.outcome.estimates["bleu"].value == pytest.approx(100)
