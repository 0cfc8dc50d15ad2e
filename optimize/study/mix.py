"""The studies of a mix of traffic: the engines that each has measured, and those that it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from objectives import Estimate
from optimize.decision.evidence import NO_GAIN, SingleReadings, inverse
from optimize.decision.recommendation import Candidate, Recommendation, Rounds
from optimize.errors import ConfigError, closest
from optimize.search.optuna_compat import distribution_contains
from optimize.study.confirmation import confirmed, directions_of, recommendation, weights_of
from optimize.study.info import info_of
from optimize.study.queue import enqueue, params_of
from optimize.study.signatures import differences
from optimize.study.trials import budget_trials, candidates, complete_trials, trial_of

if TYPE_CHECKING:
    import optuna

_SAME = ("machine", "engine", "model")
"""Parts of a signature that must agree; workload and load are what the studies of a mix differ in."""
_EQUAL = Estimate(1.0, 1.0, 1.0, 1, "x")


@dataclass(frozen=True)
class StudiedTraffic:
    """One kind of traffic by its study, as `optimize.decision.mix.Traffic`.

    An engine is a checkpoint with flags and variables. Requests keep settings of their own (beams), so each engine
    stands for the best of the requests that it was measured with.

    Attributes:
        study: The study.
        share: Its part of the mix.
        best: The study's own recommendation.
    """

    study: optuna.Study
    share: float
    best: Recommendation

    @property
    def name(self) -> str:
        return self.study.study_name

    @cached_property
    def _confirmed(self) -> tuple[Mapping[int, Candidate], Rounds | None]:
        confirmation = confirmed(self.study)
        return ({}, None) if confirmation is None else ({c.number: c for c in confirmation[0]}, confirmation[1])

    @cached_property
    def by_engine(self) -> dict[str, Candidate]:
        """Key of an engine -> its candidate with the best score, of those that keep every constraint."""
        usable = [c for c in candidates(self.study) if self._confirmed[0].get(c.number, c).feasible]
        return {self.engine_of(c.number): c for c in sorted(usable, key=self._rank)}

    def _rank(self, candidate: Candidate) -> tuple[bool, bool, float]:
        """The recommendation first, then what was measured in rounds, then by the single reading."""
        number, baseline = candidate.number, self.baseline
        return number == self.best.pick.number, number in self._confirmed[0], self._single(candidate, baseline).value

    @cached_property
    def baseline(self) -> Candidate:
        return next(c for c in candidates(self.study) if c.baseline)

    def engine_of(self, number: int) -> str:
        """Key of the engine that a trial ran on."""
        return str(trial_of(self.study, number).user_attrs["config"].get("engine_key", f"trial {number}"))

    @property
    def engines(self) -> Sequence[str]:
        return list(self.by_engine)

    @property
    def own(self) -> str:
        return self.engine_of(self.best.pick.number)

    @property
    def defaults(self) -> str:
        return self.engine_of(self.baseline.number)

    @cached_property
    def attempts(self) -> set[str]:
        """Keys of all engines that the study has tried, those that cannot run or break a constraint included."""
        return {self.engine_of(trial.number) for trial in complete_trials(self.study)}

    def ratio(self, one: str, other: str) -> Estimate:
        """By the rounds where both were confirmed, otherwise by the single readings of the search."""
        numerator, denominator = self._candidate(one), self._candidate(other)
        if numerator.number == denominator.number:
            return _EQUAL
        numbers, rounds = self._confirmed
        if rounds is None or numerator.number not in numbers or denominator.number not in numbers:
            return self._single(numerator, denominator)
        evidence = rounds if denominator.baseline else rounds.relative_to(denominator.number)
        return evidence.score(numbers[numerator.number])

    def _candidate(self, engine: str) -> Candidate:
        """The candidate of an engine; vLLM's defaults may break a constraint, and are compared with all the same."""
        return self.by_engine.get(engine) or self.baseline

    def _single(self, one: Candidate, other: Candidate) -> Estimate:
        """The ratio of two scores by single readings; pairs of answers exist with vLLM's defaults alone."""
        if one.baseline and not other.baseline:
            ratio = self._single(other, one)
            return inverse(ratio) if ratio.value > 0 else NO_GAIN
        if not other.baseline:
            one, other = replace(one, paired={}), replace(other, paired={})
        return SingleReadings(other, directions_of(self.study), weights_of(self.study)).score(one)


@dataclass(frozen=True)
class Lack:
    """An engine that one study of the mix has measured and recommends, and another has not tried.

    Attributes:
        traffic: The study that lacks it.
        source: The study that has it.
        point: Its settings, as a point of the first study's space; None where that space does not hold it.
        params: Its settings.
    """

    traffic: StudiedTraffic
    source: str
    point: dict[str, Any] | None
    params: dict[str, Any]


def traffic_of(mix: Mapping[str, float], studies: Sequence[optuna.Study], where: str) -> list[StudiedTraffic]:
    """The kinds of traffic in a mix.

    Args:
        mix: Name of a study -> its part of the traffic, in any unit.
        studies: All studies of the storage.
        where: Name of the storage, for messages.

    Raises:
        ConfigError: a study that there is not, one without a recommendation, or studies that were measured on
            different machines, with different releases or models, or with other flags for all engines.
    """
    by_name = {study.study_name: study for study in studies}
    for name in mix:
        if name not in by_name:
            raise ConfigError(f"mix.{name}: {where} holds no study {name!r}; {closest(name, by_name)}")
    signed = [(name, {**info_of(by_name[name]).signature, "machine": info_of(by_name[name]).machines}) for name in mix]
    if lines := differences(signed, _SAME):
        raise ConfigError(
            f"the studies of the mix cannot be compared: {' | '.join(lines)}; take studies of one machine, release "
            "and model"
        )
    total = sum(mix.values())
    traffic = [_studied(by_name[name], share / total) for name, share in mix.items()]
    if len({t.defaults for t in traffic}) > 1:
        raise ConfigError(
            f"the engines of the studies {', '.join(mix)} differ in what all engines of one share (model.flags, "
            "engine.flags, engine.env): measure them with the same"
        )
    return traffic


def _studied(study: optuna.Study, share: float) -> StudiedTraffic:
    best = recommendation(study)
    if best is None:
        raise ConfigError(
            f"mix.{study.study_name}: this study has no row yet that keeps every constraint: run more trials"
        )
    return StudiedTraffic(study, share, best)


def lacks(traffic: Sequence[StudiedTraffic]) -> list[Lack]:
    """What each study would have to measure for the recommendations and runners-up of the others to be compared."""
    missing: dict[tuple[str, str], Lack] = {}
    for source in traffic:
        for candidate in filter(None, (source.best.pick, source.best.runner_up)):
            engine = source.engine_of(candidate.number)
            for other in traffic:
                if engine not in other.attempts:
                    lack = Lack(other, source.name, _point(other, candidate.params), dict(candidate.params))
                    missing.setdefault((other.name, engine), lack)
    return list(missing.values())


def _point(traffic: StudiedTraffic, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Settings as a point of a study's space, other knobs at its baseline; None where the space does not hold them."""
    space = trial_of(traffic.study, traffic.baseline.number).distributions
    point = {**trial_of(traffic.study, traffic.baseline.number).params, **params}
    inside = point.keys() == space.keys() and all(distribution_contains(d, point[k]) for k, d in space.items())
    return point if inside else None


def queue_lacks(missing: Sequence[Lack]) -> dict[str, int]:
    """Queue what the studies lack; returns the trials that the budget of each study which got something then needs."""
    trials: dict[str, int] = {}
    for lack in missing:
        if lack.point is None:
            continue
        study, name = lack.traffic.study, lack.traffic.name
        if lack.point not in [params_of(t) for t in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]:
            enqueue(study, lack.point)  # unless an earlier command has, and was interrupted
        searched = len(budget_trials(study)) - 1  # the baseline comes on top of study.trials
        trials[name] = trials.get(name, searched) + 1
    return trials
