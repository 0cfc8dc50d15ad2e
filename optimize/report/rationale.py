"""Why the recommendation is what it is: what it gains, which constraint binds, what the runner-up loses."""

from __future__ import annotations

from collections.abc import Mapping

from objectives import Direction, Estimate
from optimize.decision.constraints import RUNS, Limit
from optimize.decision.evidence import shares_of
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.formatting import figure, title_of, value_of
from optimize.report.data import Facts

AGAIN = "could not be measured again"


def verdict(found: Recommendation) -> str:
    """How sure it is that the pick beats vLLM's defaults."""
    how = f"in {found.rounds} interleaved rounds" if found.rounds else "on single readings, not confirmed"
    if found.pick.baseline and len(found.considered) == 1:
        return "Nothing else could be confirmed: no candidate could be measured again in every round."
    if found.pick.baseline:
        return f"Nothing beats vLLM's defaults, measured {how}."
    sure = "Better than vLLM's defaults" if found.decisive else "Not shown to be better than vLLM's defaults"
    return f"{sure}: {figure(found.score)} all told, measured {how}."


def why(facts: Facts) -> list[str]:
    """Sentences, the most important first."""
    found = facts.found
    if found is None:
        return []
    said = [
        _gains(found), _score(facts, found), *_unconfirmed(found), *_binding(facts, found), *_runner_up(facts, found),
        *_refuted(facts),
    ]  # fmt: skip
    return [sentence for sentence in said if sentence]


def _score(facts: Facts, found: Recommendation) -> str:
    weights = shares_of(facts.weights, facts.directions)
    parts = ", ".join(f"{title_of(n)} {share:.0%}" for n, share in sorted(weights.items(), key=lambda x: -x[1]))
    return f"The score is the weighted geometric mean of the gains over vLLM's defaults ({parts})."


def _gains(found: Recommendation) -> str:
    """What is better than vLLM's defaults and what is worse, as far as can be told."""
    if found.pick.baseline:
        return ""
    better = [f"{title_of(n)} {figure(e)}" for n, e in found.gains.items() if e.low > 1.0]
    worse = [f"{title_of(n)} {figure(e)}" for n, e in found.gains.items() if 0 < e.high < 1.0]
    if not better and not worse:
        return "No single objective is told apart from that of vLLM's defaults."
    said = f"What is gained: {', '.join(better)}." if better else "Nothing is surely gained."
    return said + (f" The price: {', '.join(worse)} as good." if worse else " No objective is surely worse.")


def _unconfirmed(found: Recommendation) -> list[str]:
    if found.rounds:
        return []
    return ["These are single readings. The best of many is partly the luckiest: confirm before you rely on it."]


def _binding(facts: Facts, found: Recommendation) -> list[str]:
    """The limit that better scores break, and the one that the pick is nearest to."""
    if not facts.limits:
        return ["No constraint was set."]
    said = []
    barred = _barred(facts)
    for name, candidates in barred.items():
        best = candidates[0]
        assert facts.search is not None  # nothing is barred without it
        score = value_of(facts.search.scores[best.number])
        beaten = (
            "1 trial scored higher and breaks" if len(candidates) == 1 else f"{len(candidates)} scored higher and break"
        )
        said.append(f"{name} binds: {beaten} it, the best being trial {best.number} with {score}.")
    if not barred:
        said.append("No constraint binds: nothing that breaks one scored higher.")
    return [*said, _nearest(facts, found.pick)]


def _barred(facts: Facts) -> dict[str, list[Candidate]]:
    """Limit -> trials that break it and read a higher score than the best that breaks none, best first."""
    search = facts.search
    barred: dict[str, list[Candidate]] = {}
    if search is None:
        return {}
    better = [c for c in facts.candidates if not c.feasible and search.scores[c.number].value > search.score.value]
    for c in sorted(better, key=lambda c: -search.scores[c.number].value):
        for limit in facts.limits:
            if (beyond := violation(limit, c, facts.baseline)) is not None and beyond > 0:
                barred.setdefault(facts.limit_text(limit), []).append(c)
    return barred


def violation(limit: Limit, candidate: Candidate, baseline: Candidate | None) -> float | None:
    """How far beyond the limit, as a share of it; None where it was not measured."""
    if limit.metric not in candidate.estimates:
        return None
    reference = baseline.estimates.get(limit.metric) if baseline else None
    return limit.violation(candidate.estimates[limit.metric].value, reference.value if reference else None)


def _nearest(facts: Facts, pick: Candidate) -> str:
    confirmed = {c.number: c for c in facts.found.considered} if facts.found else {}
    baseline = next((c for c in confirmed.values() if c.baseline), facts.baseline)
    left = {x: -v for x in facts.limits if (v := violation(x, pick, baseline)) is not None}
    if not left:
        return ""
    limit = min(left, key=left.__getitem__)
    return f"The recommendation comes nearest to {facts.limit_text(limit)}, with {left[limit]:.0%} of it to spare."


def _runner_up(facts: Facts, found: Recommendation) -> list[str]:
    other = found.runner_up
    if other is None:
        return ["There is no runner-up: nothing else on the front keeps every constraint."]
    losses = [text for n, e in facts.over_runner_up.items() if (text := _against(n, e, facts.directions))]
    tie = " The evidence does not tell the two apart." if found.tied else ""
    name = "vLLM's defaults" if other.baseline else f"trial {other.number}"
    differs = f"; beside the recommendation it has {', '.join(losses)}" if losses else ""
    return [f"The runner-up is {name}, score {figure(found.scores[other.number])}{differs}.{tie}"]


def _refuted(facts: Facts) -> list[str]:
    """Candidates that the confirmation lost, by why."""
    by_kind: dict[str, list[str]] = {}
    for number, reason in facts.refuted.items():
        by_kind.setdefault(reason.partition(":")[0].replace("_", " "), []).append(str(number))
    return [
        f"Lost when measured again, and so not to be recommended: trial{'s' if len(numbers) > 1 else ''} "
        f"{', '.join(numbers)} ({kind})."
        for kind, numbers in by_kind.items()
    ]


def _against(name: str, better: Estimate, directions: Mapping[str, Direction]) -> str:
    """The runner-up's figure as a multiple of the pick's; only what can be told apart."""
    if not better.value > 0 or better.low <= 1.0 <= better.high:
        return ""
    up = directions[name] is Direction.MAXIMIZE
    ratio = Estimate(better.value, better.low, better.high, better.n, "x")
    if up:
        ratio = Estimate(1 / better.value, 1 / better.high, 1 / better.low, better.n, "x")
    return f"{figure(ratio)} the {title_of(name)}"


def reasons(facts: Facts) -> dict[str, list[int]]:
    """Why trials cannot be recommended -> which, the most frequent first."""
    found: dict[str, list[int]] = {}
    broken = {c.number for c in facts.candidates if not c.feasible}
    texts = {limit.name: facts.limit_text(limit) for limit in facts.limits}
    for record in facts.records:
        if record.number in broken:
            for name, violation in record.violations.items():
                if violation > 0 and name != RUNS:
                    found.setdefault(f"breaks {texts.get(name, name)}", []).append(record.number)
    for record in facts.unrunnable():
        reason = "failed" if record.state == "failed" else record.reason.partition(":")[0].replace("_", " ")
        found.setdefault(reason, []).append(record.number)
    if facts.refuted:
        found[AGAIN] = sorted(facts.refuted)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))
