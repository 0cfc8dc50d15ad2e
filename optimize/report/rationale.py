"""Why the recommendation is what it is: its gains and costs, the constraint that binds, the runner-up."""

from __future__ import annotations

from collections.abc import Mapping

from objectives import Direction
from optimize.decision.constraints import RUNS, Limit
from optimize.decision.evidence import shares_of
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.errors import FailureKind
from optimize.formatting import change_of, percent, ratio, title_of, value_of, versus_default
from optimize.outcome import State
from optimize.report.changed_knobs import changed_knobs
from optimize.report.data import Facts

_FAILURES = {
    FailureKind.HOST_OOM: "out of host memory",
    FailureKind.DEVICE_OOM: "out of device memory",
    FailureKind.REFUSED: "refused by the engine",
    FailureKind.TIMEOUT: "timed out",
    FailureKind.CRASH: "engine crashed",
    FailureKind.TOO_SLOW: "too slow to measure",
    FailureKind.UNSETTLED: "no steady state",
}
NOT_CONFIRMED = "not confirmed"
"""The reason of trials that could not be measured again."""


def verdict(recommendation: Recommendation) -> str:
    """One sentence: how strong the evidence is that the recommendation beats vLLM's defaults."""
    confirmed = bool(recommendation.rounds)
    basis = f"in {recommendation.rounds} interleaved rounds" if confirmed else "by single, unconfirmed measurements"
    if recommendation.pick.baseline and len(recommendation.considered) == 1:
        return "No candidate could be measured again in every round."
    if recommendation.pick.baseline:
        return f"No candidate scored higher than vLLM's defaults {basis}."
    score = versus_default(recommendation.score)
    if recommendation.decisive:
        return f"Better than vLLM's defaults {basis}: its weighted score is {score}."
    return f"Not shown to be better than vLLM's defaults {basis}: its weighted score is {score}."


def rationale(facts: Facts) -> list[str]:
    """Sentences, the most important first."""
    recommendation = facts.recommendation
    if recommendation is None:
        return []
    sentences = [
        *_gains(facts, recommendation), _knobs(facts, recommendation), _noise(facts), _score(facts),
        *_unconfirmed(recommendation), *_constraints(facts, recommendation), *_runner_up(facts, recommendation),
        *_refuted(facts),
    ]  # fmt: skip
    return [sentence for sentence in sentences if sentence]


def _score(facts: Facts) -> str:
    weights = shares_of(facts.weights, facts.directions)
    parts = ", ".join(f"{title_of(n)} {percent(share)}" for n, share in sorted(weights.items(), key=lambda x: -x[1]))
    return f"The score is the weighted geometric mean of the improvements over vLLM's defaults. Weights: {parts}."


def _gains(facts: Facts, recommendation: Recommendation) -> list[str]:
    """What is better than vLLM's defaults, what is worse, and what the evidence does not decide."""
    if recommendation.pick.baseline:
        return []
    gains = recommendation.gains
    texts = {n: f"{facts.label(n)} {versus_default(change_of(e, facts.directions[n]), '')}" for n, e in gains.items()}
    better = [texts[n] for n, e in gains.items() if e.low > 1.0]
    worse = [texts[n] for n, e in gains.items() if 0 < e.high < 1.0]
    even = [facts.label(n) for n, e in gains.items() if texts[n] not in (*better, *worse)]
    sentences = [f"Better than the default: {', '.join(better)}."] if better else []
    sentences += [f"Worse than the default: {', '.join(worse)}."] if worse else []
    return [*sentences, *([f"No difference from the default shown: {', '.join(even)}."] if even else [])]


def _knobs(facts: Facts, recommendation: Recommendation) -> str:
    words = changed_knobs(recommendation, facts.reduced)
    return f"Knobs: {words}." if words else ""


def _noise(facts: Facts) -> str:
    """What a loss of quality is held against where the reference is the model itself."""
    words = facts.floor.in_words([name for name in facts.directions if name in facts.scored]) if facts.floor else ""
    return f"Quality is {facts.signature.get('quality', '')}: {words}." if words else ""


def _unconfirmed(recommendation: Recommendation) -> list[str]:
    if recommendation.rounds:
        return []
    return [
        "Nothing was confirmed: each figure is a single measurement, and the best of many is partly the luckiest. "
        "Run the study with confirm.candidates=3 before you deploy."
    ]


def _constraints(facts: Facts, recommendation: Recommendation) -> list[str]:
    """The constraint that trials of a higher score violate, and the one that the recommendation comes nearest to."""
    if not facts.limits:
        return ["The study set no constraints."]
    excluded = excluded_by_constraint(facts)
    sentences = [_binding(facts, limit, candidates) for limit, candidates in excluded.items()]
    if not excluded:
        sentences.append("No constraint binds: no trial that violates one scored higher.")
    return [*sentences, _nearest(facts, recommendation.pick)]


def _binding(facts: Facts, limit: str, candidates: list[Candidate]) -> str:
    assert facts.search is not None  # without it nothing is excluded
    best = candidates[0]
    score = f"{value_of(facts.search.scores[best.number])} the default"
    if len(candidates) == 1:
        return f"{limit} binds: trial {best.number} scored higher ({score}) but violates it."
    return (
        f"{limit} binds: {len(candidates)} trials scored higher but violate it, at best trial {best.number} ({score})."
    )


def excluded_by_constraint(facts: Facts) -> dict[str, list[Candidate]]:
    """Constraint -> trials that violate it and scored higher than the best feasible one, best first."""
    search = facts.search
    excluded: dict[str, list[Candidate]] = {}
    if search is None:
        return {}
    better = [c for c in facts.candidates if not c.feasible and search.scores[c.number].value > search.score.value]
    for c in sorted(better, key=lambda c: -search.scores[c.number].value):
        for limit in facts.limits:
            if (excess := violation(limit, c, facts.baseline)) is not None and excess > 0:
                excluded.setdefault(facts.limit_text(limit), []).append(c)
    return excluded


def violation(limit: Limit, candidate: Candidate, baseline: Candidate | None) -> float | None:
    """How far the candidate is beyond the limit, as a share of it; None if it was not measured."""
    if limit.metric not in candidate.estimates:
        return None
    reference = baseline.estimates.get(limit.metric) if baseline else None
    return limit.violation(candidate.estimates[limit.metric].value, reference.value if reference else None)


def _nearest(facts: Facts, pick: Candidate) -> str:
    considered = facts.recommendation.considered if facts.recommendation else []
    baseline = next((c for c in considered if c.baseline), facts.baseline)
    margins = {x: -v for x in facts.limits if (v := violation(x, pick, baseline)) is not None}
    if not margins:
        return ""
    limit = min(margins, key=margins.__getitem__)
    return f"The tightest margin of the recommendation is {percent(margins[limit])}, to {facts.limit_text(limit)}."


def _runner_up(facts: Facts, recommendation: Recommendation) -> list[str]:
    other = recommendation.runner_up
    if other is None:
        return ["There is no runner-up: no other configuration on the Pareto front is feasible."]
    name = "vLLM's defaults" if other.baseline else f"trial {other.number}"
    differences = [text for n in facts.over_runner_up if (text := _difference(facts, n))]
    relative = f" Relative to the recommendation it has {', '.join(differences)}." if differences else ""
    tie = " The evidence does not separate the two scores." if recommendation.tied else ""
    score = "" if other.baseline else f", with a score of {versus_default(recommendation.scores[other.number])}"
    return [f"The runner-up is {name}{score}.{relative}{tie}"]


def _difference(facts: Facts, name: str) -> str:
    """The runner-up's figure as a multiple of the recommendation's; empty unless the interval excludes 1."""
    gain = facts.over_runner_up[name]
    if not gain.value > 0 or gain.low <= 1.0 <= gain.high:
        return ""
    opposite = Direction.MINIMIZE if facts.directions[name] is Direction.MAXIMIZE else Direction.MAXIMIZE
    return f"{ratio(change_of(gain, opposite))} the {_in_a_sentence(title_of(name))}"


def _in_a_sentence(title: str) -> str:
    """The title without the capital of a plain word: "memory", but "P99 latency"."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def _refuted(facts: Facts) -> list[str]:
    """The candidates that could not be confirmed, by reason."""
    by_reason: dict[str, list[str]] = {}
    for number, reason in facts.refuted.items():
        by_reason.setdefault(failure_text(reason), []).append(str(number))
    return [
        f"Dropped because {'they' if len(numbers) > 1 else 'it'} could not be measured again: "
        f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)} ({reason})."
        for reason, numbers in by_reason.items()
    ]


def exclusions(facts: Facts) -> dict[str, list[int]]:
    """Why trials cannot be recommended -> their numbers, the most frequent reason first."""
    numbers: dict[str, list[int]] = {}
    infeasible = {c.number for c in facts.candidates if not c.feasible}
    texts: Mapping[str, str] = {limit.name: facts.limit_text(limit) for limit in facts.limits}
    for record in facts.records:
        if record.number in infeasible:
            for name, excess in record.violations.items():
                if excess > 0 and name != RUNS:
                    numbers.setdefault(f"violates {texts.get(name, name)}", []).append(record.number)
    for record in facts.unrunnable():
        reason = "failed" if record.state == State.FAILED else failure_text(record.reason)
        numbers.setdefault(reason, []).append(record.number)
    if facts.refuted:
        numbers[NOT_CONFIRMED] = sorted(facts.refuted)
    return dict(sorted(numbers.items(), key=lambda item: -len(item[1])))


def failure_text(reason: str) -> str:
    """The class of a failure, from a reason such as "device_oom: CUDA out of memory"."""
    kind = reason.partition(":")[0]
    return _FAILURES[FailureKind(kind)] if kind in set(FailureKind) else kind.replace("_", " ")
