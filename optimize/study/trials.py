"""The trials of a study, read back from its storage: their figures, and the candidates for a recommendation."""

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
from optimize.files import reading
from optimize.outcome import ROLE, Role
from optimize.study.info import info_of
from optimize.study.trial_attributes import DTYPE, estimates_of

T = TypeVar("T")
IDLE = "idle"
"""User attribute of a trial: knobs that have no effect beside its other settings."""
UNSPENT = "unspent"
"""User attribute of a trial that uses up no budget: it was not run, as its recipe is known to fail here."""


def memoized(read: Callable[[optuna.Study], T]) -> Callable[[optuna.Study], T]:
    """Cache a reading of a study until another of its trials is complete: complete trials never change.

    Args:
        read: Depends on the complete trials of a study alone. Its result must not be changed.
    """
    cache: WeakKeyDictionary[optuna.Study, tuple[int, T]] = WeakKeyDictionary()

    @wraps(read)
    def reading(study: optuna.Study) -> T:
        count = sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False))
        if study not in cache or cache[study][0] != count:
            cache[study] = (count, read(study))
        return cache[study][1]

    return reading


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a result, those of confirmations included."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def trial_of(study: optuna.Study, number: int) -> FrozenTrial:
    """One trial by its number; `study.trials` would copy all trials."""
    return study.get_trials(deepcopy=False)[number]


def is_complete(study: optuna.Study, number: int) -> bool:
    """Whether storage has the result of a trial."""
    return trial_of(study, number).state is TrialState.COMPLETE


def budget_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that used up budget: those of the search and the baseline, measured or infeasible."""
    return [
        t
        for t in complete_trials(study)
        if t.user_attrs.get(ROLE) != Role.CONFIRMATION and not t.user_attrs.get(UNSPENT)
    ]


def measured_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials of `budget_trials` whose values are measurements."""
    return [t for t in budget_trials(study) if not t.user_attrs.get("imputed", False)]


def check_trials(study: optuna.Study, with_info: bool = True) -> None:
    """See that storage has what a recommendation reads of a study and its trials.

    Raises:
        DamagedFile: it was changed by something else.
    """
    remedy = "bring the database back from a backup, or measure anew with study.fresh=true (this one is kept)"
    if with_info:
        info_of(study)
    for trial in complete_trials(study):
        with reading(f"trial {trial.number} of study {study.study_name!r} in Optuna's storage", remedy):
            if not trial.user_attrs.get("imputed"):
                estimates_of(trial), _comparisons(trial.user_attrs.get("paired", {}))
            for name in ("config", "signature"):
                dict(trial.user_attrs.get(name, {}))


@memoized
def candidates(study: optuna.Study) -> list[Candidate]:
    """All measured trials as candidates for a recommendation, with the figures of the search.

    Quality is the figure that rests on most answers of all trials with the same model and decoding.
    """
    trials, limits = measured_trials(study), info_of(study).limits
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
            feasible=_is_feasible(limits, figures[t.number], reference, paired[t.number]),
            baseline=t.number == baseline,
            paired=paired[t.number],
            dtype=t.user_attrs.get(DTYPE, ""),
        )
        for t in trials
    ]


def baseline_estimates(study: optuna.Study) -> dict[str, Estimate] | None:
    """Metric -> figure of the baseline; None until it is measured."""
    return next((dict(c.estimates) for c in candidates(study) if c.baseline), None)


def baseline_pace(study: optuna.Study) -> dict[str, float]:
    """The baseline's `optimize.load.pace.Pace`, as stored; empty until it is measured, and in earlier versions."""
    baselines = [t for t in measured_trials(study) if t.user_attrs.get(ROLE) == Role.BASELINE]
    return dict(baselines[0].user_attrs.get("pace", {})) if baselines else {}


@memoized
def quality_so_far(study: optuna.Study) -> dict[str, dict[str, Estimate]]:
    """Key of answers (model and decoding) -> metric -> the figure that rests on most answers.

    Where the baseline has answers to more prompts, the figure is the baseline's plus the difference on common prompts.
    """
    quality: dict[str, dict[str, Estimate]] = {}
    names = info_of(study).same_sample  # read once: each time asks the storage
    for trial in complete_trials(study):
        key = trial.user_attrs.get("answers_key")
        if key is None or trial.user_attrs.get("imputed"):
            continue
        estimates, best = estimates_of(trial), quality.setdefault(key, {})
        for name in names:
            if name in estimates and (name not in best or estimates[name].n >= best[name].n):
                best[name] = estimates[name]
    baseline = next((t for t in complete_trials(study) if t.user_attrs.get(ROLE) == Role.BASELINE), None)
    reference = quality.get("" if baseline is None else baseline.user_attrs.get("answers_key", ""), {})
    for key, paired in paired_so_far(study).items():
        if key in quality:
            quality[key] |= levelled_quality(quality[key], paired, reference)
    return quality


def levelled_quality(
    figures: Mapping[str, Estimate], paired: Mapping[str, Any], reference: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """Quality figures that rest on fewer answers than the baseline's, extrapolated to all of its prompts.

    Args:
        figures: Metric -> figure of a configuration.
        paired: Metric -> its comparison with the baseline, or the record of one.
        reference: Metric -> the baseline's figure.
    """
    return {
        name: levelled(p.difference, reference[name])
        for name, p in _comparisons(paired).items()
        if name in figures and name in reference and figures[name].n < reference[name].n
    }


def _is_feasible(
    limits: Sequence[Limit], figures: Mapping[str, Estimate], reference: Mapping[str, Estimate] | None,
    paired: Mapping[str, Paired],
) -> bool:  # fmt: skip
    return all(v <= 0 for v in violations(limits, figures, reference, ratios_of(paired)).values())


def paired_so_far(study: optuna.Study) -> dict[str, dict[str, Paired]]:
    """Key of answers -> quality metric -> the comparison with the baseline that rests on most answers."""
    comparisons: dict[str, dict[str, Paired]] = {}
    for trial in complete_trials(study):
        best = comparisons.setdefault(trial.user_attrs.get("answers_key", ""), {})
        for name, raw in trial.user_attrs.get("paired", {}).items():
            paired = Paired.from_dict(raw)
            if name not in best or paired.difference.n >= best[name].difference.n:
                best[name] = paired
    return comparisons


def ratios_of(paired: Mapping[str, Any]) -> dict[str, Estimate]:
    """Metric -> ratio to the baseline's figure that decisions go by; `paired` holds comparisons, or records of them."""
    return {name: p.judged for name, p in _comparisons(paired).items() if p.judged is not None}


def _comparisons(paired: Mapping[str, Any]) -> dict[str, Paired]:
    return {name: p if isinstance(p, Paired) else Paired.from_dict(p) for name, p in paired.items()}
