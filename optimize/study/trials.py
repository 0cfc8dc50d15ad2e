"""What a study's trials say, read back from its storage: their figures, and what they are worth to a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives import Estimate
from objectives.segments import Paired, levelled
from optimize.decision.constraints import Limit, violations
from optimize.decision.recommendation import Candidate
from optimize.outcome import ROLE, Role
from optimize.study.info import info_of
from optimize.study.trial_attributes import estimates_of

T = TypeVar("T")
IDLE = "idle"
"""Attribute of a trial: the knobs that do not count beside its other settings."""
UNSPENT = "unspent"
"""Attribute of a trial told infeasible untried, because its recipe is known not to run here: it uses up no budget."""


def remembered(read: Callable[[optuna.Study], T]) -> Callable[[optuna.Study], T]:
    """Read again only once more of a study's trials are complete: complete ones never change.

    Args:
        read: Depends on the complete trials of a study alone. What it returns must not be changed.
    """
    known: WeakKeyDictionary[optuna.Study, tuple[int, T]] = WeakKeyDictionary()

    @wraps(read)
    def reading(study: optuna.Study) -> T:
        count = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
        if study not in known or known[study][0] != count:
            known[study] = (count, read(study))
        return known[study][1]

    return reading


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a result, the confirmations' too."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """One trial by its number; `study.trials` would copy all of them."""
    return study.get_trials(deepcopy=False)[number]


def told(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that used up budget: the search's and the baseline, measured or found infeasible."""
    return [t for t in complete(study) if t.user_attrs.get(ROLE) != Role.CONFIRMATION and not t.user_attrs.get(UNSPENT)]


def measured(study: optuna.Study) -> list[FrozenTrial]:
    """Those of `told` whose values are measurements."""
    return [t for t in told(study) if not t.user_attrs.get("imputed", False)]


@remembered
def candidates(study: optuna.Study) -> list[Candidate]:
    """All measured trials as candidates for a recommendation, as the search read them.

    But for their quality: that is what was last known of the model and decoding they share with other trials.
    """
    trials, limits = measured(study), info_of(study).limits
    quality, pairs = quality_so_far(study), paired_so_far(study)
    figures = {t.number: estimates_of(t) | quality.get(t.user_attrs.get("answers_key", ""), {}) for t in trials}
    paired = {t.number: pairs.get(t.user_attrs.get("answers_key", ""), {}) for t in trials}
    baseline = next((t.number for t in trials if t.user_attrs.get(ROLE) == Role.BASELINE), None)
    reference = None if baseline is None else figures[baseline]
    return [
        Candidate(
            number=t.number,
            params={k: v for k, v in t.params.items() if k not in t.user_attrs.get(IDLE, ())},
            estimates=figures[t.number],
            feasible=_keeps(limits, figures[t.number], reference, paired[t.number]),
            baseline=t.number == baseline,
            paired=paired[t.number],
        )
        for t in trials
    ]


def baseline_estimates(study: optuna.Study) -> dict[str, Estimate] | None:
    """The baseline's figures, once it is measured."""
    return next((dict(c.estimates) for c in candidates(study) if c.baseline), None)


@remembered
def quality_so_far(study: optuna.Study) -> dict[str, dict[str, Estimate]]:
    """What answers depend on -> metric -> the figure that rests on most of them.

    Where the baseline was answered to more prompts, it is the baseline's and the difference on common ones.
    """
    found: dict[str, dict[str, Estimate]] = {}
    names = info_of(study).same_sample  # read once: each time asks the storage
    for trial in complete(study):
        key = trial.user_attrs.get("answers_key")
        if key is None or trial.user_attrs.get("imputed"):
            continue
        estimates, known = estimates_of(trial), found.setdefault(key, {})
        for name in names:
            if name in estimates and (name not in known or estimates[name].n >= known[name].n):
                known[name] = estimates[name]
    baseline = next((t for t in complete(study) if t.user_attrs.get(ROLE) == Role.BASELINE), None)
    reference = found.get("" if baseline is None else baseline.user_attrs.get("answers_key", ""), {})
    for key, paired in paired_so_far(study).items():
        if key in found:
            found[key] |= levelled_quality(found[key], paired, reference)
    return found


def levelled_quality(
    figures: Mapping[str, Estimate], paired: Mapping[str, Any], reference: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """Quality figures that rest on fewer answers than the baseline's, as they would be on all of its prompts.

    Args:
        figures: Metric -> figure of a configuration.
        paired: Metric -> its comparison with the baseline, or that as a record keeps it.
        reference: Metric -> the baseline's figure.
    """
    return {
        name: levelled(p.difference, reference[name])
        for name, p in _made(paired).items()
        if name in figures and name in reference and figures[name].n < reference[name].n
    }


def _keeps(
    limits: Sequence[Limit], figures: Mapping[str, Estimate], reference: Mapping[str, Estimate] | None,
    paired: Mapping[str, Paired],
) -> bool:  # fmt: skip
    return all(v <= 0 for v in violations(limits, figures, reference, ratios_of(paired)).values())


def paired_so_far(study: optuna.Study) -> dict[str, dict[str, Paired]]:
    """What answers depend on -> quality metric -> its comparison with the baseline that rests on most answers."""
    found: dict[str, dict[str, Paired]] = {}
    for trial in complete(study):
        known = found.setdefault(trial.user_attrs.get("answers_key", ""), {})
        for name, raw in trial.user_attrs.get("paired", {}).items():
            paired = Paired.from_dict(raw)
            if name not in known or paired.difference.n >= known[name].difference.n:
                known[name] = paired
    return found


def ratios_of(paired: Mapping[str, Any]) -> dict[str, Estimate]:
    """Metric -> ratio to the baseline's; `paired` holds comparisons, or those as a record keeps them."""
    return {name: p.ratio for name, p in _made(paired).items() if p.ratio is not None}


def _made(paired: Mapping[str, Any]) -> dict[str, Paired]:
    return {name: p if isinstance(p, Paired) else Paired.from_dict(p) for name, p in paired.items()}
