"""The answer in words: on the terminal and as Markdown, the pick first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optimize.decision.candidate import Candidate
from optimize.decision.flips import Step
from optimize.decision.recommendation import Recommendation
from optimize.decision.terms import Terms
from optimize.formatting import change_of, figure, percent, shown_settings, title_of, versus_default
from optimize.report.commands import measure_command
from optimize.report.data import limit_text
from optimize.whatif.answer import Answer, Flip, changes
from optimize.whatif.proposals import LARGEST, Proposal

_MOST_LINES, _NARROW = 8, 0.01


def in_words(answer: Answer, before: Terms, own: Recommendation | None, words: Sequence[str]) -> str:
    """The whole answer as Markdown.

    Args:
        answer: The answer.
        before: The study's own terms.
        own: The study's own recommendation.
        words: Words of the study's command that measurements share; empty where they are not known.
    """
    parts = [
        ["# What if", "", *(f"- {line}" for line in changes(before, answer.terms) or ["the study's own question"])],
        ["## Decision", "", *_decision(answer, own)],
        ["## Where it flips", "", *_flips(answer)],
        ["## To be sure", "", *_next(answer, words)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _decision(answer: Answer, own: Recommendation | None) -> list[str]:
    best = answer.recommendation
    if best is None:
        return _nothing(answer)
    pick = best.pick
    same = own is not None and own.pick.number == pick.number
    lines = [
        f"**{_named(pick)}**: {'the study recommends it, too' if same else _instead(own)}.", "",
        *(f"- {title_of(name)}: {figure(pick.estimates[name])}, {versus_default(change_of(best.gains[name], way))}"
          for name, way in answer.terms.directions.items()),
        f"- score: {versus_default(best.score)}",
        f"- evidence: {_evidence(answer, pick.number)}",
        f"- A study measured afresh picks it with a probability of {percent(answer.probability)}"
        f"{_others(answer, pick.number)}.",
    ]  # fmt: skip
    return [*lines, *_limits(answer, pick)]


def _named(c: Candidate) -> str:
    settings = f" ({shown_settings(c.settings)})" if c.settings else ""
    return f"vLLM's defaults{settings}" if c.baseline else f"Trial {c.number}{settings}"


def _instead(own: Recommendation | None) -> str:
    if own is None:
        return "the study recommends nothing"
    return f"the study recommends {own.pick.defaults if own.pick.baseline else f'trial {own.pick.number}'}"


def _evidence(answer: Answer, number: int) -> str:
    pool = answer.pool
    if number in pool.confirmed:
        return f"{pool.rounds} rounds, computed again from their stored requests"
    if pool.rounds:
        return (
            "a single measurement of the search, carried to the time of the rounds by those that were measured in both"
        )
    return "a single measurement of the search, as nothing was confirmed; the variance between measurements is unknown"


def _others(answer: Answer, pick: int) -> str:
    rest = sorted(((p, n) for n, p in answer.stability.picks.items() if n != pick and p >= 0.01), reverse=True)
    parts = [f"trial {n} with {percent(p)}" for p, n in rest[:3]]
    if answer.stability.none > 0.005:
        parts.append(f"nothing keeps every limit with {percent(answer.stability.none)}")
    return f" ({', '.join(parts)})" if parts else ""


def _limits(answer: Answer, pick: Candidate) -> list[str]:
    """How sure it is that the pick keeps each limit."""
    return [
        f"- {limit_text(limit, _unit(answer, limit.metric))}: kept with a probability of "
        f"{percent(answer.stability.keeps[pick.number][limit.name])}"
        for limit in answer.terms.limits
    ]


def _unit(answer: Answer, name: str) -> str:
    return next((c.estimates[name].unit for c in answer.pool.candidates if name in c.estimates), "")


def _nothing(answer: Answer) -> list[str]:
    lines = [
        "**Nothing that was measured keeps every limit**; a study measured afresh finds the same with a probability of "
        f"{percent(answer.stability.none)}.", "",
    ]  # fmt: skip
    for flip in answer.flips:
        if flip.limit is not None and any(step.pick is not None for step in flip.steps):
            step = next(s for s in (flip.steps if flip.limit.upper else flip.steps[::-1]) if s.pick is not None)
            end = step.low if flip.limit.upper else step.high
            lines.append(f"- {flip.setting}={end:.4g} would be kept by trial {step.pick}, the other limits as they are")
    return lines


def _flips(answer: Answer) -> list[str]:
    lines = [line for flip in answer.flips for line in _flip(answer, flip)]
    return lines or ["No limit and no weight alone changes the pick."]


def _flip(answer: Answer, flip: Flip) -> list[str]:
    if not flip.flips:
        return []
    metric = flip.limit.metric if flip.limit and not flip.limit.relative else ""
    wide = [step for step in flip.steps if step.high > step.low * (1 + _NARROW)]
    steps = "; ".join(_step(answer, step, metric) for step in wide[:_MOST_LINES])
    rest = f"; and {len(wide) - _MOST_LINES} more" if len(wide) > _MOST_LINES else ""
    return [f"- `{flip.setting}` ({flip.value:g}): {steps}{rest}"]


def _step(answer: Answer, step: Step, metric: str) -> str:
    low, high = (_edge(answer, end, metric) for end in (step.low, step.high))
    span = f"from {low}" if math.isinf(step.high) else f"up to {high}" if step.low == 0 else f"from {low} to {high}"
    return f"{'nothing' if step.pick is None else f'trial {step.pick}'} {span}"


def _edge(answer: Answer, value: float, metric: str) -> str:
    """Where the pick flips: at the figure of a candidate, with its interval, or at a number."""
    figures = [c.estimates[metric] for c in answer.pool.candidates if metric in c.estimates]
    return next((figure(e) for e in figures if e.value == value), f"{value:.3g}")


def _next(answer: Answer, words: Sequence[str]) -> list[str]:
    if not answer.proposals:
        return ["Nothing needs to be measured: another measurement would hardly change the decision."]
    useful = [(p, p.repeats) for p in answer.proposals if p.repeats is not None]
    equal = [p for p in answer.proposals if p.repeats is None]
    lines = ["Measure these, each as often as its command says, and ask again:", ""] if useful else []
    for proposal, repeats in useful:
        lines.append(f"- {_named(proposal.candidate)}: {_chance(proposal)}")
        if words:
            lines += ["", f"      {measure_command(words, proposal.candidate.params, repeats)}", ""]
    return [*lines, *_as_good_as_equal(equal)]


def _chance(proposal: Proposal) -> str:
    evidence = "measured in rounds" if proposal.confirmed else "measured once, by the search"
    return f"picked with {percent(proposal.probability)}, {evidence}"


def _as_good_as_equal(equal: Sequence[Proposal]) -> list[str]:
    if not equal:
        return []
    head = f"As good as equal, since even {LARGEST} measurements of each would not decide; take the one you prefer:"
    return [head, "", *(f"- {_named(p.candidate)}: {_chance(p)}" for p in equal)]
