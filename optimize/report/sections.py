"""The rows, links and one-line texts of the report's sections, ready for the template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optimize.capacity import Capacity, Kind
from optimize.decision.recommendation import Candidate, Recommendation
from optimize.formatting import change_of, figure, versus_default
from optimize.ledger import TrialRecord
from optimize.outcome import Role, State
from optimize.report.charts.capacity import title_of_limit
from optimize.report.charts.marks import legend_entries
from optimize.report.commands import further_command, measure_command, repeated_words
from optimize.report.data import KINDS, Facts, InspectedTrial
from optimize.report.rationale import NOT_CONFIRMED, exclusions
from optimize.report.terminal import request_fields
from optimize.report.time_spent import costs_of, start_phases_s, windows_in_words
from optimize.report.turns import HEADINGS, early_ends, turn_rows

TURN_HEADINGS = HEADINGS
_TRIALS_PER_REASON, _CANDIDATES = 5, 10
_CONDITIONS = ("machine", "engine", "model", "source", "workload", "load", "load_level", "quality", "tasks")


def legend(facts: Facts) -> list[dict[str, Any]]:
    """One entry per class of trials that the study has."""
    from markupsafe import Markup

    return [
        {"kind": kind, "name": name, "count": count, "symbol": Markup(symbol)}
        for kind, name, count, symbol in legend_entries(facts)
    ]


def comparison(facts: Facts, name: str) -> tuple[str, str, str]:
    """(verdict, ratio to vLLM's defaults, CSS class of the verdict) of the recommendation in one objective."""
    assert facts.recommendation is not None
    gain = facts.recommendation.gains[name]
    if facts.recommendation.pick.baseline:
        return "this is the default", "", "even"
    text = versus_default(change_of(gain, facts.directions[name]))
    if gain.low <= 1.0 <= gain.high:
        return "no difference shown", text, "even"
    better = "better" if gain.low > 1.0 else "worse"
    return better, text, better


def unchanged(facts: Facts) -> set[str]:
    """Knobs that the recommendation has in common with the defaults; none where it is the defaults."""
    best, baseline = facts.recommendation, facts.baseline
    if best is None or best.pick.baseline or baseline is None:
        return set()
    return {name for name, value in best.pick.params.items() if (name, value) in baseline.params.items()}


def conditions(facts: Facts) -> list[tuple[str, str]]:
    """Conditions of the figures, from the machine to the load, and the number of requests behind them."""
    shown = [(key, facts.signature[key]) for key in _CONDITIONS if facts.signature.get(key)]
    shown = [(key, value.partition(";")[0] if key == "load" else value) for key, value in shown]
    requests = [_inspected(c) for c in facts.inspected if c.kind == "pick" and c.latencies_s]
    return [*shown, *(("evidence", f"{c['requests']} requests of {c['times']}") for c in requests)]


def ranked(facts: Facts) -> list[Candidate]:
    """Candidates of the comparison with the defaults, best score first; the defaults always among them."""
    recommendation = facts.recommendation
    if recommendation is None:
        return []
    candidates = recommendation.considered
    if not recommendation.rounds:
        candidates = [*recommendation.front, *(c for c in recommendation.considered if c.baseline)]
    scores = recommendation.scores
    ordered = sorted({c.number: c for c in candidates}.values(), key=lambda c: -scores[c.number].value)
    return [c for place, c in enumerate(ordered) if place < _CANDIDATES or c.baseline]


def excluded(facts: Facts) -> list[dict[str, Any]]:
    """Rows of the table of trials that cannot be recommended."""
    return [
        {
            "reason": reason, "count": len(numbers), "rest": len(numbers) - _TRIALS_PER_REASON,
            "trials": [_excluded_trial(facts, n, reason) for n in numbers[:_TRIALS_PER_REASON]],
        }
        for reason, numbers in exclusions(facts).items()
    ]  # fmt: skip


def _excluded_trial(facts: Facts, number: int, reason: str) -> dict[str, Any]:
    """A trial that cannot be recommended: its settings, and the details of the reason."""
    record = facts.record(number)
    assert record is not None
    details = facts.refuted[number] if reason == NOT_CONFIRMED else record.reason
    return {"number": number, "params": record.params, "reason": details}


def time_spent(facts: Facts) -> list[tuple[str, str]]:
    """Counts and times of search and confirmation."""
    searched = [
        r for r in facts.records if r.role != Role.CONFIRMATION and r.state in (State.COMPLETED, State.INFEASIBLE)
    ]
    seconds = sum(r.seconds.get("wall", 0.0) for r in facts.records)
    figures = [
        ("trials of the search", str(len(searched))),
        ("measured", str(len(facts.candidates))),
        ("feasible", str(sum(c.feasible for c in facts.candidates))),
        ("confirming measurements", str(sum(r.role == Role.CONFIRMATION for r in facts.records))),
        ("total time in trials", f"{seconds / 60:.1f} min"),
        ("engine starts", str(facts.engine_starts)),
    ]
    phases = start_phases_s(facts.records)
    starts = [(f"median of a start: {phase}", f"{taken_s:.1f} s") for phase, taken_s in phases.items()]
    floor = [("reference answers, once", facts.floor.cost())] if facts.floor else []
    return [*figures, *floor, *starts, *_overheads(facts.records)]


def windows(facts: Facts) -> str:
    """How long the windows were, and what closed them; empty without any."""
    text = windows_in_words(facts.records)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _overheads(records: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    costs = costs_of(records)
    if costs is None:
        return []
    overheads = {
        "median overhead, new engine": costs.overhead_new_s,
        "median overhead, live engine": costs.overhead_live_s,
    }
    return [(title, f"{seconds:.1f} s") for title, seconds in overheads.items() if seconds is not None]


def period(facts: Facts) -> str:
    """From the first trial's start to the last one's end, UTC."""
    times = [t for r in facts.records for t in (r.started_at, r.ended_at) if t]
    if not times:
        return ""
    first, last = (datetime.fromtimestamp(t, UTC) for t in (min(times), max(times)))
    end = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
    return f"{first:%Y-%m-%d %H:%M} to {end} UTC"


def deployment(facts: Facts) -> list[str]:
    """The recommendation's serving command, and the fields that each request must carry."""
    if facts.recommendation is None:
        return []
    record = facts.record(facts.recommendation.pick.number)
    if record is None or not record.config:
        return []
    lines = [record.config["deploy_command"]] if record.config.get("deploy_command") else []
    fields = request_fields(record.config["request"])
    return [*lines, *([f"in each request: {json.dumps(fields)}"] if fields else [])]


def next_steps(facts: Facts) -> list[tuple[str, str]]:
    """(purpose, command) of what to run next; none where the study's own command is not stored."""
    best, words = facts.recommendation, facts.overrides
    if best is None or not words:
        return []
    steps = []
    if facts.scored and not best.pick.baseline:
        steps.append(("Read what it and vLLM's defaults answered.", further_command("optimize.answers", words)))
    if deployment(facts):
        purpose = "Write the files that serve it: script, systemd, Compose, Kubernetes, alerts."
        steps.append((purpose, further_command("optimize.deploy", words)))
    return [*_further_rounds(facts, best), *steps]


def _further_rounds(facts: Facts, best: Recommendation) -> list[tuple[str, str]]:
    """The command that makes the evidence stronger, where it is weak."""
    if not best.rounds:
        purpose = "Confirm it: single measurements favour the luckiest."
        return [(purpose, further_command("optimize", facts.overrides, "confirm.candidates=3"))]
    if facts.disturbed or best.tied or not (best.decisive or best.pick.baseline):
        rounds = f"confirm.rounds={2 * best.rounds}"
        purpose = f"Measure {best.rounds} more rounds on a quiet machine, for narrower intervals."
        return [(purpose, further_command("optimize", facts.overrides, rounds))]
    return []


def reproduction(facts: Facts) -> list[dict[str, str]]:
    """For each candidate the command that measures it again."""
    words = repeated_words(facts.overrides)
    return [{"name": _name(c), "command": measure_command(words, c.params)} for c in ranked(facts) if words]


def _name(c: Candidate) -> str:
    return "vLLM's defaults" if c.baseline else f"trial {c.number}"


def inspected(facts: Facts) -> list[dict[str, Any]]:
    """The configurations whose requests are drawn."""
    return [_inspected(c) for c in facts.inspected if c.latencies_s]


def capacities(facts: Facts) -> list[dict[str, Any]]:
    """Rows of the table of capacities: each measurement of the configurations whose requests are drawn."""
    return [_capacity_row(c, r.capacity) for c in facts.inspected for r in c.measured if r.capacity]


def _capacity_row(c: InspectedTrial, raw: Mapping[str, Any]) -> dict[str, Any]:
    capacity = Capacity.from_dict(raw)
    kind = {Kind.AT_LEAST: "at least ", Kind.AT_MOST: "at most "}.get(capacity.kind, "")
    return {
        "name": KINDS[c.kind], "capacity": f"{kind}{figure(capacity.to_estimate())}",
        "binds": title_of_limit(capacity.binds), "probes": len(capacity.probes),
        "load": f"{capacity.load_s:.0f} s", "requests": capacity.requests,
    }  # fmt: skip


def turns(facts: Facts) -> list[dict[str, Any]]:
    """The tables by turn of the configurations whose requests are drawn, where conversations were sent turn by turn."""
    return [
        {"name": KINDS[c.kind], "rows": turn_rows(c.turns), "note": early_ends(c.turns)}
        for c in facts.inspected if c.turns
    ]  # fmt: skip


def _inspected(c: InspectedTrial) -> dict[str, Any]:
    trial = "vLLM's defaults" if c.kind == "base" else f"trial {c.number}"
    times = f"{len(c.measured)} measurement{'s' if len(c.measured) != 1 else ''}"
    return {"kind": c.kind, "name": KINDS[c.kind], "trial": trial, "requests": len(c.latencies_s), "times": times}
