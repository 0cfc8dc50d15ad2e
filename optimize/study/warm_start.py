"""Warm start from earlier studies: configurations to try first, and engines that are known not to start here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optimize.config.schema import AUTO
from optimize.decision.recommendation import Candidate, recommend
from optimize.errors import ConfigError, closest
from optimize.ledger import Ledger, TrialRecord, study_folder
from optimize.pareto import spread
from optimize.plan import Plan
from optimize.redaction import redacted
from optimize.search.gp_sampler import GIVEN_POINTS_ATTR
from optimize.study.confirmation import directions_of
from optimize.study.info import info_of, make_info
from optimize.study.lifecycle import stored_studies
from optimize.study.measured_defaults import settings_for
from optimize.study.queue import enqueue
from optimize.study.resemblance import FARTHEST, distance, in_words
from optimize.study.trials import candidates

if TYPE_CHECKING:
    import optuna

_WARM_STARTED = "warm_started"
_SAME = ("machine", "engine", "model")
"""Parts of a signature on which it depends whether an engine starts."""


def earlier_studies(plan: Plan) -> list[optuna.Study]:
    """The studies of `search.warm_start`; with "auto" the one that resembles this study most, if any resembles it.

    Raises:
        ConfigError: there is no such study.
    """
    names = plan.config.search.warm_start
    if not names:
        return []
    if names == AUTO:
        return _nearest(plan)
    stored = {study.study_name: study for study in stored_studies(plan.config.tracking.storage)}
    for name in names:
        if name not in stored or name == plan.config.study.name:
            others = [n for n in stored if n != plan.config.study.name]
            where = redacted(plan.config.tracking.storage)
            hint = closest(name, others) if others else "the storage holds no other study"
            raise ConfigError(f"search.warm_start: no study {name!r} in {where}; {hint}")
    return [stored[name] for name in names]


def _nearest(plan: Plan) -> list[optuna.Study]:
    stored, current = stored_studies(plan.config.tracking.storage), make_info(plan)
    others = [s for s in stored if s.study_name != plan.config.study.name and candidates(s)]
    ranked = sorted((distance(current, info_of(s)), s.study_name, s) for s in others)
    return [study for doublings, _, study in ranked[:1] if doublings <= FARTHEST]


def best_points(plan: Plan, studies: Sequence[optuna.Study], baseline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The best configurations of earlier studies, as points of this study's space.

    Of each study the best by this study's weights, and the configurations of its front that trade the objectives off
    most differently. A knob that only this study has is at its baseline; the baseline itself and points outside the
    space are left out.
    """
    points: list[dict[str, Any]] = []
    for study in studies:
        points += _points_of(study, plan, baseline, points)
    return points


def _points_of(
    study: optuna.Study, plan: Plan, baseline: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The best configurations of one study that are not among the points yet."""
    directions = directions_of(study)
    fitting: list[tuple[dict[str, Any], Candidate]] = []
    best = recommend(candidates(study), directions, plan.config.scenario.weights)
    for candidate in best.front if best else []:
        point = {knob: candidate.params.get(knob, baseline[knob]) for knob in plan.space.distributions}
        if plan.space.contains(point) and point != baseline and point not in [*points, *(p for p, _ in fitting)]:
            fitting.append((point, candidate))
    figures = [candidate.estimates for _, candidate in fitting]
    return [fitting[i][0] for i in spread(figures, directions, plan.config.search.warm_start_points)]


def queue_best(
    plan: Plan, study: optuna.Study, earlier: Sequence[optuna.Study], baseline: Mapping[str, Any]
) -> list[str]:
    """Queue the points to start from, once in a study's life; returns messages for the terminal.

    They are the best configurations of earlier studies; where "auto" has found none, settings that were measured to be
    good on machines of this class.
    """
    setting = plan.config.search.warm_start
    if not setting or study.user_attrs.get(_WARM_STARTED) is not None:
        return []
    names = [other.study_name for other in earlier]
    study.set_user_attr(_WARM_STARTED, names)
    points = best_points(plan, earlier, baseline) if earlier else _of_its_class(plan, baseline)
    study.set_user_attr(GIVEN_POINTS_ATTR, len(points))
    for point in points:
        enqueue(study, point)
    if not earlier and not points:
        return ["no earlier study resembles this one (search.warm_start=auto): the search starts from vLLM's defaults"]
    source = ", ".join(names) if earlier else "settings that were measured on such machines, for no study resembles it"
    alike = f" ({in_words(make_info(plan), info_of(earlier[0]))})" if setting == AUTO and earlier else ""
    return [f"starting from {source}{alike}: {len(points)} configurations to try first"]


def _of_its_class(plan: Plan, baseline: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points of this study's space that differ from the baseline in settings measured on its class of machines."""
    points: list[dict[str, Any]] = []
    for settings in settings_for(plan.signature["machine"]):
        point = {**baseline, **settings}
        if settings.keys() <= baseline.keys() and plan.space.contains(point) and point not in [baseline, *points]:
            points.append(point)
    return points


def failures_elsewhere(plan: Plan, studies: Sequence[optuna.Study]) -> Iterator[TrialRecord]:
    """Trials of earlier studies on the same machine with the same model, vLLM and settings of all engines."""
    for study in studies:
        info = info_of(study)
        alike = all(info.signature.get(part) == plan.signature[part] for part in _SAME)
        if alike and info.engine_settings == plan.engine_settings():
            yield from Ledger(study_folder(plan.config.output_dir, study.study_name)).records()
