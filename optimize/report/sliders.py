"""What the page needs to rank its candidates under other weights and limits, by itself and offline.

The page's script decides as `optimize.decision.recommendation.recommend` does: of the candidates that keep every limit
and that none of them dominates, the best weighted geometric mean of gains, or the reduced form that the rounds did not
tell from it under the study's own weights. Probabilities are `optimize.whatif`'s part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives import Direction, Estimate
from optimize.decision.candidate import Candidate
from optimize.decision.constraints import Limit
from optimize.decision.evidence import SingleReadings, inverse
from optimize.formatting import interval_of, shown_settings, title_of, unit_of, value_of
from optimize.report.data import Facts

_STEPS = 200
_MARGIN = 1.25
"""How far a slider reaches beyond the figures of all candidates, as a factor."""
_HEAVIEST = 10.0


@dataclass(frozen=True)
class Slider:
    """One slider of the page.

    Attributes:
        key: The setting that it stands for, as it is written on the command line.
        label: Its name for people.
        at: Its position at the start, from 0 to `_STEPS`.
    """

    key: str
    label: str
    at: int


def ranking(facts: Facts) -> dict[str, Any] | None:
    """The candidates with their figures, the weights and the limits, for the page's script; None of one candidate."""
    candidates = list(facts.recommendation.considered if facts.recommendation else facts.candidates)
    candidates = [c for c in candidates if all(name in c.estimates for name in facts.directions)]
    baseline = next((c for c in candidates if c.baseline), None)
    if baseline is None or len(candidates) < 2:
        return None
    limits = [_limit(facts, limit, candidates, baseline) for limit in _limits(facts)]
    return {
        "steps": _STEPS,
        "rows": [_row(facts, c, baseline, [limit["x"] for limit in limits]) for c in candidates],
        "weights": [_weight(facts, name) for name in facts.directions if len(facts.directions) > 1],
        "limits": [{**limit, "x": None} for limit in limits],
        "simple": dict(facts.recommendation.simple) if facts.recommendation else {},
        "up": [direction is Direction.MAXIMIZE for direction in facts.directions.values()],
    }


def sliders(ranks: Mapping[str, Any] | None) -> dict[str, list[Slider]]:
    """The sliders of weights and of limits, for the template."""
    if ranks is None:
        return {}
    return {kind: [Slider(s["key"], s["label"], s["at"]) for s in ranks[kind]] for kind in ("weights", "limits")}


def _weight(facts: Facts, name: str) -> dict[str, Any]:
    weight = facts.weights.get(name, 0.0)
    most = max(_HEAVIEST, 2 * weight)
    return {
        "key": f"scenario.weights.{name}", "label": facts.label(name), "value": weight, "most": most,
        "at": round(_STEPS * weight / most),
    }  # fmt: skip


def _limits(facts: Facts) -> list[tuple[Limit, bool]]:
    """The study's limits, and one on each objective that has none, which is off."""
    bounded = {limit.metric for limit in facts.limits}
    free = [
        Limit(name, direction is Direction.MINIMIZE, 0.0, False)
        for name, direction in facts.directions.items() if name not in bounded
    ]  # fmt: skip
    return [*((limit, True) for limit in facts.limits), *((limit, False) for limit in free)]


def _limit(
    facts: Facts, setting: tuple[Limit, bool], candidates: Sequence[Candidate], baseline: Candidate
) -> dict[str, Any]:
    """A limit, the range of its slider, and under "x" what each candidate is held against it with."""
    limit, on = setting
    figures = [_held(c, limit, baseline) for c in candidates]
    values = [e.value for e in figures if e is not None] + ([limit.value] if on else [])
    low, high = min(values, default=0.0), max(values, default=1.0)
    log = low > 0
    low, high = (low / _MARGIN, high * _MARGIN) if log else (0.0, max(high, 1e-9) * 2)
    factor, unit = (1.0, "× the default") if limit.relative else unit_of(facts.unit(limit.metric), high)
    end = "max" if limit.upper else "min"
    return {
        "key": f"constraints.{limit.metric}.{end}{'_ratio' if limit.relative else ''}",
        "label": f"{facts.label(limit.metric)} {'at most' if limit.upper else 'at least'}",
        "metric": title_of(limit.metric),
        "value": limit.value if on else None, "low": low, "high": high, "log": log, "upper": limit.upper,
        "factor": factor, "unit": unit, "at": _position(limit, low, high, log) if on else _STEPS if limit.upper else 0,
        "x": dict(zip((c.number for c in candidates), figures, strict=True)),
    }  # fmt: skip


def _position(limit: Limit, low: float, high: float, log: bool) -> int:
    """The nearest position of a limit's slider."""
    share = math.log(limit.value / low) / math.log(high / low) if log else (limit.value - low) / (high - low)
    return round(_STEPS * share)


def _held(c: Candidate, limit: Limit, baseline: Candidate) -> Estimate | None:
    """What a limit is held against: the figure, or its ratio to the default's by pairs of answers or by figures."""
    figure, reference = c.estimates.get(limit.metric), baseline.estimates.get(limit.metric)
    if not limit.relative or figure is None or reference is None:
        return figure
    way = Direction.MAXIMIZE
    gain = SingleReadings(baseline, {limit.metric: way}, {}).gain(c, limit.metric)
    if gain.value > 0:
        return gain
    equal = figure.value == reference.value
    return Estimate(1.0, 1.0, 1.0, 1, "x") if equal else inverse(Estimate(1e9, 1e9, 1e9, 1, "x"))


def _shown(e: Estimate) -> tuple[str, str]:
    """A figure and its interval, which is empty where there is none."""
    return value_of(e), interval_of(e) if e.low < e.high else ""


def _row(
    facts: Facts, c: Candidate, baseline: Candidate, held: Sequence[Mapping[int, Estimate | None]]
) -> dict[str, Any]:
    evidence = SingleReadings(baseline, facts.directions, facts.weights)
    gains = [evidence.gain(c, name).value for name in facts.directions]
    return {
        "n": c.number, "base": c.baseline,
        "settings": c.defaults if c.baseline else shown_settings(c.settings),
        "gains": [gain if gain > 0 else None for gain in gains],
        "values": [c.estimates[name].value for name in facts.directions],
        "shown": [[title_of(name), *_shown(c.estimates[name])] for name in facts.directions],
        "held": [None if (e := by_number[c.number]) is None else [e.value, e.low, e.high] for by_number in held],
    }  # fmt: skip
