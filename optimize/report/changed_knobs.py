"""Which knobs of a recommended configuration make the difference, and which keep vLLM's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optimize.decision.recommendation import Recommendation


def changed_knobs(recommendation: Recommendation, reduced: Mapping[int, int]) -> str:
    """One sentence without a full stop; empty for the baseline.

    Args:
        recommendation: What is recommended.
        reduced: Trial -> its form with vLLM's default in every knob whose change is not shown to help
            (`optimize.study.parsimony`).
    """
    pick = recommendation.pick
    baseline = next((c for c in recommendation.considered if c.baseline), None)
    if pick.baseline or baseline is None:
        return ""
    changed = [knob for knob, value in pick.params.items() if value != baseline.params.get(knob)]
    defaults = [knob for knob in pick.params if knob not in changed]
    rest = (
        f"; {_listed(defaults)} {_plural(defaults, 'keeps', 'keep')} vLLM's default{'s' if len(defaults) > 1 else ''}"
        if defaults
        else ""
    )
    if not _is_judged(recommendation, reduced):
        return f"{_listed(changed)} {_plural(changed, 'differs', 'differ')} from vLLM's defaults, each untested{rest}"
    return f"{_listed(changed)} {_plural(changed, 'makes', 'make')} the difference{rest}"


def _is_judged(recommendation: Recommendation, reduced: Mapping[int, int]) -> bool:
    """Whether it is a reduced form, or was better than its reduced form in the rounds."""
    number = recommendation.pick.number
    considered = {c.number for c in recommendation.considered}
    return number in reduced.values() or (recommendation.rounds > 0 and reduced.get(number) in considered)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _plural(words: Sequence[str], one: str, more: str) -> str:
    return one if len(words) == 1 else more
