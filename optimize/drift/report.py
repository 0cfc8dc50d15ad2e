"""The verdicts as Markdown and JSON, and the command that tunes again."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from optimize.drift.judgement import READINGS_LEAST, Verdict
from optimize.drift.reference import Reference
from optimize.engine.traffic import Traffic
from optimize.formatting import markdown_line, printable

_HEAD = ("what", "in the study", "served", "holds")
_NOT_REPEATED = ("study.fresh=", "study.trials=", "study.minutes=", "study.name=", "search.warm_start")
_LOAD = ("load=", "load.arrivals.")


def to_markdown(
    reference: Reference, verdicts: Sequence[Verdict], readings: Sequence[Traffic], alarm_days: float
) -> str:  # fmt: skip
    """All verdicts, the broken ones in words, and what to do."""
    lines = [_opening(reference, readings), "", markdown_line(_HEAD), markdown_line(["---"] * len(_HEAD))]
    lines += [markdown_line([v.claim.name, v.claim.statement, v.observation, _holds(v)]) for v in verdicts]
    lines += ["", f"false alarms: at most one in {alarm_days:g} days of unchanged traffic, over all lines together"]
    broken = [verdict for verdict in verdicts if not verdict.holds]
    if broken:
        return "\n".join([*lines, "", *map(_in_words, broken), *_remedy(reference, broken, readings)]) + "\n"
    if busy(readings) < READINGS_LEAST:
        return "\n".join([*lines, f"too early to say: a change may take {READINGS_LEAST} minutes with requests"]) + "\n"
    return "\n".join([*lines, "no change: what the study confirmed still holds"]) + "\n"


def busy(readings: Sequence[Traffic]) -> int:
    """Number of readings with requests."""
    return sum(reading.requests > 0 for reading in readings)


def _opening(reference: Reference, readings: Sequence[Traffic]) -> str:
    requests = sum(reading.requests for reading in readings)
    span = _time(readings[-1].at) if len(readings) == 1 else f"{_time(readings[0].at)} to {_time(readings[-1].at)}"
    evidence = f"{reference.rounds} rounds" if reference.rounds else "a single measurement"
    return (
        f"study {printable(reference.study)}, trial {reference.number} ({evidence}), beside {requests:,.0f} requests "
        f"in {len(readings)} readings, {span}"
    )


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _holds(verdict: Verdict) -> str:
    return "yes" if verdict.alarm is None else f"no, since {_time(verdict.alarm.since)}"


def _in_words(verdict: Verdict) -> str:
    assert verdict.alarm is not None and verdict.watch is not None  # it is broken
    return (
        f"{verdict.claim.name} no longer holds since {_time(verdict.alarm.since)} (shown at "
        f"{_time(verdict.alarm.at)}): {verdict.watch.title} should be at most {verdict.watch.bound:.0%}; the study has "
        f"{verdict.claim.statement}, and the server since then {verdict.observation}"
    )


def _remedy(reference: Reference, broken: Sequence[Verdict], readings: Sequence[Traffic]) -> list[str]:
    names = {verdict.claim.name for verdict in broken}
    lines = ["", f"tune again, starting from the study: {tuning_command(reference, names, readings)}"]
    if names & {"prompt_tokens", "output_tokens", "cached_prefix_share"}:
        lines.append("  with prompts of the new traffic: workload=file workload.path=FILE (docs/workloads.md)")
    if not any(verdict.claim.on_traffic for verdict in broken):
        lines.append("  the traffic is as it was: look at the machine, the driver and vLLM's release first")
    return lines


def tuning_command(reference: Reference, broken: set[str], readings: Sequence[Traffic]) -> str:
    """The study's command under another name, which begins with the best configurations of the study.

    Where the arrivals have changed, it has those that were seen.
    """
    load = _load(readings) if "arrivals" in broken else []
    replaced = (*_NOT_REPEATED, *(_LOAD if load else ()))
    words = [word for word in reference.words if not word.startswith(replaced)] or [f"+study={reference.study}"]
    name = f"{reference.study}-{datetime.fromtimestamp(readings[-1].at, UTC):%Y%m%d}"
    start = f"search.warm_start=[{reference.study}]"
    return f"python -m optimize {shlex.join([*words, f'study.name={name}', start, *load])}"


def _load(readings: Sequence[Traffic]) -> list[str]:
    """Poisson arrivals at the rate of the busiest hour."""
    rates = [r.requests / r.seconds / r.servers for r in readings if not math.isnan(r.seconds)]
    hour = 60
    hours = [sum(rates[i : i + hour]) / len(rates[i : i + hour]) for i in range(0, len(rates), hour)]
    return ["load=poisson", f"load.arrivals.rate_per_s={max(hours):.3g}"] if hours else []


def to_json(reference: Reference, verdicts: Sequence[Verdict], readings: Sequence[Traffic]) -> str:
    """The verdicts for machines."""
    content = {
        "study": reference.study, "trial": reference.number, "readings": len(readings), "busy": busy(readings),
        "claims": [_to_dict(verdict) for verdict in verdicts],
    }  # fmt: skip
    return json.dumps(content, indent=1)


def _to_dict(verdict: Verdict) -> dict[str, Any]:
    alarm = verdict.alarm
    return {
        "claim": verdict.claim.name, "study": verdict.claim.statement, "served": verdict.observation,
        "holds": verdict.holds,
        "since": None if alarm is None else alarm.since, "proved_at": None if alarm is None else alarm.at,
        "exceeded": None if verdict.watch is None else verdict.watch.title,
    }  # fmt: skip
